"""The BlobStore contract on a directory.

blobs/<algorithm>/<2 hex>/<hex>.<unique>   committed, never changed; the Location is this path
uploads/<id>.<algorithm>                   on its way; its claim is a flock on the file itself
"""

import fcntl
import os
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from storage.blobs import Appended, Location, UploadId
from storage.durable import (
    DISK,
    FileSystem,
    make_directories,
    media_errors,
    publish,
    sync_directory,
    write_all,
)
from storage.oci.digest import Digest, Hasher, hasher
from storage.oci.errors import BlobUnknown, BlobUploadUnknown, DigestInvalid, RangeInvalid, RegistryError

BLOCK = 1024 * 1024
# Hashers of uploads that paused between two requests; one costs about a kilobyte.
_LIVE_HASHERS = 256
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

_is_location = re.compile(
    r"blobs/(sha256|sha512)/(?:[0-9a-f]{2}/)?[0-9a-f]{64,128}(?:\.[0-9a-f]{16})?"
).fullmatch
_is_upload = re.compile(r"([0-9a-f]{32})\.(sha256|sha512)").fullmatch


def unique_location(digest: Digest) -> Location:
    """Name a new copy of content: blobs/sha256/9f/9f86d0….<16 hex>."""
    return Location(f"blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}.{secrets.token_hex(8)}")


def oci_layout_location(digest: Digest) -> Location:
    """Name content as an OCI image layout does. Source: image-spec image-layout.md, "Blobs"."""
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
        self._root = root
        self._locate = locate
        self._disk = disk
        self._uploads = root / "uploads"
        self._hashers = _LiveHashers()
        self._durable: set[UploadId] = set()
        with media_errors():
            make_directories(self._uploads, disk)

    def begin(self, algorithm: str = "sha256") -> UploadId:
        hasher(algorithm)
        upload = UploadId(secrets.token_hex(16))
        with media_errors():
            os.close(self._disk.open(self._uploads / f"{upload}.{algorithm}", _NEW))
        return upload

    @contextmanager
    def claim(self, upload: UploadId) -> Iterator[None]:
        path = self._path(upload)
        with media_errors():
            fd = _open(path, os.O_RDWR, BlobUploadUnknown("no such upload"))
        try:
            _lock(fd)
            if not _is_same_file(fd, path):
                # It was committed or dropped between open and lock (R12).
                raise BlobUploadUnknown("this upload has just ended")
            yield
        finally:
            os.close(fd)

    def append(self, upload: UploadId, offset: int) -> "FilesystemWriter":
        path = self._path(upload)
        with media_errors():
            fd = _open(path, os.O_RDWR, BlobUploadUnknown("no such upload"))
            try:
                size = os.fstat(fd).st_size
                if size < offset:
                    raise RangeInvalid("bytes of this upload are missing; start it again", offset=size)
                if size > offset:
                    self._disk.truncate(fd, offset)
            except BaseException:
                os.close(fd)
                raise
        algorithm = path.suffix.removeprefix(".")
        return FilesystemWriter(self, upload, fd, offset, self._hashers.take(upload, offset, algorithm))

    def write(self, fd: int, data: memoryview, offset: int) -> None:
        """Write for a FilesystemWriter."""
        with media_errors():
            write_all(fd, data, offset, self._disk)

    def sync(self, upload: UploadId, fd: int) -> None:
        """Make an upload's bytes durable, and once its name: an acknowledged offset survives power loss."""
        with media_errors():
            self._disk.sync(fd)
            if upload not in self._durable:
                sync_directory(self._uploads, self._disk)
                self._durable.add(upload)

    def keep(self, upload: UploadId, offset: int, live: "LiveHasher") -> None:
        """Keep the hasher of a writer that closes, for the request that goes on."""
        self._hashers.keep(upload, offset, live)

    def commit(self, upload: UploadId, digest: Digest, verified: Appended | None) -> Location:
        path = self._path(upload)
        with media_errors():
            fd = _open(path, os.O_RDWR, BlobUploadUnknown("no such upload"))
            try:
                size = os.fstat(fd).st_size
                found = self._known_digest(upload, digest.algorithm, size, verified) or _hash(
                    fd, digest.algorithm
                )
                if found != digest:
                    raise DigestInvalid(
                        f"the upload's digest is {found}, not {digest}", digest=str(digest), found=str(found)
                    )
                self._disk.sync(fd)
            finally:
                os.close(fd)
            location = self._locate(digest)
            publish(path, self._root / location, self._disk)
        self._forget(upload)
        return location

    def _known_digest(
        self, upload: UploadId, algorithm: str, size: int, verified: Appended | None
    ) -> Digest | None:
        known = self._hashers.digest(upload, size, algorithm)
        if known is None and verified is not None and verified.offset == size:
            known = verified.digest
        return known if known is not None and known.algorithm == algorithm else None

    def abort(self, upload: UploadId) -> None:
        self._forget(upload)
        with media_errors(), suppress(FileNotFoundError, BlobUploadUnknown):
            self._disk.unlink(self._path(upload))

    def _forget(self, upload: UploadId) -> None:
        self._hashers.forget(upload)
        self._durable.discard(upload)

    def uploads(self) -> Iterator[UploadId]:
        with media_errors(), os.scandir(self._uploads) as entries:
            for entry in entries:
                if match := _is_upload(entry.name):
                    yield UploadId(match[1])

    def open(self, location: Location) -> BinaryIO:
        with media_errors():
            fd = _open(self._file(location), os.O_RDONLY, BlobUnknown("the stored bytes are gone"))
        return os.fdopen(fd, "rb", buffering=0)

    def size(self, location: Location) -> int:
        with media_errors():
            try:
                return os.lstat(self._file(location)).st_size
            except FileNotFoundError:
                raise BlobUnknown("the stored bytes are gone") from None

    def url(self, location: Location) -> str | None:
        return None

    def delete(self, location: Location) -> None:
        # Without a directory fsync: a name that a crash brings back is a stray the collector finds.
        with media_errors(), suppress(FileNotFoundError):
            self._disk.unlink(self._file(location))

    def locations(self) -> Iterator[Location]:
        with media_errors():
            for directory, _, names in os.walk(self._root / "blobs"):
                for name in names:
                    location = (Path(directory) / name).relative_to(self._root).as_posix()
                    if _is_location(location):
                        yield Location(location)

    def free_bytes(self) -> int:
        status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize

    def _path(self, upload: UploadId) -> Path:
        """Find an upload's file; its suffix is the algorithm, so that a restart knows it."""
        for algorithm in ("sha256", "sha512"):
            name = f"{upload}.{algorithm}"
            if _is_upload(name) and (path := self._uploads / name).exists():
                return path
        raise BlobUploadUnknown("no such upload")

    def _file(self, location: Location) -> Path:
        if not _is_location(location):
            raise BlobUnknown("not a location of this store")
        return self._root / location


@dataclass(frozen=True, slots=True)
class LiveHasher:
    """The running hash of an upload's bytes."""

    algorithm: str
    hasher: Hasher

    def digest(self) -> Digest:
        return Digest(self.algorithm, self.hasher.hexdigest())


class FilesystemWriter:
    """Writes and hashes in one go. A failed write or fsync spoils it: its hash is not kept."""

    def __init__(
        self, store: FilesystemBlobs, upload: UploadId, fd: int, offset: int, live: LiveHasher | None
    ) -> None:
        self._store = store
        self._upload = upload
        self._fd = fd
        self._offset = offset
        self._live = live

    def write(self, data: memoryview | bytes, /) -> None:
        view = memoryview(data)
        try:
            self._store.write(self._fd, view, self._offset)
        except BaseException:
            self._live = None
            raise
        self._offset += len(view)
        if self._live is not None:
            self._live.hasher.update(view)

    def flush(self) -> Appended:
        try:
            self._store.sync(self._upload, self._fd)
        except BaseException:
            self._live = None
            raise
        return Appended(self._offset, self._live.digest() if self._live else None)

    def close(self) -> None:
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if self._live is not None:
            self._store.keep(self._upload, self._offset, self._live)


class _LiveHashers:
    """The hashers of uploads between two requests of this process; hashlib's state cannot be saved."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[UploadId, tuple[int, LiveHasher]] = OrderedDict()

    def take(self, upload: UploadId, offset: int, algorithm: str) -> LiveHasher | None:
        """Return the hasher of exactly the first `offset` bytes, a new one for none, or None."""
        with self._lock:
            kept_offset, live = self._kept.pop(upload, (-1, None))
        if offset == 0:
            return LiveHasher(algorithm, hasher(algorithm))
        return live if kept_offset == offset else None

    def keep(self, upload: UploadId, offset: int, live: LiveHasher) -> None:
        with self._lock:
            self._kept[upload] = (offset, live)
            if len(self._kept) > _LIVE_HASHERS:
                self._kept.popitem(last=False)

    def digest(self, upload: UploadId, size: int, algorithm: str) -> Digest | None:
        """Return the digest of an upload's `size` bytes, if this process hashed all of them."""
        with self._lock:
            offset, live = self._kept.get(upload, (-1, None))
        return live.digest() if live and offset == size and live.algorithm == algorithm else None

    def forget(self, upload: UploadId) -> None:
        with self._lock:
            self._kept.pop(upload, None)


def _open(path: Path, flags: int, missing: RegistryError) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise missing from None


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RangeInvalid("another request writes to this upload") from None


def _is_same_file(fd: int, path: Path) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _hash(fd: int, algorithm: str) -> Digest:
    """Read a file again from its start."""
    block, hash_, offset = bytearray(BLOCK), hasher(algorithm), 0
    while size := os.preadv(fd, [block], offset):
        hash_.update(memoryview(block)[:size])
        offset += size
    return Digest(algorithm, hash_.hexdigest())
