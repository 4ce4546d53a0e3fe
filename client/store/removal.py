"""Remove whole trees, however deep and whatever modes their directories have."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Remove a file or directory whose parent holds nothing else of value, and which others may be removing.

    Each inner directory is first moved up beside `path`: so no depth is too deep, and no name too long.
    """
    try:
        top = os.open(path.parent, _LIST)
    except FileNotFoundError:
        return
    try:
        todo = [path.name]
        while todo:
            todo += _flatten(top, todo.pop())
    finally:
        os.close(top)


def _flatten(top: int, name: str) -> list[str]:
    """Remove `name` but for its inner directories, which get names of their own beside it; return those."""
    try:
        fd = _open(top, name)
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=top)
        return []
    try:
        moved = _empty(top, fd)
    finally:
        os.close(fd)
    # Another process may be at it too, and have removed it or put more into the way.
    with suppress(OSError):
        os.rmdir(name, dir_fd=top)
    return moved


def _open(top: int, name: str) -> int:
    try:
        return os.open(name, _LIST, dir_fd=top)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=top)
        return os.open(name, _LIST, dir_fd=top)


def _empty(top: int, fd: int) -> list[str]:
    moved = []
    if os.geteuid() != 0:
        os.fchmod(fd, 0o700)
    with os.scandir(fd) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    moved.append(_move_up(top, fd, entry.name))
                else:
                    os.unlink(entry.name, dir_fd=fd)
    return moved


def _move_up(top: int, fd: int, name: str) -> str:
    new = secrets.token_hex(8)
    # Moving a directory writes its `..`, for which its owner needs the right to write to it.
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=fd)
    os.rename(name, new, src_dir_fd=fd, dst_dir_fd=top)
    return new
