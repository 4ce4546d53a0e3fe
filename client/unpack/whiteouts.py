"""What a layer says about the layers below: marked for overlayfs, or done to a flat tree.

A whiteout never touches what its own layer made, before or after it (TAR-96, TAR-97).
Source: image-spec layer.md, "Whiteouts"; kernel, Documentation/filesystems/overlayfs.rst.
"""

import os
import stat
from collections.abc import Callable
from typing import Protocol

from client.unpack import removal
from client.unpack.names import join
from client.unpack.paths import Place, Tree

_OPAQUE = "overlay.opaque"


class Whiteouts(Protocol):
    opaque_root: bool

    def made(self, path: bytes) -> None:
        """Note that this layer made what is at `path`."""

    def replaced(self, path: bytes) -> None:
        """Note that the directory at `path` stands where this layer had a whiteout or a file."""

    def hide(self, place: Place, name: bytes) -> None:
        """Hide `name` of the lower layers."""

    def hide_all(self, place: Place) -> None:
        """Hide all that lower layers have in the directory."""


class OverlayMarks:
    """A 0:0 device hides a name; the xattr overlay.opaque what is below a directory."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.opaque_root = False

    def made(self, path: bytes) -> None:
        """All in the tree is this layer's."""

    def replaced(self, path: bytes) -> None:
        # Merged, a directory of the lower layers would show through, as it would not in layer order.
        fd = self._tree.list(path)
        try:
            try:
                os.setxattr(fd, f"trusted.{_OPAQUE}", b"y")
            except PermissionError:
                # An ordinary user's overlay is mounted with userxattr.
                os.setxattr(fd, f"user.{_OPAQUE}", b"y")
        finally:
            os.close(fd)

    def hide(self, place: Place, name: bytes) -> None:
        try:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        except FileNotFoundError:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=place.fd)
            return
        if stat.S_ISDIR(status.st_mode):
            self.replaced(join(place.path, name))

    def hide_all(self, place: Place) -> None:
        self.replaced(place.path)
        if not place.path:
            self.opaque_root = True


class NothingBelow:
    """The lowest layer of a flat tree has nothing to hide."""

    opaque_root = False

    def made(self, path: bytes) -> None: ...
    def replaced(self, path: bytes) -> None: ...
    def hide(self, place: Place, name: bytes) -> None: ...
    def hide_all(self, place: Place) -> None: ...


class FlatDeletions:
    """Deletes what is not this layer's.

    What is, is remembered by 64 bits of a keyed hash each, so that two million files stay below 256 MiB.
    """

    opaque_root = False

    def __init__(self, tree: Tree, forget: Callable[[bytes], None]) -> None:
        self._tree = tree
        self._forget = forget
        self._made: set[int] = set()
        # A directory cleared once holds only what this layer made; clearing it again and again would be slow.
        self._cleared: set[int] = set()

    def made(self, path: bytes) -> None:
        self._made.add(hash(path))

    def _is_ours(self, path: bytes) -> bool:
        return hash(path) in self._made

    def replaced(self, path: bytes) -> None:
        """It is replaced already."""

    def hide(self, place: Place, name: bytes) -> None:
        path = join(place.path, name)
        try:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            self._clear(path)
            if not self._is_ours(path) and removal.remove_directory(self._tree, path):
                self._forget(path)
        elif not self._is_ours(path):
            os.unlink(name, dir_fd=place.fd)

    def hide_all(self, place: Place) -> None:
        self._clear(place.path)

    def _clear(self, path: bytes) -> None:
        if hash(path) not in self._cleared:
            self._cleared.add(hash(path))
            removal.clear(self._tree, path, self._is_ours, self._forget)
