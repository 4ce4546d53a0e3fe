import ast
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import durable
from storage.durable import DurableDirectories, media_errors, publish, write_all, write_file
from storage.oci.errors import BlobUnknown, InsufficientStorage, RegistryError, Unavailable
from tests.storage.disks import FailNth, Recording, ShortWrites

STORAGE = Path(durable.__file__).parent


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, InsufficientStorage),
        (errno.EDQUOT, InsufficientStorage),
        (errno.EFBIG, InsufficientStorage),
        (errno.EIO, Unavailable),
        (errno.EMFILE, Unavailable),
        (errno.ENFILE, Unavailable),
        (errno.ENOMEM, Unavailable),
        (errno.EROFS, Unavailable),
        (errno.EACCES, Unavailable),
        (errno.ENOENT, Unavailable),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else "",
)
def test_turns_errors_of_the_disk_into_ours(number: int, expected: type[RegistryError]) -> None:
    with pytest.raises(expected) as raised, media_errors():
        raise OSError(number, os.strerror(number), "/secret/path")

    assert "secret" not in raised.value.message


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.ELOOP])
def test_says_what_is_missing_where_the_caller_knows(number: int) -> None:
    with pytest.raises(BlobUnknown, match="gone"), media_errors(BlobUnknown("gone")):
        raise OSError(number, os.strerror(number))


def test_says_when_to_try_a_failing_disk_again() -> None:
    with pytest.raises(Unavailable) as raised, media_errors():
        raise OSError(errno.EIO, "Input/output error")

    assert raised.value.headers["Retry-After"] == "5"


def test_writes_on_after_a_short_write(tmp_path: Path) -> None:
    disk = ShortWrites(most=3)
    fd = disk.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        write_all(fd, memoryview(b"0123456789"), 2, disk)
    finally:
        os.close(fd)

    assert (tmp_path / "file").read_bytes() == b"\0\x000123456789"


def test_publishes_by_rename_then_fsync_of_the_directory(tmp_path: Path) -> None:
    disk = Recording(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "new").write_bytes(b"x")

    publish(tmp_path / "new", tmp_path / "there/name", disk)

    assert disk.calls == [("rename", "there/name"), ("sync", "there")]


def test_writes_a_file_in_the_order_that_survives(tmp_path: Path) -> None:
    disk = Recording(tmp_path)

    write_file(tmp_path / "new", tmp_path / "name", b"content", disk)

    assert disk.calls == [("write", "new"), ("sync", "new"), ("rename", "name"), ("sync", ".")]
    assert (tmp_path / "name").read_bytes() == b"content"


@pytest.mark.parametrize("operation", ["open", "write", "sync", "rename"])
def test_leaves_the_old_file_and_no_other_when_a_write_fails(tmp_path: Path, operation: str) -> None:
    (tmp_path / "name").write_bytes(b"old")

    with pytest.raises(OSError, match="Input/output error"):
        write_file(tmp_path / "new", tmp_path / "name", b"young", FailNth(operation, 1, errno.EIO))

    assert [path.name for path in tmp_path.iterdir()] == ["name"]
    assert (tmp_path / "name").read_bytes() == b"old"


def test_makes_each_new_directory_durable_in_its_parent(tmp_path: Path) -> None:
    disk = Recording(tmp_path)
    directories = DurableDirectories(tmp_path, disk)
    disk.calls.clear()

    directories.make(tmp_path / "a/b")
    directories.make(tmp_path / "a/b")

    assert disk.calls == [("make_directory", "a"), ("sync", "."), ("make_directory", "a/b"), ("sync", "a")]


def test_syncs_the_parent_of_a_directory_that_another_process_made(tmp_path: Path) -> None:
    """That one may have died between its mkdir and its fsync."""
    disk = Recording(tmp_path)
    directories = DurableDirectories(tmp_path, disk)
    (tmp_path / "a").mkdir()
    disk.calls.clear()

    directories.make(tmp_path / "a")

    assert disk.calls == [("sync", ".")]


def test_syncs_again_after_a_sync_that_failed(tmp_path: Path) -> None:
    disk = FailNth("sync", 2, errno.EIO, lasting=True)  # the first is of the root's parent
    directories = DurableDirectories(tmp_path, disk)

    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            directories.make(tmp_path / "a")
    disk.heal()
    directories.make(tmp_path / "a")


def test_makes_a_root_with_its_parents(tmp_path: Path) -> None:
    disk = Recording(tmp_path)

    DurableDirectories(tmp_path / "a/b", disk)

    assert disk.calls == [
        ("make_directory", "a"),
        ("sync", "."),
        ("make_directory", "a/b"),
        ("sync", "a"),
    ]


def test_takes_a_root_below_a_directory_that_it_may_not_read(tmp_path: Path) -> None:
    class Closed(Recording):
        def open(self, path: Path, flags: int) -> int:
            if path == tmp_path:
                raise PermissionError(errno.EACCES, "Permission denied")
            return super().open(path, flags)

    (tmp_path / "data").mkdir()

    DurableDirectories(tmp_path / "data", Closed(tmp_path)).make(tmp_path / "data/blobs")

    assert (tmp_path / "data/blobs").is_dir()


@pytest.mark.parametrize(
    "module", sorted(STORAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(STORAGE))
)
def test_leaves_rename_and_fsync_to_one_module(module: Path) -> None:
    found = [] if module.name == "durable.py" else list(_bare_calls(ast.parse(module.read_text())))

    assert found == []


def test_finds_a_bare_rename() -> None:
    source = "import os, shutil\nos.replace(a, b)\nfrom os import fsync\nshutil.move(a, b)\ns.replace('', '')"

    assert set(_bare_calls(ast.parse(source))) == {"os.replace", "shutil.move", "from os import fsync"}


_KEPT_IN_DURABLE = {
    "os": {"rename", "renames", "replace", "fsync", "fdatasync", "link"},
    "shutil": {"move"},
}


def _bare_calls(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in _KEPT_IN_DURABLE.get(node.value.id, ()):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            names = _KEPT_IN_DURABLE.get(node.module or "", set())
            yield from (f"from {node.module} import {name.name}" for name in node.names if name.name in names)
