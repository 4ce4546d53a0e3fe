"""UNP-14, TAR-39, TAR-49..TAR-52 as an ordinary user: in a process of its own, the tests run as root."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.unpack import nasty
from tests.client.unpack.archives import archive, directory, entry, file, gzipped, link, symlink
from tests.client.unpack.overlays import needs_root
from tests.client.unpack.trees import listing

pytestmark = needs_root

USER = 65534
CODE = """
import json, sys
from pathlib import Path
from client.unpack.errors import UnpackError
from client.unpack.layer import apply_layers, unpack_layer
from client.unpack.options import Form, IdMap, IdRange, Options, Ownership

target, form, ownership, *layers = sys.argv[1:]
given = {"ownership": Ownership(ownership)} if ownership else {}
options = Options(form=Form(form), devices=True, **given)
try:
    if options.form is Form.FLAT:
        streams = [(open(layer, "rb"), None) for layer in layers]
        stats = apply_layers(streams, Path(target), options=options)[-1]
    else:
        stats = unpack_layer(open(layers[0], "rb"), Path(target), diff_id=None, options=options)
except UnpackError as error:
    print(json.dumps([type(error).__name__, str(error)]))
else:
    print(json.dumps(["", dict(stats.notices)]))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the user may reach and write to. A pytest that starts closes all of pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, USER, USER)
        yield Path(name)


def run(
    place: Path, *layers: bytes, form: str = "overlay", ownership: str = "", target: str = "target"
) -> list[Any]:
    """Unpack as the user; return the class of the error and its text, or nothing and the notices."""
    paths = []
    for number, layer in enumerate(layers):
        paths.append(place / f"{number}.tar")
        paths[-1].write_bytes(layer)
    (place / target).mkdir()
    os.chown(place / target, USER, USER)
    command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
    result = subprocess.run(
        [
            *command,
            sys.executable,
            "-W",
            "error::UserWarning",
            "-c",
            CODE,
            place / target,
            form,
            ownership,
            *paths,
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    parsed: list[Any] = json.loads(result.stdout)
    return parsed


def xattrs(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


@pytest.mark.parametrize("form", ["overlay", "flat"])
def test_UNP_14_records_owners(place: Path, form: str) -> None:
    layer = archive(
        directory("d", mode=0o2750, uid=3, gid=4),
        file("d/f", b"1", mode=0o400, uid=5, gid=6),
        file("mine", b"1", mode=0o444),
        symlink("l", "x", uid=7),
    )

    assert run(place, layer, form=form) == ["", {"owner not recorded": 1}]
    target = place / "target"
    assert xattrs(target / "d") == {"user.containers.override_stat": b"3:4:02750"}
    assert xattrs(target / "d/f") == {"user.containers.override_stat": b"5:6:0400"}
    assert xattrs(target / "mine") == {}
    assert {(target / name).lstat().st_uid for name in ("d", "d/f", "mine", "l")} == {USER}
    assert oct((target / "d/f").stat().st_mode) == "0o100400"


def test_TAR_49_keeps_set_id_bits(place: Path) -> None:
    """They are the user's own: the store's directory is closed to all others (UNP-10)."""
    assert run(place, archive(file("f", b"1", mode=0o6755, uid=1), link("g", "f"))) == ["", {}]

    assert oct((place / "target/g").stat().st_mode) == "0o106755"


@pytest.mark.parametrize("form", ["overlay", "flat"])
def test_TAR_50_fills_directories_that_are_closed(place: Path, form: str) -> None:
    layer = archive(
        directory("x", mode=0), file("x/y", b"1"), directory("z", mode=0o555), file("z/y/w", b"1")
    )

    assert run(place, layer, form=form) == ["", {}]
    assert oct((place / "target/x").stat().st_mode) == "0o40000"
    assert (place / "target/z/y/w").read_bytes() == b"1"


def test_fills_and_empties_closed_directories_of_earlier_layers(place: Path) -> None:
    lower = archive(directory("x", mode=0), file("x/y", b"1"), directory("x/d", mode=0o500), file("x/d/e"))
    upper = archive(file("x/new", b"2"), file("x/.wh.y"), file("x/.wh.d"))

    assert run(place, lower, upper, form="flat") == ["", {}]
    assert sorted(os.listdir(place / "target/x")) == ["new"]
    assert oct((place / "target/x").stat().st_mode) == "0o40000"


def test_TAR_39_leaves_devices_out(place: Path) -> None:
    layer = archive(entry("c", kind="character", device=(1, 3)), entry("p", kind="fifo"), file("after"))

    assert run(place, layer) == ["", {"device left out": 1}]
    assert sorted(os.listdir(place / "target")) == ["after", "p"]


def test_TAR_52_names_the_owner_and_the_map(place: Path) -> None:
    kind, text = run(place, archive(file("f", uid=1)), ownership="real")

    assert kind == "Unsupported"
    assert "1:0 cannot be given here" in text
    assert "uid map 0:0:4294967295" in text


def test_marks_whiteouts_for_an_overlay_of_its_own(place: Path) -> None:
    """Linux lets everyone make 0:0 devices; the xattr is the one that `userxattr` mounts look at."""
    assert run(place, archive(file("d/.wh.a"), file("d/.wh..wh..opq"))) == ["", {}]

    assert (place / "target/d/a").lstat().st_rdev == 0
    assert xattrs(place / "target/d") == {"user.overlay.opaque": b"y"}


def test_UNP_14_two_runs_make_the_same_tree(place: Path) -> None:
    source = place / "source"
    source.mkdir()
    nasty.make(source)
    command = ["tar", "-C", str(source), "--format=posix", "--xattrs", "--xattrs-include=*", "-cf", "-", "."]
    layer = gzipped(subprocess.run(command, check=True, capture_output=True).stdout)

    first, second = run(place, layer, target="first"), run(place, layer, target="second")

    assert first == second
    assert first[0] == ""
    assert listing(place / "first") == listing(place / "second")
    ours, theirs = listing(place / "first"), listing(source)
    # What an ordinary user cannot have: devices, and other owners.
    assert theirs.keys() - ours.keys() == {b"nodes/null", b"nodes/large"}
    for path in ours:
        for fact in ("mode", "mtime", "data", "target", "linked to"):
            assert ours[path].get(fact) == theirs[path].get(fact), (path, fact)


def test_a_user_namespace_gives_the_owners_it_has(tmp_path: Path) -> None:
    """As root of a namespace with one id: it gives files to 0, and says what it cannot."""
    if subprocess.run(["unshare", "-Ur", "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "0.tar").write_bytes(archive(file("f", uid=1)))

    command: list[str | Path] = [
        "unshare",
        "-Ur",
        sys.executable,
        "-c",
        CODE,
        target,
        "overlay",
        "",
        tmp_path / "0.tar",
    ]
    result = subprocess.run(
        command,
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    kind, text = json.loads(result.stdout)
    assert (kind, "in the process's 0:0:1" in text) == ("Unsupported", True)
