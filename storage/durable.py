"""Files that survive a crash: the one place of fsync and rename, over a seam that tests can break.

The order is the requirement: file, fsync, rename, fsync of the directory. A failed fsync is final for its
file: Linux drops the dirty pages and a second call would lie, so the caller gives the file up.
"""

import ctypes
import errno
import fcntl
import functools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import cast

from storage.oci.errors import InsufficientStorage, RegistryError, Unavailable

# No bits for group and others, so the umask has nothing to take away.
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A symbolic link where a file of ours should be is as good as no file: O_NOFOLLOW says ELOOP.
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_RETRY_SECONDS = 5


class FileSystem:
    """Every call that touches the disk. Tests pass one that fails at the nth, or that forgets."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def read_into(self, fd: int, buffer: bytearray, offset: int) -> int:
        return os.preadv(fd, [buffer], offset)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        # Not fdatasync: a file that grew needs its inode written either way, so that would save nothing.
        os.fsync(fd)

    def lock(self, fd: int) -> None:
        """Take the exclusive flock or raise BlockingIOError."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def status(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def find(self, path: Path) -> os.stat_result:
        return os.lstat(path)

    def scan(self, path: Path) -> AbstractContextManager[Iterator["os.DirEntry[str]"]]:
        return os.scandir(path)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def make_directory(self, path: Path) -> None:
        os.mkdir(path, DIRECTORY_MODE)

    def free_bytes(self, path: Path) -> int:
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize


DISK = FileSystem()


def media_error(error: OSError) -> RegistryError:
    """Return ours for what the disk says. No path goes into it: clients read the message."""
    if error.errno in _FULL:
        return InsufficientStorage("the registry's disk is full")
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    return Unavailable(f"the registry's disk fails: {reason}", retry_after_seconds=_RETRY_SECONDS)


@contextmanager
def media_errors(missing: RegistryError | None = None) -> Iterator[None]:
    """Turn every OSError of the block into ours: `missing` when a file is not there, if it is given."""
    try:
        yield
    except OSError as error:
        if missing is not None and error.errno in _MISSING:
            raise missing from error
        raise media_error(error) from error


def regular_size(status: os.stat_result) -> int:
    """Return the size of a regular file; anything else in its place is as good as no file."""
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file")
    return status.st_size


def write_all(fd: int, data: memoryview, offset: int, disk: FileSystem = DISK) -> None:
    """Write all of `data`, a view of bytes, at `offset`."""
    while data:
        written = disk.write(fd, data, offset)
        data, offset = data[written:], offset + written


def sync_directory(path: Path, disk: FileSystem = DISK) -> None:
    """Make the names in a directory durable."""
    fd = disk.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.sync(fd)
    finally:
        os.close(fd)


def publish(source: Path, target: Path, disk: FileSystem = DISK) -> None:
    """Move a synced file to its name in a durable directory; durable when this returns.

    After an error the file has either name, whole in both cases.
    """
    disk.rename(source, target)
    sync_directory(target.parent, disk)


def write_file(temporary: Path, target: Path, data: bytes, disk: FileSystem = DISK) -> None:
    """Put a whole small file at its name, at once and durably: readers see the old one or the new one.

    `temporary` is a free name on the same file system; nothing has it afterwards, short of a crash.
    """
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
            disk.unlink(temporary)
        raise


class DurableDirectories:
    """Makes directories below a root and knows which are durable.

    That a directory exists does not say that its name survives a power loss: another process may have
    made it a moment ago, or died before its fsync. So each process syncs each parent once.
    """

    def __init__(self, root: Path, disk: FileSystem = DISK) -> None:
        self._disk = disk
        self._durable: set[Path] = set()
        with media_errors():
            self._make_root(root)
        self._durable.add(root)

    def make(self, path: Path) -> None:
        """Make a directory below the root, and its parents, each durable in its own parent."""
        if path in self._durable:
            return
        self.make(path.parent)
        with suppress(FileExistsError):
            self._disk.make_directory(path)
        sync_directory(path.parent, self._disk)
        self._durable.add(path)

    def forget(self, path: Path) -> None:
        """Look at a directory anew next time: something failed in it, it may be gone."""
        self._durable.discard(path)

    def _make_root(self, root: Path) -> None:
        try:
            self._disk.make_directory(root)
        except FileExistsError:
            pass
        except FileNotFoundError:
            self._make_root(root.parent)
            with suppress(FileExistsError):
                self._disk.make_directory(root)
        # Where the operator made the root, its parent is often closed to us, and durable long since.
        with suppress(PermissionError):
            sync_directory(root.parent, self._disk)


def sync_file_system(path: Path) -> None:
    """Make all that was written to the file system of `path` durable: one call for a whole tree.

    Raises OSError, as fsync does, for pages that could not be written.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _syncfs()(fd) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))
    finally:
        os.close(fd)


@functools.cache
def _syncfs() -> Callable[[int], int]:
    """Return Linux's syncfs(2); elsewhere there is sync, which says nothing of errors."""
    found = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return _sync if found is None else cast("Callable[[int], int]", found)


def _sync(_fd: int) -> int:
    os.sync()
    return 0
