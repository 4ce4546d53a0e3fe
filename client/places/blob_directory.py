"""Blobs as files of an OCI layout: `blobs/<algorithm>/<hex>`, filled through partial files beside it.

Source: image-spec image-layout.md, "Blobs".
"""

import errno
import os
import stat
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from client.errors import ContentMismatch, DiskFailed
from client.partial import PartialFiles, disk_errors
from client.places.contents import FileStream, span
from client.places.place import Moving
from client.sources import Source
from client.transfer import Transfer
from storage import durable
from storage.durable import FileSystem
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class BlobDirectory:
    """The blobs of one layout; itself a source of them. Unfinished ones are kept in `partial`."""

    def __init__(self, root: Path, disk: FileSystem = durable.DISK) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._partial = root / "partial"
        self._disk = disk

    @property
    def host(self) -> str:
        return str(self.root)

    def path(self, digest: Digest) -> Path:
        return self._blobs / digest.algorithm / digest.hex

    def size(self, digest: Digest) -> int | None:
        """Return the size of a blob, None where there is none; a link or directory is none."""
        try:
            status = os.lstat(self.path(digest))
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise DiskFailed(f"{self.path(digest)}: {error.strerror}") from error
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def has(self, blob: Descriptor) -> bool:
        """Tell whether a blob is there in its size: power losses have left empty files to others."""
        return self.size(blob.digest) == blob.size

    def open(self, blob: Descriptor, start: int, stop: int | None) -> FileStream:
        """Raises BlobUnknown, ContentMismatch for another size."""
        path = self.path(blob.digest)
        try:
            fd = os.open(path, _READ)
        except OSError as error:
            if error.errno in _MISSING:
                raise BlobUnknown(f"{self.root} does not hold {blob.digest}") from error
            raise DiskFailed(f"{path}: {error.strerror}") from error
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_size == blob.size:
            return FileStream(fd, 0, span(blob, start, stop), owns=True)
        os.close(fd)
        raise ContentMismatch(f"{path} has {status.st_size} bytes where its descriptor says {blob.size}")

    def fetch(self, blobs: Sequence[Descriptor], sources: Sequence[Source], moving: Moving) -> None:
        """Fetch blobs, verified and durable; what a killed process left is gone on with.

        Raises what Transfer.fetch does.
        """
        for blob in blobs:
            self._remove_other_size(blob)
        sinks = PartialFiles(self._partial, self._blobs, self._disk)
        Transfer(sinks, moving.progress, moving.pace, moving.deadline).fetch(blobs, sources)

    def write(self, data: bytes, digest: Digest) -> None:
        """Keep a small blob whose digest is known to be right."""
        target = self.path(digest)
        with disk_errors(target):
            self._partial.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            durable.write_file(self._partial / f"{uuid.uuid4().hex}.blob", target, data, self._disk)

    def _remove_other_size(self, blob: Descriptor) -> None:
        """Make room for the right bytes: a file of another size cannot have the digest."""
        size = self.size(blob.digest)
        if size is not None and size != blob.size:
            with suppress(FileNotFoundError), disk_errors(self.path(blob.digest)):
                self._disk.unlink(self.path(blob.digest))
