"""Makes what the entries of a layer say, below one root and nowhere else."""

import os
import stat
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from client.unpack import lowers, names, removal
from client.unpack.attributes import Attributes, new_owner
from client.unpack.directories import Directories
from client.unpack.entry import Entry, Kind
from client.unpack.errors import LinkTargetMissing, Malformed, UnpackError, Unsafe, Unsupported, storage_error
from client.unpack.limits import COMPONENT
from client.unpack.names import NOT_NAMES, WHITEOUT, Mark, join
from client.unpack.options import Form, Options
from client.unpack.paths import Missing, Place, Tree, is_whiteout
from client.unpack.tar_reader import TarReader
from client.unpack.whiteouts import FlatDeletions, NothingBelow, OverlayMarks, Whiteouts

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
# Linux's dev_t. Source: linux/kdev_t.h, new_encode_dev.
_LARGEST_MAJOR, _LARGEST_MINOR = 2**12 - 1, 2**20 - 1
_NODES = {Kind.CHARACTER_DEVICE: stat.S_IFCHR, Kind.BLOCK_DEVICE: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}


class Extractor:
    """Applies layers, lowest first, to the directory `root`; `finish` ends it.

    Until then every directory is its owner's alone. After any exception the tree is incomplete.
    """

    def __init__(self, root: int, options: Options) -> None:
        self._root = root
        self._options = options
        self._overlay = options.form is Form.OVERLAY
        self._tree = Tree(root, overlay=self._overlay)
        self._directories = Directories(self._tree, options.limits.directories)
        self._empty = self._close_root()
        self._attributes = Attributes(options, new_owner(root) if self._empty else None)
        self._whiteouts: Whiteouts = NothingBelow()
        # The directory of the latest entry, by its name in the archive. An entry that can change where names
        # lead drops the name, never mind whether it did: CVE-2025-47290 came from such a cache (UNP-04).
        self._place = Place(os.dup(root), b"")
        self._place_name: bytes | None = None
        self.content = 0
        self._makers: dict[Kind, Callable[[Entry, bytes, TarReader], None]] = {
            Kind.FILE: self._file,
            Kind.DIRECTORY: self._directory,
            Kind.SYMLINK: self._symlink,
            Kind.HARD_LINK: self._hard_link,
            Kind.FIFO: self._node,
            Kind.CHARACTER_DEVICE: self._device,
            Kind.BLOCK_DEVICE: self._device,
        }

    def _close_root(self) -> bool:
        """Close the root to others; return whether it is empty."""
        with os.scandir(self._root) as found:
            empty = next(found, None) is None
        if empty:
            self._directories.imply(b"")
        elif self._overlay:
            raise Unsupported("a layer in overlay form needs an empty directory")
        else:
            self._directories.find(b"", self._root)
        for inherited in ("system.posix_acl_access", "system.posix_acl_default"):
            with suppress(OSError):
                os.removexattr(self._root, inherited)
        os.fchmod(self._root, _DIRECTORY_MODE)
        return empty

    def close(self) -> None:
        os.close(self._place.fd)

    def apply(self, reader: TarReader) -> None:
        """Make all entries of the next layer. Raises UnpackError."""
        self._attributes.notices = Counter()
        self._place_name = None
        self.content = 0
        if self._overlay:
            self._whiteouts = OverlayMarks(self._tree)
        elif not self._empty:
            self._whiteouts = FlatDeletions(self._tree, self._directories.forget)
        for entry in reader:
            try:
                self._apply(entry, reader)
            except UnpackError as error:
                raise error.at(entry.name) from error.__cause__
            except OSError as error:
                raise storage_error(error, entry.name) from error
        self._empty = False

    @property
    def notices(self) -> Counter[str]:
        """What the latest layer asked for and did not get; `finish` adds to it."""
        return self._attributes.notices

    @property
    def opaque_root(self) -> bool:
        return self._whiteouts.opaque_root

    def implied(self) -> tuple[bytes, ...]:
        return self._directories.implied()

    def finish(self) -> None:
        """Give all directories their attributes. Raises UnpackError."""
        # A set-gid directory around the root gave it a group that its files have not.
        self._attributes.new_owner = None
        try:
            self._directories.describe(self._attributes)
        except OSError as error:
            raise storage_error(error, None) from error

    def _apply(self, entry: Entry, reader: TarReader) -> None:
        name = entry.name
        name, _, base = (name[:-1] if name.endswith(b"/") else name).rpartition(b"/")
        if (
            name != self._place_name
            or base in NOT_NAMES
            or base.startswith(WHITEOUT)
            or len(base) > COMPONENT
        ):
            found = self._find(entry)
            if found is None:
                return
            if found == base:
                self._place_name = name
            base = found
        self._makers[entry.kind](entry, base, reader)

    def _find(self, entry: Entry) -> bytes | None:
        """Enter the entry's directory and return its last name; None where nothing is to be made."""
        directory, base = names.split(entry.name, self._options.limits.depth)
        if not base:
            if entry.kind is not Kind.DIRECTORY:
                raise Unsafe("an entry that would replace the root")
            self._directories.add(b"", entry)
            return None
        mark = names.mark(directory, base, entry.name)
        if mark is Mark.NONE:
            self._enter(self._tree.enter(directory, self._imply), directory)
            return base
        if mark is Mark.META:
            self.notices["bookkeeping of AUFS left out"] += 1
        else:
            self._hide(directory, base, mark)
        return None

    def _enter(self, place: Place, name: bytes) -> None:
        os.close(self._place.fd)
        self._place, self._place_name = place, name
        self._note(place)

    def _note(self, place: Place) -> None:
        """Remember a flat tree's directory as it is before something is made in it."""
        if not self._overlay:
            self._directories.find(place.path, place.fd)

    def _imply(self, place: Place, name: bytes, whiteout: os.stat_result | None) -> None:
        """Make a directory that no entry has described yet."""
        path = join(place.path, name)
        self._note(place)
        if whiteout is not None:
            os.unlink(name, dir_fd=place.fd)
        os.mkdir(name, _DIRECTORY_MODE, dir_fd=place.fd)
        self._directories.imply(path)
        if whiteout is not None:
            self._whiteouts.replaced(path)

    def _imply_unless_hidden(self, place: Place, name: bytes, whiteout: os.stat_result | None) -> None:
        if whiteout is not None:
            raise Missing
        self._imply(place, name, whiteout)

    def _hide(self, directory: bytes, base: bytes, mark: Mark) -> None:
        """Do what a whiteout says. One below a hidden or, in a flat tree, missing directory says nothing."""
        try:
            place = self._tree.enter(directory, self._imply_unless_hidden if self._overlay else None)
        except Missing:
            return
        self._enter(place, directory)
        if mark is Mark.OPAQUE:
            self._whiteouts.hide_all(place)
        else:
            self._whiteouts.hide(place, base.removeprefix(WHITEOUT))
        self._place_name = None

    def _file(self, entry: Entry, base: bytes, reader: TarReader) -> None:
        directory, path = self._place.fd, join(self._place.path, base)
        try:
            fd = os.open(base, _NEW, _FILE_MODE, dir_fd=directory)
        except FileExistsError:
            self._remove(base)
            fd = os.open(base, _NEW, _FILE_MODE, dir_fd=directory)
        try:
            if entry.segments is None:
                while data := reader.read():
                    _write(fd, data)
            else:
                _write_sparse(fd, entry, reader)
            self._attributes.to_open(fd, entry)
        finally:
            os.close(fd)
        self.content += entry.size
        self._whiteouts.made(path)

    def _directory(self, entry: Entry, base: bytes, _reader: TarReader) -> None:
        path = join(self._place.path, base)
        try:
            os.mkdir(base, _DIRECTORY_MODE, dir_fd=self._place.fd)
        except FileExistsError:
            if not stat.S_ISDIR(self._status(base).st_mode):
                self._remove(base)
                os.mkdir(base, _DIRECTORY_MODE, dir_fd=self._place.fd)
                self._whiteouts.replaced(path)
        self._directories.add(path, entry)
        self._whiteouts.made(path)

    def _symlink(self, entry: Entry, base: bytes, _reader: TarReader) -> None:
        path = join(self._place.path, base)
        if not entry.link:
            raise Malformed("a symbolic link to nothing")
        try:
            os.symlink(entry.link, base, dir_fd=self._place.fd)
        except FileExistsError:
            self._remove(base)
            os.symlink(entry.link, base, dir_fd=self._place.fd)
        self._attributes.to_name(self._place.fd, base, entry, has_mode=False)
        self._whiteouts.made(path)
        self._place_name = None

    def _device(self, entry: Entry, base: bytes, reader: TarReader) -> None:
        major, minor = entry.device
        if not (0 <= major <= _LARGEST_MAJOR and 0 <= minor <= _LARGEST_MINOR):
            raise Unsupported(f"the device {major}:{minor} is out of range")
        if self._overlay and entry.kind is Kind.CHARACTER_DEVICE and entry.device == (0, 0):
            raise Unsafe("a device that overlayfs takes for a whiteout")
        if self._options.devices:
            self._node(entry, base, reader)
        else:
            self.notices["device left out"] += 1

    def _node(self, entry: Entry, base: bytes, _reader: TarReader) -> None:
        path = join(self._place.path, base)
        device = 0 if entry.kind is Kind.FIFO else os.makedev(*entry.device)
        mode = _NODES[entry.kind] | _FILE_MODE
        try:
            try:
                os.mknod(base, mode, device, dir_fd=self._place.fd)
            except FileExistsError:
                self._remove(base)
                os.mknod(base, mode, device, dir_fd=self._place.fd)
        except PermissionError:
            self.notices["device left out"] += 1
            return
        self._attributes.to_name(self._place.fd, base, entry, has_mode=True)
        self._whiteouts.made(path)

    def _hard_link(self, entry: Entry, base: bytes, _reader: TarReader) -> None:
        path = join(self._place.path, base)
        try:
            directory, target = names.split(entry.link, self._options.limits.depth)
        except UnpackError as error:
            raise type(error)(f"a hard link to {error}", entry.name) from error
        if not self._has(directory, target):
            self._copy_up(directory, target)
        source = self._tree.enter(directory)
        try:
            if join(source.path, target) == path:
                raise Malformed("a hard link to itself")
            self._link(source.fd, target, base)
        finally:
            os.close(source.fd)
        self._whiteouts.made(path)
        self._place_name = None

    def _has(self, directory: bytes, target: bytes) -> bool:
        """Whether a hard link to it can be made. Raises Malformed for a directory."""
        try:
            place = self._tree.enter(directory)
        except Missing:
            return False
        try:
            status = os.stat(target or b".", dir_fd=place.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        finally:
            os.close(place.fd)
        if stat.S_ISDIR(status.st_mode):
            raise Malformed("a hard link to a directory")
        return not (self._overlay and is_whiteout(status))

    def _copy_up(self, directory: bytes, target: bytes) -> None:
        """Copy the target of a hard link from a lower layer, as overlayfs would. Raises LinkTargetMissing."""
        found = lowers.find(self._options.lowers, join(directory, target)) if self._overlay else None
        if found is None:
            raise LinkTargetMissing("a hard link to what is not there")
        try:
            place = self._tree.enter(directory, self._imply_unless_hidden)
            try:
                lowers.copy(found, place.fd, target)
            except FileExistsError:
                # A whiteout of this very layer is in its place.
                raise LinkTargetMissing("a hard link to what the layer deletes") from None
            finally:
                os.close(place.fd)
        except Missing:
            raise LinkTargetMissing("a hard link into what the layer deletes") from None
        finally:
            os.close(found.directory)

    def _link(self, directory: int, target: bytes, base: bytes) -> None:
        try:
            os.link(target, base, src_dir_fd=directory, dst_dir_fd=self._place.fd, follow_symlinks=False)
        except FileExistsError:
            if os.path.samestat(os.stat(target, dir_fd=directory, follow_symlinks=False), self._status(base)):
                return
            self._remove(base)
            os.link(target, base, src_dir_fd=directory, dst_dir_fd=self._place.fd, follow_symlinks=False)

    def _status(self, base: bytes) -> os.stat_result:
        return os.stat(base, dir_fd=self._place.fd, follow_symlinks=False)

    def _remove(self, base: bytes) -> None:
        """Remove what an entry replaces, a directory with all that is in it."""
        self._place_name = None
        if not stat.S_ISDIR(self._status(base).st_mode):
            os.unlink(base, dir_fd=self._place.fd)
            return
        path = join(self._place.path, base)
        removal.clear(self._tree, path, lambda _: False, self._directories.forget)
        os.rmdir(base, dir_fd=self._place.fd)
        self._directories.forget(path)


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _write_sparse(fd: int, entry: Entry, reader: TarReader) -> None:
    for offset, length in entry.segments or ():
        os.lseek(fd, offset, os.SEEK_SET)
        left = length
        while left:
            data = reader.read(left)
            left -= len(data)
            _write(fd, data)
    os.ftruncate(fd, entry.size)
