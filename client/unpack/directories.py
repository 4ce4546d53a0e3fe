"""What directories will look like when nothing is made in them any more (UNP-06)."""

import os
import stat
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from client.unpack.attributes import Attributes, Described
from client.unpack.errors import LimitExceeded
from client.unpack.paths import Tree

# Root's, and of 1970, so that two runs make the same tree.
_IMPLIED_MODE = 0o755
# About what an item costs beside its path and xattrs.
_OVERHEAD = 250


class _Waiting(NamedTuple):
    mode: int
    uid: int
    gid: int
    mtime: int
    atime: int
    xattrs: Mapping[str, bytes]
    implied: bool
    found: bool
    """It was there before, undescribed: its mode and times are to be as they were."""


class Directories:
    """The directories of a tree, by path free of links; open to their owner alone until `describe`."""

    def __init__(self, tree: Tree, limit: int) -> None:
        self._tree = tree
        self._limit = limit
        self._waiting: dict[bytes, _Waiting] = {}
        self._size = 0

    def add(self, path: bytes, entry: Described) -> None:
        """Remember what a layer says of a directory; the last word counts."""
        self._remember(
            path,
            _Waiting(
                entry.mode,
                entry.uid,
                entry.gid,
                entry.mtime,
                entry.atime,
                entry.xattrs,
                implied=False,
                found=False,
            ),
        )

    def imply(self, path: bytes) -> None:
        """Remember a directory that no entry describes."""
        self._remember(
            path, _Waiting(_IMPLIED_MODE, 0, 0, 0, 0, MappingProxyType({}), implied=True, found=False)
        )

    def find(self, path: bytes, fd: int) -> None:
        """Remember mode and times of a directory that was there before, unless it is known."""
        if path not in self._waiting:
            status = os.fstat(fd)
            mode, times = stat.S_IMODE(status.st_mode), (status.st_mtime_ns, status.st_atime_ns)
            self._remember(
                path, _Waiting(mode, 0, 0, *times, MappingProxyType({}), implied=False, found=True)
            )

    def forget(self, path: bytes) -> None:
        if waiting := self._waiting.pop(path, None):
            self._size -= _size(path, waiting)

    def implied(self) -> tuple[bytes, ...]:
        return tuple(path for path, waiting in self._waiting.items() if waiting.implied)

    def describe(self, attributes: Attributes) -> None:
        """Give all their attributes, the innermost first: it may be closed to us afterwards."""
        for path in sorted(self._waiting, reverse=True):
            waiting = self._waiting[path]
            fd = self._tree.list(path)
            try:
                if waiting.found:
                    os.fchmod(fd, waiting.mode)
                    os.utime(fd, ns=(waiting.atime, waiting.mtime))
                else:
                    attributes.to_open(fd, waiting)
            finally:
                os.close(fd)
        self._waiting.clear()

    def _remember(self, path: bytes, waiting: _Waiting) -> None:
        self.forget(path)
        self._waiting[path] = waiting
        self._size += _size(path, waiting)
        if self._size > self._limit:
            raise LimitExceeded(f"directories that take more than {self._limit} bytes to remember", path)


def _size(path: bytes, waiting: _Waiting) -> int:
    xattrs = sum(len(name) + len(value) for name, value in waiting.xattrs.items())
    return _OVERHEAD + len(path) + xattrs
