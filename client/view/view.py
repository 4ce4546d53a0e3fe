"""The tree that an image's layers make together."""

import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Self

from client.errors import DiskFailed
from client.unpack.attributes import RECORD
from client.unpack.limits import COMPONENT, LINKS, PATH
from client.unpack.names import NOT_NAMES, join
from client.unpack.options import LARGEST_ID, Ownership
from client.view.entry import Entry
from client.view.errors import PathUnknown, PathUnusable
from client.view.layers import Found, Layers, own_path

_OVERLAY = ("trusted.overlay.", "user.overlay.")
# A fifo would keep an open waiting for its writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class View:
    """Reads layers in overlay form, uppermost first, as overlayfs would show them.

    `ownership` is how they were unpacked: RECORDED owners are read from where unpack wrote them, and are 0:0
    where nothing could be written. All reading is by descriptor; links lead nowhere but into the image.
    Close it, or use it in a `with`. Raises DiskFailed for a layer that cannot be read, and PathUnusable.
    """

    def __init__(self, layers: Sequence[Path], ownership: Ownership = Ownership.REAL) -> None:
        self._layers = Layers(layers)
        self._recorded = ownership is Ownership.RECORDED

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._layers.close()

    def root(self) -> Entry:
        found = self._layers.root()
        if not found.layers:
            raise PathUnknown("the image has no layers, so it has no files")
        return self._entry(b"", found)

    def find(self, path: bytes, *, follow: bool = True) -> Entry:
        """Return what is at `path`; links on the way always lead on, one at the end with `follow`.

        `..` and absolute links stay inside the image, whose root is its own parent. Raises PathUnknown where
        nothing is, PathUnusable for a file as a directory and for more than 40 links.
        """
        return _Walk(self, path, follow=follow).run()

    def list(self, directory: Entry) -> list[Entry]:
        """Return what a directory holds, sorted by the bytes of the names."""
        require_directory(directory)
        children = self._layers.children(directory.path, directory.layers)
        return [self._entry(join(directory.path, found.name), found) for found in children]

    def walk(self, top: Entry | None = None) -> Iterator[Entry]:
        """Yield all below a directory: each directory before its contents, names by their bytes."""
        todo = self.list(self.root() if top is None else top)[::-1]
        while todo:
            entry = todo.pop()
            yield entry
            if entry.is_directory:
                todo.extend(reversed(self.list(entry)))

    def open(self, file: Entry) -> BufferedReader:
        """Open a regular file for reading. Raises PathUnusable for anything else."""
        if not file.is_file:
            raise PathUnusable.at(file.path, f"no regular file but {kind(file)}")
        with self._layers.parent(file.layers[0], file.path) as (directory, name):
            fd = os.open(name, _READ, dir_fd=directory)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != file.inodes[0]:
            os.close(fd)
            raise DiskFailed("a layer was changed while it was read; try `cargohold store check`")
        return os.fdopen(fd, "rb")

    def open_file(self, path: bytes) -> BufferedReader:
        """Find and open a regular file for reading."""
        return self.open(self.find(path))

    def xattrs(self, entry: Entry) -> Mapping[str, bytes]:
        """Return its extended attributes, without those of overlayfs and of our own record of owners."""
        with self._layers.parent(entry.layers[0], entry.path) as (directory, name):
            place = own_path(directory, name)
            return {
                attribute: os.getxattr(place, attribute, follow_symlinks=False)
                for attribute in sorted(os.listxattr(place, follow_symlinks=False))
                if not attribute.startswith(_OVERLAY) and not (self._recorded and attribute == RECORD)
            }

    def child(self, directory: Entry, name: bytes) -> Entry | None:
        """Return what a directory has under one name, a link as itself; None where it has nothing."""
        require_directory(directory)
        if name in NOT_NAMES or len(name) > COMPONENT or b"\0" in name or b"/" in name:
            return None
        found = self._layers.child(directory.path, directory.layers, name)
        return None if found is None else self._entry(join(directory.path, name), found)

    def _entry(self, path: bytes, found: Found) -> Entry:
        status = found.statuses[0]
        layer, mode = found.layers[0], status.st_mode
        target = self._target(layer, path) if stat.S_ISLNK(mode) else None
        uid, gid = status.st_uid, status.st_gid
        if self._recorded:
            uid, gid = self._record(layer, path) if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else (0, 0)
        return Entry(
            path,
            mode,
            uid,
            gid,
            status.st_size if stat.S_ISREG(mode) or target is not None else 0,
            status.st_mtime_ns,
            status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0,
            1 if stat.S_ISDIR(mode) else status.st_nlink,
            target,
            found.layers,
            tuple((status.st_dev, status.st_ino) for status in found.statuses),
        )

    def _target(self, layer: int, path: bytes) -> bytes:
        with self._layers.parent(layer, path) as (directory, name):
            return os.readlink(name, dir_fd=directory)

    def _record(self, layer: int, path: bytes) -> tuple[int, int]:
        with self._layers.parent(layer, path) as (directory, name):
            try:
                value = os.getxattr(own_path(directory, name), RECORD, follow_symlinks=False)
            except OSError:
                # Not there, or a mode that closes the file to its owner closes this too.
                return 0, 0
        return _owner(value) or (0, 0)


def _owner(record: bytes) -> tuple[int, int] | None:
    """Read `uid:gid:mode`."""
    parts = record.split(b":")
    if len(parts) < 2 or not all(part.isdigit() and len(part) <= 10 for part in parts[:2]):
        return None
    uid, gid = int(parts[0]), int(parts[1])
    return (uid, gid) if max(uid, gid) <= LARGEST_ID else None


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFREG: "a regular file",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
}


def kind(entry: Entry) -> str:
    return _KINDS.get(stat.S_IFMT(entry.mode), "something unknown")


def require_directory(entry: Entry) -> None:
    if not entry.is_directory:
        raise PathUnusable.at(entry.path, f"no directory but {kind(entry)}")


class _Walk:
    """One path's walk, as the kernel's in a root of its own: `_trail` leads from the root to where it is."""

    def __init__(self, view: View, path: bytes, *, follow: bool) -> None:
        if b"\0" in path or len(path) > PATH:
            raise PathUnknown(f"no path of a file: it has a NUL or more than {PATH} bytes")
        self._view = view
        self._path = path
        self._follow = follow
        self._trail = [view.root()]
        self._todo = deque(path.split(b"/"))
        self._links = 0

    def run(self) -> Entry:
        while self._todo:
            self._step(self._todo.popleft())
        return self._trail[-1]

    def _step(self, name: bytes) -> None:
        # A name before `/` is a directory, even if nothing is behind that.
        require_directory(self._trail[-1])
        if name == b"..":
            del self._trail[max(1, len(self._trail) - 1) :]
        elif name not in NOT_NAMES:
            entry = self._view.child(self._trail[-1], name)
            if entry is None:
                raise PathUnknown.at(self._path, "the image has no such file")
            if entry.target is not None and (self._follow or self._todo):
                self._expand(entry.target)
            else:
                self._trail.append(entry)

    def _expand(self, target: bytes) -> None:
        self._links += 1
        if self._links > LINKS:
            raise PathUnusable.at(self._path, f"more than {LINKS} links on the way")
        if target.startswith(b"/"):
            del self._trail[1:]
        self._todo.extendleft(reversed(target.split(b"/")))
