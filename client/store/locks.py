"""Locks between processes: flocks on files or directories, which end with their holder."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Lock the file at `path`, made if need be; None when another has it. Closing the result unlocks.

    The lock is on the file that has the name now: one that was unlinked meanwhile is worth nothing.
    """
    while True:
        fd = os.open(path, _OPEN, 0o600)
        locked = _flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if locked and _has_name(fd, path):
            return fd
        os.close(fd)
        if not locked:
            return None


def lock(path: Path, *, shared: bool = False) -> int:
    """Lock the file at `path` and wait for it if need be. Closing the result unlocks."""
    while True:
        fd = os.open(path, _OPEN, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            if _has_name(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def try_lock_directory(path: Path) -> int | None:
    """Lock an existing directory; None when another has it, or when it is gone."""
    try:
        fd = os.open(path, _OPEN_DIRECTORY)
    except FileNotFoundError:
        return None
    if _flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB) and _has_name(fd, path):
        return fd
    os.close(fd)
    return None


def wait_for(path: Path, wait: Callable[[], None]) -> int:
    """Lock the file at `path`; `wait` is called between tries, and may raise to give up."""
    while (fd := try_lock(path)) is None:
        wait()
    return fd


@contextmanager
def released(fd: int) -> Iterator[None]:
    """Hold a lock for the block."""
    try:
        yield
    finally:
        os.close(fd)


def _flock(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation)
    except BlockingIOError:
        return False
    except BaseException:
        os.close(fd)
        raise
    return True


def _has_name(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False
