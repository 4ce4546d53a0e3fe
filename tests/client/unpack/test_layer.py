"""What the two functions of the package refuse before they begin, and how the disk's failures look."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.unpack.errors import NoSpace, StorageFailed, UnpackError, Unsupported
from client.unpack.layer import apply_layers, unpack_layer
from client.unpack.options import Form, Options
from tests.client.unpack.archives import archive, directory, file, symlink
from tests.client.unpack.overlays import needs_root
from tests.client.unpack.sandbox import Sandbox


def test_the_overlay_form_needs_an_empty_directory(sandbox: Sandbox) -> None:
    (sandbox.root / "there").touch()

    with pytest.raises(Unsupported, match="needs an empty directory"):
        sandbox.unpack(archive(file("f")))


def test_a_flat_tree_is_not_made_of_layers_in_overlay_form(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="one by one"):
        apply_layers([], sandbox.root, options=Options())


@pytest.mark.parametrize("name", ["missing", "file", "link"])
def test_refuses_what_is_no_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(".")

    with pytest.raises(StorageFailed):
        unpack_layer(io.BytesIO(), tmp_path / name, diff_id=None, options=Options())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", where], check=True)
    yield where
    subprocess.run(["umount", where], check=True)


@needs_root
@pytest.mark.parametrize("form", Form)
def test_names_the_file_that_fills_the_disk(small_disk: Path, form: Form) -> None:
    target = small_disk / "target"
    target.mkdir()
    layer = archive(file("a", bytes(1000)), file("b", bytes(2 << 20)))

    with pytest.raises(NoSpace, match="the disk is full: 'b'"):
        unpack_layer(io.BytesIO(layer), target, diff_id=None, options=Options(form=form))


@needs_root
def test_names_the_entry_that_the_file_system_refuses(small_disk: Path) -> None:
    """A directory that something is mounted on cannot be removed."""
    busy = small_disk / "busy"
    busy.mkdir()
    subprocess.run(["mount", "--bind", small_disk, busy], check=True)
    try:
        with pytest.raises(StorageFailed, match=r"refuses: Device or resource busy: '\.wh\.busy'"):
            unpack_layer(
                io.BytesIO(archive(file(".wh.busy"))),
                small_disk,
                diff_id=None,
                options=Options(form=Form.FLAT),
            )
    finally:
        subprocess.run(["umount", busy], check=True)


def test_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    good = archive(directory("d"), file("d/f"), symlink("l", "d"), file("l/g"), file(".wh.x"))
    for number, layer in enumerate(
        [good, good + b"junk", archive(symlink("a", "a"), file("a/b")), b"junk" * 999]
    ):
        (tmp_path / str(number)).mkdir()
        try:
            unpack_layer(io.BytesIO(layer), tmp_path / str(number), diff_id=None, options=Options())
        except UnpackError as error:
            del error

    assert len(os.listdir("/proc/self/fd")) == before


WITHOUT_ISAL = """
import sys, zlib
import pytest
sys.modules["isal"] = None
from client.unpack import decompress
assert decompress.inflate is zlib
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""


def test_zlib_stands_in_for_isal() -> None:
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_ISAL, here / "test_compression.py"],
        cwd=here.parent.parent.parent,
        check=False,
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout


def test_imports_without_linux() -> None:
    """macOS has no openat2, O_PATH or O_TMPFILE; the rest of the client works there."""
    code = """
import os
for name in ("O_PATH", "O_TMPFILE", "setxattr", "getxattr", "listxattr", "removexattr"):
    delattr(os, name)
import client.unpack.layer, client.unpack.lowers, client.unpack.reading
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent.parent.parent)
