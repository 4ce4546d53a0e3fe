"""Layers in overlay form, merged name by name by the rules of overlayfs.

A whiteout or a file hides what lower layers have under its name; directories merge until one is opaque.
Each layer is reached through the descriptor of its root, and paths in it are free of links.
Source: kernel, Documentation/filesystems/overlayfs.rst.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from client.errors import DiskFailed
from client.unpack.errors import UnpackError
from client.unpack.paths import Missing, Tree, is_whiteout
from client.view.errors import PathClosed

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_ATTRIBUTE = (errno.ENODATA, errno.ENOTSUP)
_CLOSED = (errno.EACCES, errno.EPERM)


class Found(NamedTuple):
    """A name of a merged directory: what it is in each layer that shows it, uppermost first."""

    name: bytes
    layers: tuple[int, ...]
    statuses: tuple[os.stat_result, ...]


class _Merge:
    """What one name is so far, layer after layer from the uppermost on."""

    __slots__ = ("closed", "layers", "statuses")

    def __init__(self) -> None:
        self.layers: tuple[int, ...] = ()
        self.statuses: tuple[os.stat_result, ...] = ()
        self.closed = False

    def add(self, layer: int, status: os.stat_result) -> None:
        is_directory = stat.S_ISDIR(status.st_mode)
        if is_whiteout(status) or (self.layers and not is_directory):
            self.closed = True
            return
        self.layers += (layer,)
        self.statuses += (status,)
        self.closed = not is_directory

    def found(self, name: bytes) -> Found | None:
        return Found(name, self.layers, self.statuses) if self.layers else None


class Layers:
    """The diff directories of an image, uppermost first; `close` them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._open = ExitStack()
        self._trees: list[Tree] = []
        try:
            with disk_errors(b""):
                for path in paths:
                    root = os.open(path, _ROOT)
                    self._open.callback(os.close, root)
                    self._trees.append(Tree(root, overlay=True))
                    # Overlayfs ignores the mark on a layer's root, so the layers below it are left out.
                    if is_opaque(root, b"."):
                        break
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._open.close()

    def root(self) -> Found:
        statuses = tuple(os.fstat(tree.root) for tree in self._trees)
        return Found(b"", tuple(range(len(statuses))), statuses)

    @contextmanager
    def parent(self, layer: int, path: bytes) -> Iterator[tuple[int, bytes]]:
        """Open the directory of `path` in one layer, for what works by descriptor and name."""
        directory, _, name = path.rpartition(b"/")
        with disk_errors(path):
            place = self._trees[layer].enter(directory)
            try:
                yield place.fd, name or b"."
            finally:
                os.close(place.fd)

    def child(self, path: bytes, layers: Sequence[int], name: bytes) -> Found | None:
        """Look up one name in the directory that these layers make at `path`."""
        merge = _Merge()
        with disk_errors(path):
            for layer in layers:
                self._look(path, layer, name, merge, is_last=layer == layers[-1])
                if merge.closed:
                    break
        return merge.found(name)

    def _look(self, path: bytes, layer: int, name: bytes, merge: _Merge, *, is_last: bool) -> None:
        place = self._trees[layer].enter(path)
        try:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
            _add(merge, layer, status, place.fd, name, is_last=is_last)
        except FileNotFoundError:
            pass
        finally:
            os.close(place.fd)

    def children(self, path: bytes, layers: Sequence[int]) -> list[Found]:
        """Return all names of the directory that these layers make at `path`, sorted by their bytes."""
        merges: dict[bytes, _Merge] = {}
        with disk_errors(path):
            for layer in layers:
                self._list(path, layer, merges, is_last=layer == layers[-1])
        found = (merges[name].found(name) for name in sorted(merges))
        return [child for child in found if child is not None]

    def _list(self, path: bytes, layer: int, merges: dict[bytes, _Merge], *, is_last: bool) -> None:
        fd = self._trees[layer].list(path)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    merge = merges.setdefault(name, _Merge())
                    if not merge.closed:
                        status = entry.stat(follow_symlinks=False)
                        _add(merge, layer, status, fd, name, is_last=is_last)
        finally:
            os.close(fd)


def _add(
    merge: _Merge, layer: int, status: os.stat_result, directory: int, name: bytes, *, is_last: bool
) -> None:
    merge.add(layer, status)
    if not merge.closed and not is_last:
        merge.closed = is_opaque(directory, name)


def is_opaque(directory: int, name: bytes) -> bool:
    """Tell whether a directory hides those of lower layers; one that its mode closes to its owner does."""
    for attribute in _OPAQUE:
        try:
            if os.getxattr(own_path(directory, name), attribute, follow_symlinks=False) == b"y":
                return True
        except OSError as error:
            if error.errno in _CLOSED:
                # Nobody can list it either. Guessing the other way might show files that are hidden.
                return True
            if error.errno not in _NO_ATTRIBUTE:
                raise
    return False


def own_path(directory: int, name: bytes) -> bytes:
    """Return a way to `name` through our own descriptor, for calls that take no descriptor."""
    return b"/proc/self/fd/%d/%b" % (directory, name)


@contextmanager
def disk_errors(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _CLOSED:
            raise PathClosed.at(
                path, "its mode closes it to you; try as root, or inside `unshare -Ur`"
            ) from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise DiskFailed(f"a layer cannot be read: {reason}; try `cargohold store check`") from error
    except (Missing, UnpackError) as error:
        # What was there a moment ago.
        raise DiskFailed("a layer was changed while it was read; try `cargohold store check`") from error
