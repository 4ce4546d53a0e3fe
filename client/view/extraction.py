"""What an image has at a path, copied out of it to a directory of this machine."""

import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from io import BufferedReader
from pathlib import Path
from typing import cast

from client.errors import DiskFailed
from client.unpack import entry as tar
from client.unpack.entry import Kind, Segment
from client.unpack.errors import NoSpace, UnpackError, printable
from client.unpack.extract import Extractor
from client.unpack.limits import MIB
from client.unpack.options import Form, Options, Ownership
from client.unpack.tar_reader import TarReader
from client.view.entry import Entry, Inode
from client.view.errors import PathUnusable
from client.view.view import View
from storage.oci.errors import InsufficientStorage

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o7777
# Without its owner, a set-id file would give its power to the wrong one.
_SET_ID = 0o6000
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
    stat.S_IFIFO: Kind.FIFO,
}


def extract(view: View, path: bytes, directory: Path, *, archive: bool = False) -> Mapping[str, int]:
    """Copy what is at `path`, a link as itself and a directory with all in it, into an existing directory.

    It keeps its name; of the root each name is copied. Modes and times are kept, and with `archive` owners,
    attributes, set-id bits and devices too, as far as the caller may; without, all is the caller's. Nothing
    is overwritten, and a name appears when it is whole. Returns what was left out, and how often. Raises
    PathUnusable also where a name is taken, DiskFailed and InsufficientStorage.
    """
    top = view.find(path, follow=False)
    try:
        with tempfile.TemporaryDirectory(prefix=".cargohold-", dir=directory) as name:
            place = Path(name)
            notices = copy(view, top, place, archive=archive)
            # What is copied may be closed even to its owner; around it nobody else has a way in.
            place.chmod(0o700)
            for inner in sorted(os.listdir(place)):
                _publish(place / inner, directory / inner, top.path)
    except NoSpace as error:
        raise InsufficientStorage("the disk is full") from error
    except UnpackError as error:
        raise DiskFailed(f"{directory}: {error}") from error
    except OSError as error:
        raise DiskFailed(f"{directory}: {error.strerror}") from error
    return notices


def copy(view: View, top: Entry, place: Path, *, archive: bool, bare: bool = False) -> Mapping[str, int]:
    """Copy `top` into the empty directory `place`; with `bare` a directory's contents, and it to that.

    Raises UnpackError and OSError.
    """
    root = os.open(place, _LIST)
    try:
        options = Options(
            form=Form.FLAT,
            ownership=Ownership.REAL if archive and os.geteuid() == 0 else Ownership.RECORDED,
            devices=archive,
        )
        with closing(Extractor(root, options)) as extractor:
            prefix = top.path if bare or not top.path else top.path.rpartition(b"/")[0]
            with closing(_Contents(view, top, prefix, archive=archive)) as contents:
                # The extractor asks for no more than a stream of entries.
                extractor.apply(cast("TarReader", contents))
            extractor.finish()
            return Counter(extractor.notices)
    finally:
        os.close(root)


def _publish(source: Path, target: Path, path: bytes) -> None:
    if os.path.lexists(target):
        raise PathUnusable.at(path, f"{printable(os.fsencode(target))} exists already")
    status = source.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IWUSR:
        source.rename(target)
        return
    # To move a directory is to write its `..`, which takes its owner's leave.
    source.chmod(0o700)
    fd = os.open(source, _LIST)
    try:
        source.rename(target)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))
    finally:
        os.close(fd)


class _Contents:
    """A directory of a View, or one file, as the entries of an archive, with the data of the latest."""

    def __init__(self, view: View, top: Entry, prefix: bytes, *, archive: bool) -> None:
        self._view = view
        self._top = top
        self._cut = len(prefix) + 1 if prefix else 0
        self._archive = archive
        self._file: BufferedReader | None = None
        self._unread: list[Segment] = []
        self._names: dict[Inode, bytes] = {}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __iter__(self) -> Iterator[tar.Entry]:
        yield from self._entries(self._top)
        if self._top.is_directory:
            for entry in self._view.walk(self._top):
                yield from self._entries(entry)

    def read(self, limit: int = MIB) -> memoryview:
        """Read on in the latest file's data, its holes left out; nothing at the end."""
        if self._file is None or not self._unread:
            return memoryview(b"")
        offset, length = self._unread[0]
        data = os.pread(self._file.fileno(), min(length, limit, MIB), offset)
        if not data:
            raise DiskFailed("a layer was changed while it was read; try `cargohold store check`")
        rest = Segment(offset + len(data), length - len(data))
        self._unread[:1] = [rest] if rest.length else []
        return memoryview(data)

    def _entries(self, entry: Entry) -> Iterator[tar.Entry]:
        kind = _KINDS.get(stat.S_IFMT(entry.mode))
        # What is no directory may be there under several names.
        link = None if entry.is_directory else self._names.get(entry.inodes[0])
        self.close()
        if kind is None:
            return
        name = entry.path[self._cut :]
        if link is not None:
            yield self._entry(entry, name, Kind.HARD_LINK, link, None)
            return
        # A device may be left out, and then nothing can be linked to it.
        if entry.links > 1 and not entry.is_device:
            self._names[entry.inodes[0]] = name
        segments = None
        if entry.is_file:
            self._file = self._view.open(entry)
            self._unread = _data(self._file.fileno(), entry.size)
            is_whole = self._unread == ([Segment(0, entry.size)] if entry.size else [])
            segments = None if is_whole else tuple(self._unread)
        yield self._entry(entry, name, kind, entry.target or b"", segments)

    def _entry(
        self, entry: Entry, name: bytes, kind: Kind, link: bytes, segments: tuple[Segment, ...] | None
    ) -> tar.Entry:
        mode = entry.mode & _PERMISSIONS
        return tar.Entry(
            name or b".",
            kind,
            mode if self._archive else mode & ~_SET_ID,
            entry.uid if self._archive else 0,
            entry.gid if self._archive else 0,
            entry.size,
            entry.mtime,
            entry.mtime,
            link,
            (os.major(entry.device), os.minor(entry.device)),
            self._view.xattrs(entry) if self._archive and kind is not Kind.HARD_LINK else {},
            segments,
        )


def _data(fd: int, size: int) -> list[Segment]:
    """Return where an open file has data, in order."""
    found = []
    end = 0
    with suppress(OSError):  # ENXIO: no more data
        while end < size:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = min(size, os.lseek(fd, start, os.SEEK_HOLE))
            found.append(Segment(start, end - start))
    return found
