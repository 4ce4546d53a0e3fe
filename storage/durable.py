"""Files that survive a crash: the one place of fsync and rename, over a seam that tests can break.

The order is the requirement: file, fsync, rename, fsync of the directory. A failed fsync is final for its
file: Linux drops the dirty pages and a second call would lie.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.oci.errors import InsufficientStorage, Unavailable

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

_FULL = (errno.ENOSPC, errno.EDQUOT)


class FileSystem:
    """Every call that changes the disk. Tests pass one that fails at the nth, or that forgets."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def make_directory(self, path: Path) -> None:
        os.mkdir(path, DIRECTORY_MODE)


DISK = FileSystem()


@contextmanager
def media_errors() -> Iterator[None]:
    """Turn what the disk says into our errors; FileNotFoundError is left to who knows what is missing."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage("the registry's disk is full") from error
        raise Unavailable(f"the registry's disk fails: {error.strerror}", retry_after_seconds=5) from error


def sync_directory(path: Path, disk: FileSystem = DISK) -> None:
    """Make the names in a directory durable."""
    fd = disk.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.sync(fd)
    finally:
        os.close(fd)


def make_directories(path: Path, disk: FileSystem = DISK) -> None:
    """Make a directory and its parents, each durable in its own parent."""
    if path.is_dir():
        return
    make_directories(path.parent, disk)
    with suppress(FileExistsError):
        disk.make_directory(path)
    sync_directory(path.parent, disk)


def publish(source: Path, target: Path, disk: FileSystem = DISK) -> None:
    """Move a synced file to its name; durable when this returns. The target's directory is made."""
    make_directories(target.parent, disk)
    disk.rename(source, target)
    sync_directory(target.parent, disk)


def write_file(target: Path, data: bytes, disk: FileSystem = DISK) -> None:
    """Put a whole small file at its name, at once and durably: readers see the old one or the new one."""
    make_directories(target.parent, disk)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        fd = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_all(fd, memoryview(data), 0, disk)
            disk.sync(fd)
        finally:
            os.close(fd)
        publish(temporary, target, disk)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_all(fd: int, data: memoryview, offset: int, disk: FileSystem = DISK) -> None:
    """Write all of `data` at `offset`."""
    while data:
        written = disk.write(fd, data, offset)
        data, offset = data[written:], offset + written
