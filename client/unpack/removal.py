"""Remove whole directories, however deep and whatever a second process does: by descriptors, no recursion."""

import errno
import os
from collections.abc import Callable

from client.unpack.names import join
from client.unpack.paths import Tree

Keeps = Callable[[bytes], bool]
"""Whether the file at a path stays; a directory stays with any of its files."""


def clear(tree: Tree, path: bytes, keeps: Keeps, forget: Callable[[bytes], None]) -> None:
    """Remove what is in the directory `path`, free of links, save what is kept.

    `forget` hears of each directory that went. Raises OSError.
    """
    # A directory is met twice: to remove its files, then, its directories gone, to remove it.
    todo = [(path, False)]
    while todo:
        here, emptied = todo.pop()
        if not emptied:
            todo.append((here, True))
            todo.extend((join(here, name), False) for name in _remove_files(tree, here, keeps))
        elif here != path and not keeps(here) and remove_directory(tree, here):
            forget(here)


def _remove_files(tree: Tree, path: bytes, keeps: Keeps) -> list[bytes]:
    """Remove all but directories; return the names of these."""
    fd = tree.list(path)
    try:
        directories = []
        with os.scandir(fd) as found:
            for entry in found:
                name = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    directories.append(name)
                elif not keeps(join(path, name)):
                    os.unlink(name, dir_fd=fd)
        return directories
    finally:
        os.close(fd)


def remove_directory(tree: Tree, path: bytes) -> bool:
    """Remove the directory if it is empty; return whether it was."""
    parent, _, name = path.rpartition(b"/")
    fd = tree.list(parent)
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        # Something that is kept is inside.
        return False
    else:
        return True
    finally:
        os.close(fd)
