"""A tree with everything that is hard to carry, made on the disk."""

import os
import stat
from pathlib import Path

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ACL = bytes.fromhex(
    "0200000001000700ffffffff02000500e803000004000500ffffffff10000500ffffffff20000000ffffffff"
)


def make(root: Path) -> None:
    """Fill `root`; needs root's powers."""
    _names(root)
    _links(root)
    _attributes(root)
    _nodes(root)
    _times(root)


def _names(root: Path) -> None:
    names = root / "names"
    names.mkdir()
    long = "/".join(["long-" + "x" * 65] * 9 + ["end-" + "y" * 80])
    for name in (
        "n\n\x1b[31m",
        "..\\x",
        "a:b",
        " ",
        "é",
        "e\u0301",
        "A",
        "a",
        "'\"",
        "\udcff\udcfe",
        "z" * 255,
        long,
    ):
        path = names / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name.encode("utf-8", "surrogateescape").hex())
    (names / ("d" * 255)).mkdir()
    (names / "to-long").symlink_to("../" + long)
    (names / "to-odd").symlink_to("\udcff\n")


def _links(root: Path) -> None:
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "sbin").symlink_to("/usr/bin")
    (root / "dangling").symlink_to("/nowhere/at/all")
    (root / "outside").symlink_to("../../../../etc/passwd")
    (root / "usr/bin/tool").write_text("tool")
    (root / "usr/bin/tool").chmod(0o4755)
    (root / "other").mkdir()
    os.link(root / "usr/bin/tool", root / "other/linked")
    os.link(root / "usr/bin/tool", root / "usr/again")
    os.link(root / "dangling", root / "other/linked-link", follow_symlinks=False)


def _attributes(root: Path) -> None:
    place = root / "attributes"
    place.mkdir()
    for number, (mode, owner) in enumerate(
        [
            (0o6755, 1),
            (0, 0),
            (0o400, 2**31),
            (0o1777, 65534),
            (0o777, 2**32 - 2),
            (0o644, 2097151),
            (0o644, 2097152),
        ]
    ):
        file = place / f"file-{number}"
        file.write_text("x")
        os.chown(file, owner, owner)
        file.chmod(mode)
        directory = place / f"directory-{number}"
        directory.mkdir()
        (directory / "inside").touch()
        os.chown(directory, owner, owner)
        directory.chmod(mode)
    for name, attributes in {
        "capable": {"security.capability": CAPABILITY},
        "noted": {"user.note": b"\0\xff=\n", "trusted.note": b"t"},
        "listed": {"system.posix_acl_access": ACL},
    }.items():
        (place / name).write_text("x")
        os.chown(place / name, 5, 6)
        for attribute, value in attributes.items():
            os.setxattr(place / name, attribute, value)
    os.setxattr(place, "user.directory", b"1")
    os.setxattr(root / "dangling", "trusted.link", b"1", follow_symlinks=False)


def _nodes(root: Path) -> None:
    place = root / "nodes"
    place.mkdir()
    os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(place / "large", stat.S_IFBLK | 0o640, os.makedev(259, 300))
    os.mkfifo(place / "fifo", 0o620)
    with open(place / "sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"data")
        file.seek(5 << 20)
        file.write(b"more")
        file.truncate(9 << 20)
    (place / "empty").touch()
    (place / "big").write_bytes(os.urandom(3 << 20))


def _times(root: Path) -> None:
    place = root / "times"
    place.mkdir()
    for number, seconds in enumerate([0, -1, -(2**31), 2**31, 2**33, 10**9]):
        path = place / str(number)
        path.touch()
        os.utime(path, ns=(seconds * 10**9, seconds * 10**9 + 123_456_789))
    (place / "link").symlink_to("x")
    os.utime(place / "link", ns=(5, -1_500_000_000), follow_symlinks=False)
    for here, directories, _ in os.walk(root, topdown=False):
        for name in directories:
            directory = os.path.join(here, name)
            if not os.path.islink(directory):
                os.utime(directory, ns=(9, 10**9 + len(directory)))
    os.utime(root, ns=(9, 10**9))
