"""One name of a merged tree."""

import stat
from typing import NamedTuple

from client.unpack.names import join

Inode = tuple[int, int]
"""Device and number: one inode in two layers' stacks is the very same file or directory."""


class Entry(NamedTuple):
    """A named tuple: one is made for every file, and a frozen dataclass takes five times as long."""

    path: bytes
    """From the root and free of links; the root is b""."""
    mode: int
    """Type and permission bits, as in st_mode."""
    uid: int
    gid: int
    size: int
    """Of a regular file in bytes, of a symbolic link the length of its target; else zero."""
    mtime: int
    """Nanoseconds since 1970."""
    device: int
    """What a device node stands for, as in st_rdev; else zero."""
    links: int
    """Names of the file, hidden ones too; 1 for a directory."""
    target: bytes | None
    """Where a symbolic link leads."""
    layers: tuple[int, ...]
    """The layers that show it, uppermost first: several for a merged directory only."""
    inodes: tuple[Inode, ...]
    """What it is in each of these. Names of one hard link have the same."""

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_device(self) -> bool:
        return stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode)

    def child(self, name: bytes) -> bytes:
        """Return the path of what the directory has as `name`."""
        return join(self.path, name)
