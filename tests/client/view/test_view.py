"""A View shows what the kernel's overlay of the same layers shows."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import DiskFailed
from client.unpack.errors import UnpackError
from client.view.errors import PathUnknown, PathUnusable
from client.view.view import View
from tests.client.unpack import nasty
from tests.client.unpack.archives import archive, directory, entry, file, link, symlink
from tests.client.unpack.overlays import needs_root
from tests.client.unpack.test_fuzz import bounded
from tests.client.unpack.test_golden import LAYERS
from tests.client.view.stacks import add, kernel_overlay, mounted, seen, stacked

pytestmark = needs_root


def assert_same(place: Path, stack: list[Path]) -> None:
    with View(stack) as view, kernel_overlay(stack, place / "mount") as merged:
        ours, theirs = seen(view), mounted(merged)
    assert list(ours) == list(theirs)
    assert ours == theirs


@pytest.mark.parametrize("name", LAYERS)
def test_shows_what_the_kernel_shows(tmp_path: Path, name: str) -> None:
    assert_same(tmp_path, stacked(tmp_path, *(archive(*entries) for entries in LAYERS[name])))


def test_shows_a_nasty_tree_under_changes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    nasty.make(source)
    command: list[str | Path] = [
        "tar",
        "-C",
        source,
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "-cf",
        "-",
        ".",
    ]
    data = subprocess.run([*command, "--format=posix"], check=True, capture_output=True).stdout
    upper = archive(
        file(".wh.dangling"),
        directory("names"),
        file("names/.wh..wh..opq"),
        file("names/n\n\x1b[31m", b"new"),
        file("usr/.wh.bin"),
        file("usr/bin", b"a file over a directory"),
        directory("other/linked"),
        link("attributes/again", "attributes/capable"),
        file("times/.wh.0"),
    )

    assert_same(tmp_path, stacked(tmp_path, data, upper))


names = st.sampled_from(["a", "b", "c", "d"])
plain = st.lists(names, min_size=1, max_size=3).map("/".join)
hidden = st.tuples(plain, st.sampled_from(["a", "b", "c", ".wh..opq"])).map(lambda p: f"{p[0]}/.wh.{p[1]}")
entries = st.one_of(
    st.builds(file, plain, st.binary(max_size=3), mode=st.sampled_from([0o644, 0o4711, 0])),
    st.builds(directory, plain, mode=st.sampled_from([0o755, 0o1777, 0o700]), uid=st.integers(0, 9)),
    st.builds(symlink, plain, st.sampled_from(["a", "/b", "../../c", "a/b"])),
    st.builds(lambda name: entry(name, kind="fifo"), plain),
    st.builds(lambda name: entry(name, kind="character", device=(1, 3)), plain),
    st.builds(link, plain, plain),
    st.builds(file, hidden),
    st.builds(file, names.map(".wh.{}".format)),
)
stacks = st.lists(st.lists(entries, max_size=8), min_size=1, max_size=5)


@bounded(60)
@given(stacks)
def test_shows_any_stack_as_the_kernel_shows_it(layers: list[list[bytes]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        assert_same(place, whatever_unpacks(place, layers))


def whatever_unpacks(place: Path, layers: list[list[bytes]]) -> list[Path]:
    """Stack the layers, and leave out those whose hard links have no target."""
    stack = stacked(place, archive(directory("./")))
    for entries in layers:
        try:
            add(place, stack, archive(*entries))
        except UnpackError:
            shutil.rmtree(place / f"layer-{len(stack)}")
    return stack


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def kernel_resolve(root: Path, path: bytes) -> tuple[int, int] | None:
    """Return what the kernel finds at the path as if `root` were `/`; None where it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    top = os.open(root, os.O_PATH)
    how = OpenHow(os.O_PATH, 0, 0x10 | 0x02)
    fd = libc.syscall(437, top, path or b".", ctypes.byref(how), ctypes.sizeof(how))
    os.close(top)
    if fd < 0:
        return None
    status = os.fstat(fd)
    os.close(fd)
    return status.st_mode, status.st_mtime_ns


wild = st.lists(st.sampled_from(["a", "b", "c", "d", "..", ".", "", "e" * 300]), min_size=1, max_size=7).map(
    "/".join
)
looping = st.builds(symlink, plain, wild.filter(lambda path: path.strip("/") != "" and len(path) < 200))


@bounded(60)
@given(st.lists(st.lists(st.one_of(entries, looping), max_size=8), min_size=1, max_size=4), st.lists(wild))
def test_TAR_10_finds_what_the_kernel_finds_in_a_root_of_its_own(
    layers: list[list[bytes]], paths: list[str]
) -> None:
    """Absolute links, `..` and links as parents never lead out of the image."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        stack = whatever_unpacks(place, layers)
        for number, layer in enumerate(stack):
            distinguish(layer, number)
        with View(stack) as view, kernel_overlay(stack, place / "mount") as merged:
            for path in map(str.encode, paths):
                assert ours(view, path) == kernel_resolve(merged, path), path


def distinguish(layer: Path, number: int) -> None:
    """Give every file a time of its own."""
    for position, (here, directories, files) in enumerate(os.walk(layer)):
        for place, inner in enumerate(files + directories):
            os.utime(Path(here, inner), (number, 1000 * position + place), follow_symlinks=False)


def ours(view: View, path: bytes) -> tuple[int, int] | None:
    try:
        found = view.find(path)
    except PathUnusable:
        return None
    return found.mode, found.mtime


def test_counts_forty_links_and_no_more(tmp_path: Path) -> None:
    chain = [symlink(f"l{number}", f"l{number + 1}") for number in range(41)]
    with View(stacked(tmp_path, archive(*chain, file("l41", b"end")))) as view:
        assert view.find(b"l1").path == b"l41"
        with pytest.raises(PathUnusable, match="more than 40 links"):
            view.find(b"l0")


def test_ends_at_an_opaque_root(tmp_path: Path) -> None:
    """The kernel ignores the mark on a root, so what is below is not given to it either."""
    stack = stacked(tmp_path, archive(file("old")), archive(file(".wh..wh..opq"), file("new")), archive())

    with View(stack) as view:
        assert [entry.path for entry in view.walk()] == [b"new"]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        pytest.param(b"d/none", PathUnknown, "no such file", id="missing"),
        pytest.param(b"gone", PathUnknown, "no such file", id="whited-out"),
        pytest.param(b"f/x", PathUnusable, "no directory but a regular file", id="below-a-file"),
        pytest.param(b"f/", PathUnusable, "no directory but a regular file", id="file-with-slash"),
        pytest.param(b"s", PathUnknown, "no such file", id="dangling"),
        pytest.param(b"a\0b", PathUnknown, "NUL", id="nul"),
        pytest.param(b"x/" * 3000, PathUnknown, "4095", id="too-long"),
        pytest.param(b"\x1b[31m\n", PathUnknown, r"\\x1b\[31m\\n", id="TAR-10-control-characters"),
    ],
)
def test_says_what_is_wrong_with_a_path(
    tmp_path: Path, path: bytes, error: type[Exception], message: str
) -> None:
    lower = archive(directory("d"), file("f"), file("gone"), symlink("s", "/etc/shadow"))
    with (
        View(stacked(tmp_path, lower, archive(file(".wh.gone")))) as view,
        pytest.raises(error, match=message) as caught,
    ):
        view.find(path)
    assert type(caught.value) is error


def test_opens_nothing_but_regular_files(tmp_path: Path) -> None:
    data = archive(entry("p", kind="fifo"), directory("d"), file("f", b"1"), symlink("s", "../../f"))
    with View(stacked(tmp_path, data)) as view:
        with view.open_file(b"/d/../s") as file_:
            assert file_.read() == b"1"
        for path, kind in ((b"p", "a fifo"), (b"d", "a directory")):
            with pytest.raises(PathUnusable, match=f"no regular file but {kind}"):
                view.open_file(path)


def test_notices_a_layer_that_changed(tmp_path: Path) -> None:
    stack = stacked(tmp_path, archive(file("f", b"1")))
    with View(stack) as view:
        found = view.find(b"f")
        (tmp_path / "other").write_text("2")
        os.rename(tmp_path / "other", stack[0] / "f")
        with pytest.raises(DiskFailed, match="changed while it was read"):
            view.open(found)


def test_closes_all_it_opened(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with View(stacked(tmp_path, archive(symlink("s", "d/f"), file("d/f")), archive(file("d/g")))) as view:
        list(view.walk())
        view.open_file(b"s").close()
        with pytest.raises(PathUnknown):
            view.find(b"d/../none")

    assert os.listdir("/proc/self/fd") == before
