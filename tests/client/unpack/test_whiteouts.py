"""TAR-38, TAR-94..TAR-100, TAROK-07: what a layer deletes, in a flat tree and as an overlay shows it."""

import io
import os
import stat
from pathlib import Path

import pytest

from client.unpack.errors import LinkTargetMissing, UnpackError, Unsafe
from client.unpack.layer import unpack_layer
from client.unpack.options import Form, Options
from tests.client.unpack.archives import archive, directory, entry, file, link, symlink
from tests.client.unpack.overlays import mounted, needs_root
from tests.client.unpack.sandbox import Sandbox
from tests.client.unpack.trees import listing

LOWER = [
    directory("./"),
    directory("d", mode=0o750, uid=3, mtime=77),
    file("d/a", b"1"),
    file("d/b", b"2"),
    directory("d/sub"),
    file("d/sub/c", b"3"),
    directory("etc", mtime=5),
    file("etc/x", b"4"),
    file("top", b"5"),
    symlink("s", "d"),
]
D = directory("d", mode=0o700)
ETC = {"etc", "etc/x"}
ALL = {"d", "d/a", "d/b", "d/sub", "d/sub/c", *ETC, "top", "s"}

CASES = [
    pytest.param(
        [D, file("d/sub/new"), file(".wh.d")],
        {"d", "d/sub", "d/sub/new", *ETC, "top", "s"},
        id="TAR-96-inside-a-directory-of-the-lower-layer",
    ),
    pytest.param([D, file("d/.wh.a")], ALL - {"d/a"}, id="TAROK-07-file"),
    pytest.param([D, file("d/.wh.sub")], ALL - {"d/sub", "d/sub/c"}, id="TAROK-07-directory"),
    pytest.param([file(".wh.s")], ALL - {"s"}, id="TAROK-07-link"),
    pytest.param([D, file("d/new"), file("d/.wh..wh..opq")], {"d", "d/new", *ETC, "top", "s"}, id="TAR-97"),
    pytest.param(
        [D, file("d/.wh..wh..opq"), file("d/new")], {"d", "d/new", *ETC, "top", "s"}, id="TAR-97-first"
    ),
    pytest.param([file("new"), file(".wh..wh..opq")], {"new"}, id="TAR-97-root"),
    pytest.param([D, file("d/a", b"new"), file("d/.wh.a")], ALL, id="TAR-96"),
    pytest.param([D, file("d/.wh.a"), file("d/a", b"new")], ALL, id="TAR-96-reverse"),
    pytest.param([file("d/.wh.nope"), D, file(".wh.nope")], ALL, id="TAR-98-nothing"),
    pytest.param(
        [directory(".wh.top"), symlink(".wh.s", "x"), file("d/.wh.a", b"data"), D],
        ALL - {"top", "s", "d/a"},
        id="TAR-98-kinds",
    ),
    pytest.param([file(".wh.etc/x", b"6")], ALL | {".wh.etc", ".wh.etc/x"}, id="TAR-99"),
    pytest.param([file("a"), link(".wh.top", "a")], ALL - {"top"} | {"a"}, id="TAR-38"),
    pytest.param(
        [file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"), directory(".wh..wh.orph")], ALL, id="TAR-100"
    ),
    pytest.param(
        [file(".wh.d"), D, file("d/new")], {"d", "d/new", *ETC, "top", "s"}, id="TAROK-07-made-again"
    ),
    pytest.param(
        [file(".wh.d"), file("d/new")], {"d", "d/new", *ETC, "top", "s"}, id="TAROK-07-implied-again"
    ),
    pytest.param(
        [D, file("d/new"), file(".wh.d")], {"d", "d/new", *ETC, "top", "s"}, id="TAROK-07-made-before"
    ),
    pytest.param(
        [file(".wh.d"), file("d/.wh.a"), file("d/sub/.wh.c"), file("d/.wh..wh..opq")],
        {*ETC, "top", "s"},
        id="TAROK-07-below-a-deleted-directory",
    ),
    pytest.param([file("d", b"7")], {"d", *ETC, "top", "s"}, id="TAROK-07-directory-becomes-file"),
    pytest.param([symlink("d", "etc")], {"d", *ETC, "top", "s"}, id="TAROK-07-directory-becomes-link"),
    pytest.param([directory("top")], ALL, id="TAROK-07-file-becomes-directory"),
    pytest.param([directory("s"), file("s/x")], ALL | {"s/x"}, id="TAROK-07-link-becomes-directory"),
    pytest.param(
        [file("d"), directory("d"), file("d/new")],
        {"d", "d/new", *ETC, "top", "s"},
        id="TAROK-07-directory-becomes-file-becomes-directory",
    ),
    pytest.param(
        [symlink("d", "etc"), D], {"d", *ETC, "top", "s"}, id="TAROK-07-becomes-link-becomes-directory"
    ),
    pytest.param(
        [directory("d/sub"), file("d/sub/n"), file("d/.wh..wh..opq"), D],
        {"d", "d/sub", "d/sub/n", *ETC, "top", "s"},
        id="opaque-keeps-a-directory-but-not-its-lower-files",
    ),
    pytest.param(
        [file("d/.wh.a"), file("d/.wh.b"), file("d/.wh.sub"), D],
        ALL - {"d/a", "d/b", "d/sub", "d/sub/c"},
        id="all-deleted-one-by-one",
    ),
]


def paths(root: Path) -> set[str]:
    return {os.fsdecode(path) for path in listing(root)} - {"."}


@pytest.mark.parametrize(("upper", "expected"), CASES)
def test_deletes_in_a_flat_tree(sandbox: Sandbox, upper: list[bytes], expected: set[str]) -> None:
    sandbox.apply(archive(*LOWER), archive(*upper))

    assert paths(sandbox.root) == expected


@needs_root
@pytest.mark.parametrize(("upper", "expected"), CASES)
def test_hides_in_an_overlay(tmp_path: Path, upper: list[bytes], expected: set[str]) -> None:
    """The mounted layers and the flat tree are one and the same."""
    layers = [archive(*LOWER), archive(*upper)]
    stack: list[Path] = []
    for number, layer in enumerate(layers):
        target = tmp_path / str(number)
        target.mkdir()
        stats = unpack_layer(io.BytesIO(layer), target, diff_id=None, options=Options())
        stack = [target] if stats.opaque_root else [*stack, target]
    flat = tmp_path / "flat"
    flat.mkdir()
    Sandbox.apply_to(flat, *layers)

    with mounted(stack, tmp_path / "mount") as merged:
        assert paths(merged) == expected
        # Directories that no entry describes inherit in the store: see test_lowers.py.
        leave_out = set(stats.implied) | {b"."}
        seen, wanted = listing(merged), listing(flat)
        for path in seen.keys() - leave_out:
            assert seen[path] == wanted[path], path


REFUSED = [
    pytest.param([file(".wh.")], Unsafe, id="TAR-94-nothing"),
    pytest.param([file(".wh..")], Unsafe, id="TAR-94-dot"),
    pytest.param([file("etc/.wh...")], Unsafe, id="TAR-94-dot-dot"),
    pytest.param([file("../.wh.victim")], Unsafe, id="TAR-94-outside"),
    pytest.param([file("../.wh..wh..opq")], Unsafe, id="TAR-94-opaque-outside"),
    pytest.param(
        [file(".wh..wh.plnk/1.2"), link("x", ".wh..wh.plnk/1.2")], LinkTargetMissing, id="TAR-100-link"
    ),
    pytest.param([file(".wh.a"), link("x", "a")], LinkTargetMissing, id="a-link-to-a-whiteout"),
]


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(("entries", "error"), REFUSED)
def test_refuses(sandbox: Sandbox, form: Form, entries: list[bytes], error: type[UnpackError]) -> None:
    with pytest.raises(error):
        sandbox.unpack(archive(*entries), form)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("name", ["s/.wh.hello", "s/.wh..wh..opq"])
def test_TAR_95_deletes_nothing_through_links(sandbox: Sandbox, form: Form, name: str) -> None:
    """The sandbox looks after the victim; a real directory of that name is inside."""
    sandbox.unpack(archive(symlink("s", "../victim"), file("victim/kept"), file(name)), form)

    assert (sandbox.root / "victim/kept").exists()


@pytest.mark.parametrize("name", ["s/.wh.hello", "s/.wh..wh..opq"])
def test_TAR_95_deletes_what_a_link_leads_to_inside(sandbox: Sandbox, name: str) -> None:
    sandbox.apply(archive(symlink("s", "../victim"), file("victim/hello")), archive(file(name)))

    assert paths(sandbox.root) == {"s", "victim"}
    assert (sandbox.victim / "hello").exists()


def test_marks_a_whiteout_as_overlayfs_reads_it(sandbox: Sandbox) -> None:
    sandbox.unpack(archive(file("d/.wh.a"), file("e/.wh..wh..opq")))

    status = (sandbox.root / "d/a").lstat()
    assert (stat.S_ISCHR(status.st_mode), status.st_rdev) == (True, 0)
    namespace = "trusted" if os.geteuid() == 0 else "user"
    assert os.getxattr(sandbox.root / "e", f"{namespace}.overlay.opaque") == b"y"


def test_tells_that_the_root_is_opaque(sandbox: Sandbox) -> None:
    assert sandbox.unpack(archive(file(".wh..wh..opq"))).opaque_root


def test_does_not_mistake_others(sandbox: Sandbox) -> None:
    assert not sandbox.unpack(archive(file("d/.wh..wh..opq"))).opaque_root


def test_keeps_times_of_directories_that_a_layer_does_not_describe(sandbox: Sandbox) -> None:
    sandbox.apply(archive(*LOWER), archive(file("d/.wh.a"), file("etc/new/x")))

    assert (sandbox.root / "d").stat().st_mtime == 77
    assert (sandbox.root / "etc").stat().st_mtime == 5


def test_keeps_mode_and_times_of_a_tree_that_was_there(sandbox: Sandbox) -> None:
    sandbox.unpack(archive(*LOWER), Form.FLAT)
    sandbox.root.chmod(0o751)
    before = listing(sandbox.root)

    sandbox.unpack(archive(file("etc/new")), Form.FLAT)

    after = listing(sandbox.root)
    del after[b"etc/new"]
    assert after == before


def test_describes_a_directory_that_was_deleted_and_made_again(sandbox: Sandbox) -> None:
    """What an earlier layer said of the old one is forgotten."""
    sandbox.apply(
        archive(directory("d", mode=0o700, mtime=3), directory("d/e", mode=0o700)),
        archive(file(".wh.d"), file("d/e/x")),
    )

    assert oct((sandbox.root / "d").stat().st_mode) == "0o40755"
    assert oct((sandbox.root / "d/e").stat().st_mode) == "0o40755"


def test_removes_deep_trees_without_recursion(sandbox: Sandbox) -> None:
    deep = "/".join(["d"] * 1000)
    sandbox.apply(archive(file(f"{deep}/f")), archive(file(".wh.d")))

    assert paths(sandbox.root) == set()


def test_replaces_deep_trees(sandbox: Sandbox) -> None:
    deep = "/".join(["d"] * 1000)
    sandbox.unpack(archive(file(f"{deep}/f"), entry("d", kind="fifo")))

    assert sandbox.tree() == {"d": "fifo"}


def test_clears_a_directory_once_however_often_it_is_told(sandbox: Sandbox) -> None:
    """A thousand opaque marks on a directory of a thousand files would be a million looks."""
    upper = [file("d/.wh..wh..opq")] * 5000 + [file(f"d/{number}") for number in range(2000)]
    sandbox.apply(archive(*LOWER), archive(*upper, *[file("d/.wh..wh..opq")] * 5000))

    assert len(os.listdir(sandbox.root / "d")) == 2000
