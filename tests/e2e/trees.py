"""A directory tree as one comparable value."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """All that an image layer says of one path."""

    mode: int
    owner: tuple[int, int]
    size: int
    mtime: int
    device: int
    link: str
    hard_link: bytes
    attributes: tuple[tuple[str, bytes], ...]
    sha256: str


def tree(root: Path) -> dict[bytes, Entry]:
    """Describe each path below a root; the root itself is left out, for tools disagree on its time."""
    first_names: dict[tuple[int, int], bytes] = {}
    base = os.fsencode(root)
    paths = sorted(
        os.path.join(directory, name)
        for directory, directories, files in os.walk(base)
        for name in directories + files
    )
    return {os.path.relpath(path, base): _entry(path, base, first_names) for path in paths}


def _entry(path: bytes, base: bytes, first_names: dict[tuple[int, int], bytes]) -> Entry:
    status = os.lstat(path)
    is_file, is_link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    first = os.path.relpath(path, base)
    if is_file and status.st_nlink > 1:
        first = first_names.setdefault((status.st_dev, status.st_ino), first)
    return Entry(
        mode=status.st_mode,
        owner=(status.st_uid, status.st_gid),
        size=status.st_size if is_file else 0,
        mtime=int(status.st_mtime),
        device=status.st_rdev if is_device else 0,
        link=os.fsdecode(os.readlink(path)) if is_link else "",
        hard_link=first,
        attributes=tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        ),
        sha256=_sha256(path) if is_file else "",
    )


def _sha256(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
