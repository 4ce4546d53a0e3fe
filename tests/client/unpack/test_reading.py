"""UNP-11: files of an image that we read ourselves."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from client.unpack.errors import LimitExceeded, Malformed, StorageFailed, UnpackError, Unsafe
from client.unpack.reading import read_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "usr/etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0")
    (root / "usr/etc/group").write_text("root:x:0")
    return root


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("passwd", b"root:x:0:0", id="beside"),
        pytest.param("/usr/etc/group", b"root:x:0", id="absolute"),
        pytest.param("../usr/etc/group", b"root:x:0", id="up"),
        pytest.param("../../../../usr/etc/group", b"root:x:0", id="up-and-no-further"),
        pytest.param("../../secret", None, id="outside"),
        pytest.param("/proc/self/environ", None, id="magic"),
        pytest.param("nope/../passwd", None, id="through-nothing"),
    ],
)
def test_follows_links_inside(root: Path, target: str, expected: bytes | None) -> None:
    (root / "etc/link").symlink_to(target)

    assert read_file(root, b"etc/link") == expected


def test_follows_links_of_links(root: Path) -> None:
    (root / "deep").symlink_to("usr/etc")
    (root / "one").symlink_to("deep/../../etc/two")
    (root / "etc/two").symlink_to("/deep/group")

    assert read_file(root, b"/one") == b"root:x:0"


@pytest.mark.parametrize("name", [b"nope", b"nope/nope", b"etc/nope"])
def test_finds_nothing(root: Path, name: bytes) -> None:
    assert read_file(root, name) is None


def test_takes_a_file_of_exactly_the_limit(root: Path) -> None:
    assert read_file(root, b"etc/passwd", limit=10) == b"root:x:0:0"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        pytest.param(b"large", LimitExceeded, id="large"),
        pytest.param(b"etc", Malformed, id="directory"),
        pytest.param(b"/", Malformed, id="root"),
        pytest.param(b"to-directory", Malformed, id="link-to-directory"),
        pytest.param(b"to-dots", Malformed, id="link-to-dots"),
        pytest.param(b"to-above", Malformed, id="link-above-the-root"),
        pytest.param(b"fifo", Malformed, id="fifo"),
        pytest.param(b"round", Unsafe, id="round"),
        pytest.param(b"../secret", Unsafe, id="outside"),
        pytest.param(b"etc/passwd/x", Malformed, id="below-a-file"),
        pytest.param(b"socket", StorageFailed, id="socket"),
    ],
)
def test_refuses(root: Path, name: bytes, error: type[UnpackError]) -> None:
    (root / "large").write_bytes(bytes((1 << 20) + 1))
    (root / "to-directory").symlink_to("etc")
    (root / "to-dots").symlink_to("etc/..")
    (root / "to-above").symlink_to("/..")
    (root / "round").symlink_to("round")
    os.mkfifo(root / "fifo")
    # The whole path may be too long for an address.
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(root):
        server.bind("socket")

    with pytest.raises(error):
        read_file(root, name)
