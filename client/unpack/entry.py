"""One entry of a layer, as its headers have it: nothing is cleaned or believed yet."""

import enum
from collections.abc import Mapping
from typing import NamedTuple


class Kind(enum.Enum):
    FILE = "0"
    HARD_LINK = "1"
    SYMLINK = "2"
    CHARACTER_DEVICE = "3"
    BLOCK_DEVICE = "4"
    DIRECTORY = "5"
    FIFO = "6"


class Segment(NamedTuple):
    """Data of a sparse file: `length` bytes at `offset`."""

    offset: int
    length: int


class Entry(NamedTuple):
    """A named tuple: one is made for every file, and a frozen dataclass takes five times as long."""

    name: bytes
    kind: Kind
    mode: int
    """The twelve permission bits."""
    uid: int
    gid: int
    size: int
    """Of the file as it will be; zero for all but files."""
    mtime: int
    """Nanoseconds since 1970."""
    atime: int
    """Nanoseconds; the mtime where the header has none."""
    link: bytes
    device: tuple[int, int]
    """Major, minor."""
    xattrs: Mapping[str, bytes]
    segments: tuple[Segment, ...] | None
    """Where the data of a sparse file goes; None for a file without holes."""
