"""Directories of a tree, reached by descriptors that no link, `..` or other process leads out of it (UNP-03).

openat2 does it in one call where no link is on the way. Otherwise, and on kernels without it, a walk opens
one name after the other and expands links itself, inside the root as chroot would.
"""

import ctypes
import errno
import os
import stat
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from client.unpack import names
from client.unpack.errors import Malformed, Unsafe
from client.unpack.limits import LINKS

# O_PATH opens a directory that its mode closes to us, and never a device or a fifo.
_PLACE = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
# EAGAIN: something was renamed meanwhile. The others are for the walk to explain, or to get past.
_WALK = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EAGAIN, errno.EXDEV, errno.ENOSYS, errno.EPERM)


class _OpenHow(ctypes.Structure):
    """Source: openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _how(flags: int) -> _OpenHow:
    return _OpenHow(flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS)


_HOW = {flags: _how(flags) for flags in (_PLACE, _LIST)}
_libc = ctypes.CDLL(None, use_errno=True)


def openat2(root: int, path: bytes, flags: int) -> int:
    """Open a directory below `root`, no link on the way. Raises OSError."""
    fd = _libc.syscall(_SYS_OPENAT2, root, path, ctypes.byref(_HOW[flags]), ctypes.sizeof(_OpenHow))
    if fd < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(fd)


class Place(NamedTuple):
    """An open directory and its path from the root, free of links. Whoever gets it closes `fd`."""

    fd: int
    path: bytes


class Missing(Exception):
    """There is no such directory, or a whiteout where it would be."""


MakeDirectory = Callable[[Place, bytes, os.stat_result | None], None]
"""Make the directory `name` in a place, where there is nothing or (its status) a whiteout."""


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


class Tree:
    """The directories below `root`. With `overlay`, 0:0 devices are whiteouts and so nothing at all."""

    def __init__(self, root: int, *, overlay: bool) -> None:
        self.root = root
        self._overlay = overlay

    def enter(self, path: bytes, make: MakeDirectory | None = None) -> Place:
        """Open the directory `path`, links on the way followed inside the root.

        What is missing is made with `make`. Raises Missing without it, Malformed where something else is in
        the way, Unsafe for too many links, LimitExceeded.
        """
        if not path:
            return Place(os.dup(self.root), b"")
        try:
            return Place(openat2(self.root, path, _PLACE), path)
        except OSError as error:
            if error.errno not in _WALK:
                raise
        return _Walk(self.root, path, overlay=self._overlay).run(make)

    def list(self, path: bytes) -> int:
        """Open the directory `path`, free of links, for reading. Raises OSError."""
        return open_directory(self.root, path, _LIST)


def open_directory(root: int, path: bytes, flags: int = _LIST) -> int:
    """Open the directory `path` below `root`, following no link at all. Raises OSError."""
    if not path:
        return os.open(".", flags, dir_fd=root)
    try:
        return openat2(root, path, flags)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EAGAIN):
            raise
    *way, last = path.split(b"/")
    fd = os.dup(root)
    try:
        for part in way:
            inner = os.open(part, _PLACE, dir_fd=fd)
            os.close(fd)
            fd = inner
        return os.open(last, flags, dir_fd=fd)
    finally:
        os.close(fd)


class _Walk:
    """One path's walk: `_fd` is open at `_done`, `_todo` are the names to come."""

    def __init__(self, root: int, path: bytes, *, overlay: bool) -> None:
        self._root = root
        self._overlay = overlay
        self._path = path
        self._done: list[bytes] = []
        self._todo = deque(path.split(b"/"))
        self._links = 0
        self._fd = os.dup(root)

    def run(self, make: MakeDirectory | None) -> Place:
        try:
            while self._todo:
                self._step(self._todo.popleft(), make)
            return Place(self._fd, names.join(b"", self._here()))
        except BaseException:
            os.close(self._fd)
            raise

    def _here(self) -> bytes:
        return b"/".join(self._done)

    def _step(self, name: bytes, make: MakeDirectory | None) -> None:
        if name in (b"", b"."):
            return
        if name == b"..":
            self._return_to(self._done[:-1])
            return
        try:
            self._descend(name)
        except FileNotFoundError:
            self._make(name, make, None)
        except NotADirectoryError:
            self._get_past(name, make)

    def _descend(self, name: bytes) -> None:
        inner = os.open(name, _PLACE, dir_fd=self._fd)
        os.close(self._fd)
        self._fd = inner
        self._done.append(name)

    def _get_past(self, name: bytes, make: MakeDirectory | None) -> None:
        """Follow a link, make a directory of a whiteout. Raises Malformed for anything else."""
        status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            self._follow(os.readlink(name, dir_fd=self._fd))
        elif self._overlay and is_whiteout(status):
            self._make(name, make, status)
        else:
            raise Malformed("a parent that is no directory", self._path)

    def _make(self, name: bytes, make: MakeDirectory | None, whiteout: os.stat_result | None) -> None:
        if make is None:
            raise Missing
        here = self._here()
        names.join(here, name)
        make(Place(self._fd, here), name, whiteout)
        self._descend(name)

    def _follow(self, target: bytes) -> None:
        self._links += 1
        if self._links > LINKS:
            raise Unsafe(f"more than {LINKS} links on the way", self._path)
        if target.startswith(b"/"):
            self._return_to([])
        self._todo.extendleft(reversed(target.split(b"/")))

    def _return_to(self, done: list[bytes]) -> None:
        """Go up by opening from the root again: `..` of a directory that was moved could be anywhere."""
        fd = open_directory(self._root, b"/".join(done), _PLACE)
        os.close(self._fd)
        self._fd, self._done = fd, done
