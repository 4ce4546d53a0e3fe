"""TAR-39..TAR-53 and TAR-67..TAR-73: devices, owners, modes, times and extended attributes."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from client.unpack.errors import Unsafe, Unsupported
from client.unpack.options import Form, IdMap, IdRange
from tests.client.unpack.archives import archive, base_256, directory, entry, file, link, raw, symlink, x
from tests.client.unpack.sandbox import Sandbox

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="gives files to other users and makes devices: needs root"
)

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ACL = bytes.fromhex(
    "0200000001000700ffffffff02000500e803000004000500ffffffff10000500ffffffff20000000ffffffff"
)


def xattr(name: str, value: bytes) -> bytes:
    return x((f"SCHILY.xattr.{name}", value))


def xattrs(path: Path) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }


DEVICES = archive(
    entry("c", kind="character", device=(1, 3), mode=0o666),
    entry("b", kind="block", device=(8, 0), mode=0o666),
)


@pytest.mark.parametrize("form", Form)
def test_TAR_39_makes_devices_when_asked(sandbox: Sandbox, form: Form) -> None:
    stats = sandbox.unpack(DEVICES, form, devices=True)

    assert sandbox.tree() == {"c": "character 1:3", "b": "block 8:0"}
    assert stat.S_IMODE((sandbox.root / "c").stat().st_mode) == 0o666
    assert stats.notices == {}


@pytest.mark.parametrize("form", Form)
def test_TAR_39_leaves_devices_out_and_says_so(sandbox: Sandbox, form: Form) -> None:
    stats = sandbox.unpack(DEVICES, form)

    assert sandbox.tree() == {}
    assert stats.notices == {"device left out": 2}


@pytest.mark.parametrize("devices", [False, True])
def test_TAR_40_refuses_a_smuggled_whiteout(sandbox: Sandbox, devices: bool) -> None:
    with pytest.raises(Unsafe):
        sandbox.unpack(archive(entry("c", kind="character")), devices=devices)


def test_TAR_40_makes_the_device_in_a_flat_tree(sandbox: Sandbox) -> None:
    sandbox.unpack(archive(entry("c", kind="character")), Form.FLAT, devices=True)

    assert sandbox.tree() == {"c": "character 0:0"}


@pytest.mark.parametrize("number", [base_256(2**33, 8), base_256(-1, 8), base_256(2**12, 8)])
def test_TAR_41_refuses_numbers_that_linux_has_not(sandbox: Sandbox, number: bytes) -> None:
    with pytest.raises(Unsupported):
        sandbox.unpack(archive(raw(type_=b"3", devices=number + bytes(8))), devices=True)


@pytest.mark.parametrize("form", Form)
def test_TAR_49_keeps_set_id_bits(sandbox: Sandbox, form: Form) -> None:
    sandbox.unpack(archive(file("f", b"1", mode=0o6755, uid=1), link("g", "f")), form)

    for name in "fg":
        status = (sandbox.root / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_nlink) == (0o6755, 1, 2)


@pytest.mark.parametrize("form", Form)
def test_TAR_50_fills_directories_that_are_closed(sandbox: Sandbox, form: Form) -> None:
    sandbox.unpack(archive(directory("x", mode=0), file("x/y", b"1")), form)

    assert stat.S_IMODE((sandbox.root / "x").stat().st_mode) == 0
    assert sandbox.tree() == {"x": None, "x/y": b"1"}


@pytest.mark.parametrize("id_", [2**31, 2**32 - 2])
def test_TAR_51_gives_files_to_owners_of_32_bits(sandbox: Sandbox, id_: int) -> None:
    sandbox.unpack(archive(file("f", uid=id_, gid=id_), symlink("l", "f", uid=id_), directory("d", gid=id_)))

    assert ((sandbox.root / "f").stat().st_uid, (sandbox.root / "f").stat().st_gid) == (id_, id_)
    assert (sandbox.root / "l").lstat().st_uid == id_
    assert (sandbox.root / "d").stat().st_gid == id_


def test_TAR_52_translates_owners(sandbox: Sandbox) -> None:
    map_ = IdMap((IdRange(0, 1000, 1), IdRange(1, 100_000, 65_535)))

    sandbox.unpack(archive(file("a"), file("b", uid=5, gid=5), directory("d", uid=1)), uids=map_, gids=map_)

    owners = {
        name: ((sandbox.root / name).stat().st_uid, (sandbox.root / name).stat().st_gid) for name in "abd"
    }
    assert owners == {"a": (1000, 1000), "b": (100_004, 100_004), "d": (100_000, 1000)}


def test_TAR_52_names_the_owner_and_the_map(sandbox: Sandbox) -> None:
    map_ = IdMap((IdRange(0, 1000, 1),))

    with pytest.raises(Unsupported, match=r"the gid 7 is not in the map 0:1000:1: 'f'"):
        sandbox.unpack(archive(file("f", gid=7)), gids=map_)


@pytest.mark.parametrize("form", Form)
def test_TAR_53_sets_times_of_every_kind(sandbox: Sandbox, form: Form) -> None:
    times = {"f": -1_500_000_001, "d": 2**33 * 10**9 + 5, "l": -(10**9), "p": 123_456_789}
    records = {name: {"mtime": f"{time / 10**9:.9f}"} for name, time in times.items()}
    records["f"] = {"mtime": "-1.500000001"}
    records["d"] = {"mtime": "8589934592.000000005"}

    sandbox.unpack(
        archive(
            directory("d", pax=records["d"]),
            file("f", b"1", pax=records["f"]),
            symlink("l", "f", pax=records["l"]),
            entry("p", kind="fifo", pax=records["p"]),
            file("d/x"),
        ),
        form,
    )

    assert {name: (sandbox.root / name).lstat().st_mtime_ns for name in times} == times


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("make", [file, directory])
def test_TAR_67_sets_attributes(sandbox: Sandbox, form: Form, make: Callable[..., bytes]) -> None:
    made = make("n", mode=0o400, pax={"SCHILY.xattr.user.foo": "bar", "SCHILY.xattr.trusted.a": "b"})

    sandbox.unpack(archive(made), form)

    assert xattrs(sandbox.root / "n") == {"user.foo": b"bar", "trusted.a": b"b"}


def test_sets_an_empty_attribute(sandbox: Sandbox) -> None:
    sandbox.unpack(archive(file("f", pax={"SCHILY.xattr.user.empty": ""})))

    assert xattrs(sandbox.root / "f") == {"user.empty": b""}


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("name", ["opaque", "redirect", "metacopy", "overlay.opaque", "whiteout"])
@pytest.mark.parametrize("namespace", ["trusted", "user"])
def test_TAR_68_lets_no_overlay_attribute_live(
    sandbox: Sandbox, form: Form, namespace: str, name: str
) -> None:
    attribute = {f"SCHILY.xattr.{namespace}.overlay.{name}": "y"}

    stats = sandbox.unpack(archive(directory("d", pax=attribute), file("f", pax=attribute)), form)

    assert xattrs(sandbox.root / "d") == xattrs(sandbox.root / "f") == {}
    assert stats.notices == {"overlay attribute left out": 2}


@pytest.mark.parametrize("name", ["security.selinux", "system.nfs4_acl", "security.ima", "nonsense"])
def test_TAR_69_drops_what_belongs_to_this_host(sandbox: Sandbox, name: str) -> None:
    stats = sandbox.unpack(archive(xattr(name, b"x"), raw(b"f")))

    assert xattrs(sandbox.root / "f") == {}
    assert stats.notices == {"security or system attribute left out": 1}


@pytest.mark.parametrize("form", Form)
def test_TAR_70_sets_capabilities_last(sandbox: Sandbox, form: Form) -> None:
    """chown and write would both take them away."""
    records = x(("SCHILY.xattr.security.capability", CAPABILITY), ("SCHILY.xattr.user.z", b"1"))

    sandbox.unpack(archive(records, raw(b"f", uid=b"0000005\0", size=3, data=b"abc")), form)

    assert xattrs(sandbox.root / "f") == {"security.capability": CAPABILITY, "user.z": b"1"}
    assert (sandbox.root / "f").stat().st_uid == 5


def test_sets_access_lists(sandbox: Sandbox) -> None:
    access, default = "system.posix_acl_access", "system.posix_acl_default"
    sandbox.unpack(
        archive(
            xattr(access, ACL),
            raw(b"f", mode=b"0000750\0"),
            x((f"SCHILY.xattr.{access}", ACL), (f"SCHILY.xattr.{default}", ACL)),
            raw(b"d", type_=b"5", mode=b"0000750\0"),
            file("d/inside", mode=0o644),
        )
    )

    assert xattrs(sandbox.root / "f") == {access: ACL}
    assert xattrs(sandbox.root / "d") == {access: ACL, default: ACL}
    assert xattrs(sandbox.root / "d/inside") == {}


def test_TAR_72_only_notices_attributes_that_links_and_fifos_cannot_have(sandbox: Sandbox) -> None:
    attribute = {"SCHILY.xattr.user.foo": "bar"}

    stats = sandbox.unpack(
        archive(symlink("l", "x", pax=attribute), entry("p", kind="fifo", pax=attribute), file("after"))
    )

    assert stats.notices == {"attribute refused by the system": 2}
    assert sandbox.tree() == {"l": "-> x", "p": "fifo", "after": b""}


def test_sets_trusted_attributes_on_a_link_itself(sandbox: Sandbox) -> None:
    sandbox.unpack(archive(symlink("l\n\x80", "../victim", pax={"SCHILY.xattr.trusted.a": "b"})))

    assert xattrs(sandbox.root / "l\n\x80") == {"trusted.a": b"b"}


def test_does_not_inherit_from_the_directory_around(tmp_path: Path) -> None:
    """A set-gid store with a default access list must not show in every tree."""
    tmp_path.chmod(0o2775)
    os.chown(tmp_path, 0, 1234)
    os.setxattr(tmp_path, "system.posix_acl_default", ACL)
    sandbox = Sandbox(tmp_path)

    sandbox.unpack(archive(directory("d"), file("d/f"), symlink("l", "d")))

    for name in ("", "d", "d/f"):
        assert xattrs(sandbox.root / name) == {}
    assert {(sandbox.root / name).lstat().st_gid for name in ("", "d", "d/f", "l")} == {0}
    assert stat.S_IMODE((sandbox.root / "d").stat().st_mode) == 0o755


def test_TAROK_04_makes_missing_parents_roots(sandbox: Sandbox) -> None:
    before = os.umask(0o077)
    try:
        stats = sandbox.unpack(archive(file("a/b/f", uid=5), directory("a", mode=0o1777, uid=7)))
    finally:
        os.umask(before)

    status = (sandbox.root / "a/b").stat()
    assert (oct(status.st_mode), status.st_uid, status.st_mtime) == ("0o40755", 0, 0)
    status = (sandbox.root / "a").stat()
    assert (oct(status.st_mode), status.st_uid) == ("0o41777", 7)
    assert stats.implied == (b"", b"a/b")


def test_TAROK_04_merges_directories_that_come_twice(sandbox: Sandbox) -> None:
    sandbox.unpack(archive(directory("d", mode=0o700), file("d/f"), directory("d", mode=0o2750, mtime=5)))

    status = (sandbox.root / "d").stat()
    assert (oct(status.st_mode), status.st_mtime, sandbox.tree()) == ("0o42750", 5, {"d": None, "d/f": b""})


def test_UNP_10_closes_the_tree_to_others_until_it_is_done(sandbox: Sandbox) -> None:
    sandbox.root.chmod(0o777)
    with pytest.raises(Unsafe):
        sandbox.unpack(archive(directory("d", mode=0o777), file("../x")))

    assert stat.S_IMODE(sandbox.root.stat().st_mode) == 0o700
    assert stat.S_IMODE((sandbox.root / "d").stat().st_mode) == 0o700


@pytest.mark.parametrize("form", Form)
def test_TAROK_05_sparse_files_keep_their_holes(sandbox: Sandbox, form: Form) -> None:
    body = b"2\n1048576\n4\n8388608\n0\n".ljust(512, b"\0") + b"data"
    records = x(
        ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "s"), ("GNU.sparse.realsize", "8388608"),
    )  # fmt: skip

    sandbox.unpack(archive(records, raw(size=len(body), data=body)), form)

    status = (sandbox.root / "s").stat()
    assert status.st_size == 8 << 20
    assert status.st_blocks * 512 < 1 << 20
    assert (sandbox.root / "s").read_bytes() == bytes(1 << 20) + b"data" + bytes((7 << 20) - 4)
