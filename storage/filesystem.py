"""The BlobStore contract on a directory.

blobs/<algorithm>/<2 hex>/<hex>.<unique>   committed, never changed; the Location is this path
uploads/<id>.<algorithm>                   on its way; its claim is a flock on the file itself
"""

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from storage.blobs import Appended, Location, UploadId
from storage.durable import (
    DISK,
    DurableDirectories,
    FileSystem,
    media_error,
    media_errors,
    publish,
    regular_size,
    sync_directory,
    write_all,
)
from storage.filesystem_file import FilesystemFile
from storage.live_hashers import LiveHasher, LiveHashers
from storage.oci.digest import ALGORITHMS, Digest, hasher
from storage.oci.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    InsufficientStorage,
    RangeInvalid,
    RegistryError,
    Unavailable,
)

BLOCK = 1024 * 1024
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

# Both layouts: a file lies in the fan-out directory of its own first two digits, or in none.
_is_location = re.compile(
    r"blobs/(?:sha256/(?:([0-9a-f]{2})/(?=\1))?[0-9a-f]{64}"
    r"|sha512/(?:([0-9a-f]{2})/(?=\2))?[0-9a-f]{128})(?:\.[0-9a-f]{16})?"
).fullmatch
_is_fan_out = re.compile(r"blobs/(?:sha256|sha512)/[0-9a-f]{2}").fullmatch
_is_upload = re.compile(r"([0-9a-f]{32})\.(?:sha256|sha512)").fullmatch


def unique_location(digest: Digest) -> Location:
    """Name a new copy of content: blobs/sha256/9f/9f86d0….<16 hex>."""
    return Location(f"blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}.{secrets.token_hex(8)}")


def oci_layout_location(digest: Digest) -> Location:
    """Name content as an OCI image layout does: a commit of present content replaces it, by the same.

    Source: image-spec image-layout.md, "Blobs".
    """
    return Location(f"blobs/{digest.algorithm}/{digest.hex}")


class FilesystemBlobs:
    """Blobs below a directory, for any number of processes of one host."""

    def __init__(
        self,
        root: Path,
        *,
        locate: Callable[[Digest], Location] = unique_location,
        disk: FileSystem = DISK,
    ) -> None:
        self._root = root.resolve()
        self._locate = locate
        self.disk = disk
        self._uploads = self._root / "uploads"
        self._hashers = LiveHashers()
        # Claims of this process, each with what its closed writer left.
        self._claimed: dict[UploadId, Appended | None] = {}
        # Failed uploads whose file could not even be removed.
        self._spoiled: set[UploadId] = set()
        self._directories = DurableDirectories(self._root, disk)
        with media_errors():
            self._directories.make(self._uploads)

    def begin(self, algorithm: str = "sha256", expected: Digest | None = None) -> UploadId:
        algorithm = expected.algorithm if expected else algorithm
        hasher(algorithm)  # raises for one that we do not compute
        upload = UploadId(secrets.token_hex(16))
        with media_errors():
            os.close(self.disk.open(self._uploads / f"{upload}.{algorithm}", _NEW))
        return upload

    @contextmanager
    def claim(self, upload: UploadId) -> Iterator[None]:
        found = self._open(upload, os.O_RDWR)
        try:
            self._lock(found)
            self._claimed[upload] = None
            try:
                yield
            finally:
                del self._claimed[upload]
        finally:
            os.close(found.fd)

    def _lock(self, upload: "_OpenUpload") -> None:
        with media_errors(BlobUploadUnknown("this upload has just ended")):
            try:
                self.disk.lock(upload.fd)
            except BlockingIOError:
                raise RangeInvalid("another request writes to this upload") from None
            ours, named = self.disk.status(upload.fd), self.disk.find(upload.path)
            # It may have been committed or dropped between open and lock (R12).
            if (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino):
                raise FileNotFoundError(errno.ENOENT, "replaced")

    def append(self, upload: UploadId, offset: int, digest: Digest | None = None) -> "FilesystemWriter":
        found = self._open(upload, os.O_WRONLY)
        try:
            with media_errors():
                self._cut(found, offset)
            if upload in self._claimed:
                self._claimed[upload] = None
            if offset:
                live = self._hashers.take(upload, digest)
            else:
                live = LiveHasher(found.algorithm, hasher(found.algorithm))
            return FilesystemWriter(self, found, offset, live)
        except BaseException:
            os.close(found.fd)
            raise

    def _cut(self, upload: "_OpenUpload", offset: int) -> None:
        """Drop what is behind `offset`. Raises RangeInvalid when that much is not there."""
        status = self.disk.status(upload.fd)
        if status.st_nlink != 1:
            # A crash amid the rename may leave both names; what is content already is never written.
            raise BlobUploadUnknown("this upload has ended")
        if status.st_size < offset:
            raise RangeInvalid("bytes of this upload are missing; start it again", offset=status.st_size)
        if status.st_size > offset:
            self.disk.truncate(upload.fd, offset)

    def give_back(self, upload: "_OpenUpload", flushed: int, error: OSError) -> RegistryError:
        """Clean up after a failed write; return what to raise. A full disk gets its bytes back."""
        ours = media_error(error)
        if isinstance(ours, InsufficientStorage):
            with suppress(OSError):
                self.disk.truncate(upload.fd, flushed)
        else:
            self._spoil(upload)
        return ours

    def sync(self, upload: "_OpenUpload", *, is_new: bool) -> None:
        """Make bytes durable, and once the name: an acknowledged offset survives power loss."""
        with self._spoiling(upload):
            self.disk.sync(upload.fd)
            if is_new:
                sync_directory(self._uploads, self.disk)

    def leave(self, upload: UploadId, appended: Appended, live: LiveHasher | None) -> None:
        """Keep what a writer knows as it closes: for the commit in its claim, and for a later request."""
        if upload in self._claimed:
            self._claimed[upload] = appended
        if live is not None:
            self._hashers.keep(upload, live)

    def commit(self, upload: UploadId, digest: Digest, verified: Appended | None = None) -> Location:
        found = self._open(upload, os.O_RDWR)
        try:
            with media_errors():
                size = self.disk.status(found.fd).st_size
            known = self._known_digest(upload, size, verified, digest.algorithm)
            if known is not None:
                _check(known, digest)
            # Another fd than the writer's, yet it hears of a failed write-back: the claim kept the inode.
            with self._spoiling(found):
                self.disk.sync(found.fd)
            if known is None:
                with media_errors():
                    _check(self._hash(found.fd, digest.algorithm), digest)
        finally:
            os.close(found.fd)
        location = self._locate(digest)
        with self._spoiling(found):
            self._publish(found.path, self._root / location)
        self._hashers.forget(upload)
        return location

    def _publish(self, source: Path, target: Path) -> None:
        try:
            self._directories.make(target.parent)
            publish(source, target, self.disk)
        except OSError:
            self._directories.forget(target.parent)
            raise

    def _known_digest(
        self, upload: UploadId, size: int, verified: Appended | None, algorithm: str
    ) -> Digest | None:
        """Return the digest of the whole upload if it is known for sure; the writer of this claim is."""
        known = self._claimed.get(upload) or verified
        if known is None or known.offset != size or known.digest is None:
            return None
        return known.digest if known.digest.algorithm == algorithm else None

    def _hash(self, fd: int, algorithm: str) -> Digest:
        """Read a file again from its start."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        block, hash_, offset = bytearray(BLOCK), hasher(algorithm), 0
        while size := self.disk.read_into(fd, block, offset):
            hash_.update(memoryview(block)[:size])
            offset += size
        return Digest(algorithm, hash_.hexdigest())

    def offset(self, upload: UploadId) -> int:
        found = self._open(upload, os.O_RDONLY)
        try:
            with media_errors():
                return self.disk.status(found.fd).st_size
        finally:
            os.close(found.fd)

    def abort(self, upload: UploadId) -> None:
        self._hashers.forget(upload)
        for path in self._paths(upload):
            with media_errors(), suppress(FileNotFoundError):
                self.disk.unlink(path)
        self._spoiled.discard(upload)

    @contextmanager
    def _spoiling(self, upload: "_OpenUpload") -> Iterator[None]:
        """Drop the upload when the disk fails in the block: which of its bytes are safe is unknown."""
        with media_errors(BlobUploadUnknown("this upload has just ended")):
            try:
                yield
            except OSError:
                self._spoil(upload)
                raise

    def _spoil(self, upload: "_OpenUpload") -> None:
        self._hashers.forget(upload.id)
        try:
            self.disk.unlink(upload.path)
        except FileNotFoundError:
            pass
        except OSError:
            self._spoiled.add(upload.id)

    def uploads(self) -> Iterator[UploadId]:
        with media_errors(), self.disk.scan(self._uploads) as entries:
            for entry in entries:
                if (match := _is_upload(entry.name)) and entry.is_file(follow_symlinks=False):
                    yield UploadId(match[1])

    def _paths(self, upload: UploadId) -> list[Path]:
        """Return where an upload may be: its suffix is the algorithm, so that a restart knows it."""
        names = (f"{upload}.{algorithm}" for algorithm in ALGORITHMS)
        return [self._uploads / name for name in names if _is_upload(name)]

    def _open(self, upload: UploadId, flags: int) -> "_OpenUpload":
        for path in self._paths(upload) if upload not in self._spoiled else ():
            try:
                return _OpenUpload(upload, path, self.disk.open(path, flags))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise media_error(error) from error
        raise BlobUploadUnknown("no such upload; it may have ended or failed")

    def open(self, location: Location, start: int = 0, stop: int | None = None) -> "FilesystemFile":
        return FilesystemFile.open(self.disk, self._file(location), start, stop)

    def size(self, location: Location) -> int:
        with media_errors(BlobUnknown("the stored bytes are gone")):
            return regular_size(self.disk.find(self._file(location)))

    def url(self, location: Location) -> str | None:
        return None

    def delete(self, location: Location) -> None:
        # Without a directory fsync: a name that a crash brings back is a stray the collector finds.
        with media_errors(), suppress(FileNotFoundError):
            self.disk.unlink(self._file(location))

    def _file(self, location: Location) -> Path:
        if not _is_location(location):
            raise BlobUnknown("not a location of this store")
        return self._root / location

    def locations(self) -> Iterator[Location]:
        with media_errors():
            for algorithm in ALGORITHMS:
                yield from self._scan(f"blobs/{algorithm}")

    def _scan(self, directory: str) -> Iterator[Location]:
        """Find what is ours below a directory, holding one entry a level."""
        try:
            scan = self.disk.scan(self._root / directory)
        except FileNotFoundError:
            return
        with scan as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}"
                if _is_location(path):
                    if entry.is_file(follow_symlinks=False):
                        yield Location(path)
                elif _is_fan_out(path) and entry.is_dir(follow_symlinks=False):
                    yield from self._scan(path)

    def free_bytes(self) -> int:
        with media_errors():
            return self.disk.free_bytes(self._root)


@dataclass(frozen=True, slots=True)
class _OpenUpload:
    """An upload's file, open."""

    id: UploadId
    path: Path
    fd: int

    @property
    def algorithm(self) -> str:
        return self.path.suffix.removeprefix(".")


class FilesystemWriter:
    """Writes and hashes in one go."""

    def __init__(
        self, store: FilesystemBlobs, upload: _OpenUpload, offset: int, live: LiveHasher | None
    ) -> None:
        self._store = store
        self._upload = upload
        self._flushed = self._offset = self._start = offset
        self._live = live
        self._is_open = True
        self._failed = False

    def write(self, data: memoryview | bytes, /) -> None:
        self._refuse_after_end()
        view = memoryview(data).cast("B")
        try:
            write_all(self._upload.fd, view, self._offset, self._store.disk)
        except OSError as error:
            self._failed = True
            raise self._store.give_back(self._upload, self._flushed, error) from error
        if self._live is not None:
            self._live.hasher.update(view)
        self._offset += len(view)

    def flush(self) -> Appended:
        self._refuse_after_end()
        try:
            self._store.sync(self._upload, is_new=self._flushed == 0)
        except BaseException:
            self._failed = True
            raise
        self._flushed = self._offset
        return self._appended()

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        os.close(self._upload.fd)
        if not self._failed and self._offset > self._start:
            self._store.leave(self._upload.id, self._appended(), self._live)

    # A cancelled request never sees the writer that its thread opened; nobody else would close it.
    __del__ = close

    def _appended(self) -> Appended:
        return Appended(self._offset, self._live.digest() if self._live else None)

    def _refuse_after_end(self) -> None:
        if not self._is_open:
            raise ValueError("the writer was closed")  # its number may be another file's by now
        if self._failed:
            raise Unavailable("an earlier write to this upload failed")


def _check(found: Digest, digest: Digest) -> None:
    if found != digest:
        raise DigestInvalid(
            f"the upload's digest is {found}, not {digest}", digest=str(digest), found=str(found)
        )
