"""UNP-11: who a process runs as is read from files that the image may have made anything of."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from client.bundle.errors import BundleRefused, UserUnknown
from client.bundle.users import User, resolve
from client.unpack.reading import read_file
from tests.client.bundle.images import GROUP, PASSWD

FILES = {b"etc/passwd": PASSWD, b"etc/group": GROUP}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", User(0, 0, (), "/root"), id="none"),
        pytest.param("root", User(0, 0, (10,), "/root"), id="root-by-name"),
        pytest.param("0", User(0, 0, (), "/root"), id="root-by-number"),
        pytest.param("worker", User(1000, 1001, (10, 29, 50), "/home/worker"), id="name"),
        pytest.param("1000", User(1000, 1001, (), "/home/worker"), id="number"),
        pytest.param("worker:audio", User(1000, 29, (), "/home/worker"), id="name-and-group"),
        pytest.param("worker:7", User(1000, 7, (), "/home/worker"), id="name-and-gid"),
        pytest.param("1000:audio", User(1000, 29, (), "/home/worker"), id="uid-and-group"),
        pytest.param("4000:4001", User(4000, 4001, (), "/"), id="unknown-numbers"),
        pytest.param("4000", User(4000, 0, (), "/"), id="unknown-number"),
        pytest.param("2147483647:0", User(2**31 - 1, 0, (), "/"), id="largest"),
        pytest.param("daemon", User(2, 2, (), "/"), id="relative-home"),
        pytest.param("short:short", User(7, 60, (), "/"), id="lines-cut-short"),
        pytest.param("007", User(7, 8, (), "/"), id="leading-zeros"),
    ],
)
def test_finds(text: str, expected: User) -> None:
    assert resolve(text, FILES.get) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("nobody", r"/etc/passwd has no user 'nobody'.*--user", id="name"),
        pytest.param("worker:none", r"/etc/group has no group 'none'", id="group"),
        pytest.param("worker:", r"ends with a colon", id="empty-group"),
        pytest.param("huge", r"no user 'huge'", id="uid-too-large-in-passwd"),
        pytest.param("worker:huge", r"no group 'huge'", id="gid-too-large-in-group"),
        pytest.param("2147483648", r"2147483648 is no user or group id", id="2**31"),
        pytest.param("4294967296", r"is no user or group id", id="CVE-2024-40635-overflow"),
        pytest.param("-1", r"is no user or group id", id="negative"),
        pytest.param("0:4294967295", r"is no user or group id", id="gid-overflow"),
        pytest.param("9" * 5000, r"is no user or group id", id="very-long"),
        pytest.param("broken", r"no user 'broken'", id="line-without-fields"),
        pytest.param("# comment", r"no user", id="comment"),
        pytest.param("wor\nker", r"no user 'wor\\nker'", id="line-break"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(UserUnknown, match=message):
        resolve(text, FILES.get)


def test_needs_no_passwd_for_numbers() -> None:
    assert resolve("5:6", lambda _: None) == User(5, 6)
    with pytest.raises(UserUnknown):
        resolve("root", lambda _: None)


def test_takes_the_first_of_two_lines() -> None:
    assert resolve("a", {b"etc/passwd": b"a:x:1:1::/1:\na:x:0:0::/2:\n"}.get).uid == 1


@pytest.mark.parametrize("home", [b"/a\0b", b"\xff", b"", b"~"])
def test_takes_no_home_that_is_no_path(home: bytes) -> None:
    assert resolve("a", {b"etc/passwd": b"a:x:1:1::" + home + b":"}.get).home == "/"


def _link_out(passwd: Path) -> None:
    passwd.symlink_to("/etc/passwd")


def _large(passwd: Path) -> None:
    passwd.write_bytes(PASSWD + b"#" * (1 << 20))


def _fifo(passwd: Path) -> None:
    os.mkfifo(passwd)


def _loop(passwd: Path) -> None:
    passwd.symlink_to("passwd")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(_link_out, "more than 40 links", id="link-to-itself-in-the-root"),
        pytest.param(_large, "more than 1048576 bytes", id="large"),
        pytest.param(_fifo, "no regular file", id="fifo"),
        pytest.param(_loop, "more than 40 links", id="loop"),
        pytest.param(Path.mkdir, "no regular file", id="directory"),
    ],
)
def test_UNP_11_reads_nothing_but_a_small_file_of_the_image(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    (tmp_path / "etc").mkdir()
    make(tmp_path / "etc/passwd")

    with pytest.raises(BundleRefused, match=f"the image's users cannot be read: .*{message}"):
        resolve("root", partial(read_file, tmp_path))
