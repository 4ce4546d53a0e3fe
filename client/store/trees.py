"""Compare two unpacked trees in all that a layer says of them.

What its mode closes to an ordinary user is compared by its attributes alone: a layer is never changed.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from client.unpack.errors import printable
from client.unpack.paths import is_whiteout

_BLOCK = 1024 * 1024


def difference(expected: Path, found: Path) -> str | None:
    """Say where two trees first differ: in names, kinds, modes, owners, times, links, xattrs or content."""
    links: dict[int, int] = {}
    for path in _walk(os.fsencode(expected), os.fsencode(found)):
        ours, theirs = _join(os.fsencode(expected), path), _join(os.fsencode(found), path)
        if (what := _entry_difference(ours, theirs, links)) is not None:
            return f"{what}: {printable(path or b'/')}"
    return None


def _walk(expected: bytes, found: bytes) -> Iterator[bytes]:
    """Yield the paths in either tree, from the roots."""
    todo = [b""]
    while todo:
        path = todo.pop()
        yield path
        names: set[bytes] = set()
        for root in (expected, found):
            full = _join(root, path)
            if os.path.isdir(full) and not os.path.islink(full):
                with suppress(PermissionError):
                    names.update(os.listdir(full))
        todo += [_join(path, name) for name in sorted(names, reverse=True)]


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path and name else path or name


def _entry_difference(ours: bytes, theirs: bytes, links: dict[int, int]) -> str | None:
    try:
        expected, found = os.lstat(ours), os.lstat(theirs)
    except FileNotFoundError as error:
        return "something is missing" if error.filename == theirs else "something was added"
    except PermissionError:
        return None
    if is_whiteout(expected) and is_whiteout(found):
        return None  # all else about it is chance
    for field in ("st_mode", "st_uid", "st_gid", "st_rdev", "st_nlink", "st_mtime_ns"):
        if field == "st_nlink" and stat.S_ISDIR(expected.st_mode):
            continue  # counts differently from one file system to the next
        if getattr(expected, field) != getattr(found, field):
            return f"another {field.removeprefix('st_').removesuffix('_ns')}"
    if links.setdefault(expected.st_ino, found.st_ino) != found.st_ino:
        return "another hard link"
    if stat.S_ISLNK(expected.st_mode) and os.readlink(ours) != os.readlink(theirs):
        return "another link target"
    if stat.S_ISREG(expected.st_mode) and expected.st_size != found.st_size:
        return "other content"
    with suppress(PermissionError):
        if _xattrs(ours) != _xattrs(theirs):
            return "other xattrs"
        if stat.S_ISREG(expected.st_mode) and not _same_content(ours, theirs):
            return "other content"
    return None


def _xattrs(path: bytes) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _same_content(ours: bytes, theirs: bytes) -> bool:
    """Compare files of one size."""
    with open(ours, "rb", buffering=0) as first, open(theirs, "rb", buffering=0) as second:
        while data := first.read(_BLOCK):
            if second.read(len(data)) != data:
                return False
    return True
