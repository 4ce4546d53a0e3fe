"""TAR-01..TAR-38 and TAR-42..TAR-47: names, links and what replaces what, in both forms."""

import pytest

from client.unpack.errors import (
    LimitExceeded,
    LinkTargetMissing,
    Malformed,
    StorageFailed,
    UnpackError,
    Unsafe,
)
from client.unpack.options import Form
from tests.client.unpack.archives import archive, directory, entry, file, link, long_name, raw, symlink, x
from tests.client.unpack.sandbox import Sandbox

REFUSED = [
    pytest.param([file("../victim/x")], Unsafe, id="TAR-01-relative"),
    pytest.param([raw(b"/../victim/x")], Unsafe, id="TAR-01-absolute"),
    pytest.param([file("a/b/../../../victim/x")], Unsafe, id="TAR-01-inside"),
    pytest.param([raw(b"")], Malformed, id="TAR-05-empty"),
    pytest.param([file(".")], Unsafe, id="TAR-05-dot"),
    pytest.param([file("..")], Unsafe, id="TAR-05-dot-dot"),
    pytest.param([raw(b"/")], Unsafe, id="TAR-05-slash"),
    pytest.param([file("../root/x")], Unsafe, id="TAR-07"),
    pytest.param([x(("path", "n\0evil")), raw()], Malformed, id="TAR-08-pax"),
    pytest.param([long_name("n\0evil"), raw()], Malformed, id="TAR-08-gnu"),
    pytest.param([symlink("./", "/etc"), file("x")], Unsafe, id="TAR-09"),
    pytest.param([link("./", "x")], Unsafe, id="TAR-09-hard-link"),
    pytest.param([file("a" * 256)], LimitExceeded, id="TAR-12"),
    pytest.param([file("a" * 256 + "/x")], LimitExceeded, id="TAR-12-parent"),
    pytest.param([file("d/" * 3000 + "f")], LimitExceeded, id="TAR-13-deep"),
    pytest.param([file("d/" * 1024 + "f")], LimitExceeded, id="TAR-13-depth"),
    pytest.param([file("d" * 200 + "/" + "e" * 4800)], LimitExceeded, id="TAR-13-long"),
    pytest.param([symlink("a", "b"), symlink("b", "a"), file("a/x")], Unsafe, id="TAR-22"),
    pytest.param([*(symlink(f"l{i}", f"l{i + 1}") for i in range(60)), file("l0/x")], Unsafe, id="TAR-27"),
    pytest.param([link("h", "../victim/hello")], Unsafe, id="TAR-29"),
    pytest.param([link("h", "/tmp/outside")], LinkTargetMissing, id="TAR-30"),
    pytest.param([symlink("s", "../victim"), link("h", "s/hello")], LinkTargetMissing, id="TAR-31"),
    pytest.param([link("h", "missing")], LinkTargetMissing, id="TAR-34-missing"),
    pytest.param([link("h", "later"), file("later")], LinkTargetMissing, id="TAR-34-before"),
    pytest.param([link("h", "h")], LinkTargetMissing, id="TAR-35-itself"),
    pytest.param([file("h"), link("h", "./h")], Malformed, id="TAR-35-itself-there"),
    pytest.param([link("h", ".")], Malformed, id="TAR-35-root"),
    pytest.param([directory("d"), link("h", "d")], Malformed, id="TAR-35-directory"),
    pytest.param([file("x"), file("x/y")], Malformed, id="TAR-47"),
    pytest.param([entry("x", kind="fifo"), file("x/y")], Malformed, id="TAR-47-fifo"),
    pytest.param([x(("path", "../victim/x")), raw()], Unsafe, id="TAR-54-pax"),
    pytest.param([long_name("../victim/x"), raw()], Unsafe, id="TAR-54-gnu"),
    pytest.param([raw(b"x", prefix=b"../victim")], Unsafe, id="TAR-54-prefix"),
    pytest.param([x(("linkpath", "../victim/hello")), raw(type_=b"1")], Unsafe, id="TAR-55-pax"),
    pytest.param([symlink("s", "")], Malformed, id="a-link-to-nothing"),
    pytest.param([file("d/x"), link("d", "d/x")], StorageFailed, id="a-link-over-its-target"),
]

MADE = [
    pytest.param([file("/abs", b"1")], {"abs": b"1"}, id="TAR-02"),
    pytest.param([file("a/../b/x", b"1")], {"b": None, "b/x": b"1"}, id="TAR-03"),
    pytest.param(
        [directory("./"), file("./x"), file("a//b/./c")],
        {"x": b"", "a": None, "a/b": None, "a/b/c": b""},
        id="TAR-04",
    ),
    pytest.param(
        [file("n\n\x1b[31mX"), file("..\\victim\\x")],
        {"n\n\x1b[31mX": b"", "..\\victim\\x": b""},
        id="TAR-10",
    ),
    pytest.param([raw(b"n\xff\xfe")], {"n\udcff\udcfe": b""}, id="TAR-11"),
    pytest.param([file("A", b"1"), file("a", b"2")], {"A": b"1", "a": b"2"}, id="TAR-14-case"),
    pytest.param(
        [file("\u00e9", b"1"), file("e\u0301", b"2")], {"\u00e9": b"1", "e\u0301": b"2"}, id="TAR-14-form"
    ),
    pytest.param([file("n", b"1"), file("n", b"2")], {"n": b"2"}, id="TAR-15"),
    pytest.param([raw(b"n/", size=1, data=b"1")], {"n": b"1"}, id="TAR-16"),
    pytest.param(
        [symlink("s", "../victim"), file("s/x", b"1")],
        {"s": "-> ../victim", "victim": None, "victim/x": b"1"},
        id="TAR-17",
    ),
    pytest.param(
        [symlink("s", "/out"), file("s/x", b"1")], {"s": "-> /out", "out": None, "out/x": b"1"}, id="TAR-18"
    ),
    pytest.param(
        [symlink("a", "b"), symlink("b", "../victim"), file("a/x", b"1")],
        {"a": "-> b", "b": "-> ../victim", "victim": None, "victim/x": b"1"},
        id="TAR-19",
    ),
    pytest.param([symlink("s", "../victim/hello"), file("s", b"pwn")], {"s": b"pwn"}, id="TAR-20"),
    pytest.param(
        [symlink("s", "../victim"), directory("s"), file("s/x", b"1")], {"s": None, "s/x": b"1"}, id="TAR-21"
    ),
    pytest.param(
        [symlink("var/run", "/run"), file("var/run/x", b"1")],
        {"var": None, "var/run": "-> /run", "run": None, "run/x": b"1"},
        id="TAR-23",
    ),
    pytest.param(
        [symlink("s", "/proc/self/root/tmp"), file("s/x", b"1")],
        {
            "s": "-> /proc/self/root/tmp",
            "proc": None,
            "proc/self": None,
            "proc/self/root": None,
            "proc/self/root/tmp": None,
            "proc/self/root/tmp/x": b"1",
        },
        id="TAR-24",
    ),
    pytest.param(
        [directory("d"), file("d/f"), symlink("d", "../victim"), file("d/y", b"1")],
        {"d": "-> ../victim", "victim": None, "victim/y": b"1"},
        id="TAR-25",
    ),
    pytest.param(
        [symlink("s", "../victim/hello", mode=0o4777, mtime=1)], {"s": "-> ../victim/hello"}, id="TAR-26"
    ),
    pytest.param(
        [symlink("s", "../victim/hello"), link("h", "s"), file("h", b"pwn")],
        {"s": "-> ../victim/hello", "h": b"pwn"},
        id="TAR-32",
    ),
    pytest.param(
        [symlink("s", "../victim/hello"), link("h", "s", mode=0o777)],
        {"s": "-> ../victim/hello", "h": "-> ../victim/hello"},
        id="TAR-33",
    ),
    pytest.param(
        [file("a", b"1"), raw(b"h", type_=b"1", size=5, link=b"a"), file("z", b"2")],
        {"a": b"1", "h": b"1", "z": b"2"},
        id="TAR-36",
    ),
    pytest.param([file("a", b"1"), link("b", "a"), file("b", b"2")], {"a": b"1", "b": b"2"}, id="TAR-37"),
    pytest.param(
        [entry("p", kind="fifo"), link("q", "p"), file("p", b"1")], {"p": b"1", "q": "fifo"}, id="TAR-42"
    ),
    pytest.param(
        [file("x"), directory("x"), file("x/y", b"1")], {"x": None, "x/y": b"1"}, id="TAR-46-file-directory"
    ),
    pytest.param([directory("x"), file("x/y"), file("x", b"1")], {"x": b"1"}, id="TAR-46-directory-file"),
    pytest.param(
        [directory("x"), file("x/y/z"), symlink("x/l", "y"), entry("x", kind="fifo")],
        {"x": "fifo"},
        id="TAR-46-directory-fifo",
    ),
    pytest.param(
        [symlink("up", "a/../../.."), file("up/x", b"1")],
        {"up": "-> a/../../..", "a": None, "x": b"1"},
        id="dots",
    ),
    pytest.param(
        [file("a", b"1"), link("b", "/a"), link("c/d", "./b"), link("b", "a")],
        {"a": b"1", "b": b"1", "c": None, "c/d": b"1"},
        id="TAROK-03-absolute-and-repeated",
    ),
]


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(("entries", "error"), REFUSED)
def test_refuses(sandbox: Sandbox, form: Form, entries: list[bytes], error: type[UnpackError]) -> None:
    with pytest.raises(error):
        sandbox.unpack(archive(*entries), form)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(("entries", "tree"), MADE)
def test_makes(sandbox: Sandbox, form: Form, entries: list[bytes], tree: dict[str, object]) -> None:
    sandbox.unpack(archive(*entries), form)

    assert sandbox.tree() == tree


@pytest.mark.parametrize("form", Form)
def test_TAR_06_describes_the_root(sandbox: Sandbox, form: Form) -> None:
    sandbox.unpack(archive(directory("./", mode=0o700, mtime=5)), form)

    assert (sandbox.root.stat().st_mode & 0o7777, sandbox.root.stat().st_mtime) == (0o700, 5)


@pytest.mark.parametrize("form", Form)
def test_TAR_28_refuses_paths_that_grow_too_long(sandbox: Sandbox, form: Form) -> None:
    """CVE-2025-4517: realpath gave up beyond PATH_MAX, and what it returned was taken for the whole truth."""
    entries, path, short = [], "", ""
    for name in "abcdefghijklmnop":
        entries += [directory(path + "d" * 247), symlink(path + name, "d" * 247)]
        path += "d" * 247 + "/"
        short += name + "/"
    top = short + "l" * 254
    entries += [symlink(top, "../" * 16), symlink("e", top + "/../victim"), file("e/pwn", b"pwn")]

    with pytest.raises(LimitExceeded):
        sandbox.unpack(archive(*entries), form)


def test_TAR_10_escapes_names_in_messages(sandbox: Sandbox) -> None:
    with pytest.raises(UnpackError) as caught:
        sandbox.unpack(archive(file("../\n\x1b[31m\u202eX"), file("y")))

    assert str(caught.value).isprintable()
    assert r"\n\x1b[31m\u202eX" in str(caught.value)
