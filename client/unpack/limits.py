"""How much one layer may ask for (UNP-07). Each is checked before anything is allocated for it."""

from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# One octet of a path's 4096 is the terminating NUL of the system call.
PATH = 4095
COMPONENT = 255
LINKS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes are bytes; the limits of one path, which are the kernel's too, are the constants above."""

    unpacked: int = 512 * GIB
    """Of the decompressed stream, and of all files with their holes."""
    entries: int = 2_000_000
    depth: int = 1024
    extension: int = MIB
    """Of a PAX header, a GNU long name or a sparse map."""
    xattrs: int = 64 * KIB
    """Of the names and values on one entry."""
    ratio: int = 200
    """Decompressed to compressed, once `ratio_from` bytes came out."""
    ratio_from: int = 64 * MIB
    zstd_window_log: int = 27
    directories: int = 64 * MIB
    """Of the paths and attributes kept in memory until the end, when directories get theirs."""
