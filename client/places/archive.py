"""OCI layouts in a tar archive, read where they lie; and how any archive is opened."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from client.errors import ContentMismatch, DiskFailed
from client.partial import disk_errors
from client.places import layout_index
from client.places.contents import FileStream, span
from client.places.errors import PlaceInvalid
from client.places.layout import LayoutPlace
from client.places.layout_index import LayoutIndex
from client.places.tar_file import Member, TarFile
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown

STDIN = Path("-")
_MAGIC = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")


@contextmanager
def opened(path: Path, scratch: Path | None = None) -> Iterator[TarFile]:
    """Open an archive; `-` is the standard input.

    One that is compressed or cannot be read by place is first brought, whole, into an unnamed file in the
    directory `scratch`, which is the system's for such files when it is None.
    """
    try:
        file = sys.stdin.buffer if path == STDIN else path.open("rb", buffering=0)
    except OSError as error:
        raise DiskFailed(f"{path}: {error.strerror}") from error
    try:
        tar = TarFile(_by_place(file, path, scratch), str(path))
    finally:
        if path != STDIN:
            file.close()
    try:
        yield tar
    finally:
        tar.close()


def _by_place(file: BinaryIO, path: Path, scratch: Path | None) -> int:
    """Return a descriptor of a plain archive whose bytes can be read in any order."""
    with disk_errors(path):
        if file.seekable() and not os.pread(file.fileno(), 6, 0).startswith(_MAGIC):
            return os.dup(file.fileno())
    # Only here: nothing else of a layout needs what reads layers.
    from client.unpack.decompress import decompressed
    from client.unpack.errors import UnpackError
    from client.unpack.limits import Limits

    with disk_errors(scratch or Path(tempfile.gettempdir())), tempfile.TemporaryFile(dir=scratch) as spool:
        try:
            for block in decompressed(file, Limits()):
                spool.write(block)
        except UnpackError as error:
            raise PlaceInvalid(f"{path}: {error}") from error
        spool.flush()
        return os.dup(spool.fileno())


class ArchiveBlobs:
    """The blobs of a layout in an archive; a source of them."""

    def __init__(self, tar: TarFile) -> None:
        self._tar = tar

    @property
    def host(self) -> str:
        return self._tar.name

    def size(self, digest: Digest) -> int | None:
        member = self._find(digest)
        return None if member is None else member.size

    def open(self, blob: Descriptor, start: int, stop: int | None) -> FileStream:
        member = self._find(blob.digest)
        if member is None:
            raise BlobUnknown(f"{self._tar.name} does not hold {blob.digest}")
        return open_member(self._tar, member, blob, start, stop)

    def _find(self, digest: Digest) -> Member | None:
        return self._tar.find(f"blobs/{digest.algorithm}/{digest.hex}")


def open_member(tar: TarFile, member: Member, blob: Descriptor, start: int, stop: int | None) -> FileStream:
    """Open a member as a blob. Raises ContentMismatch for another size."""
    if member.size != blob.size:
        raise ContentMismatch(
            f"{tar.name}: {member.name} has {member.size} bytes where its descriptor says {blob.size}"
        )
    return tar.stream(member, *span(blob, start, stop))


class OciArchive(LayoutPlace):
    """The images of an archive, which stays open meanwhile."""

    def __init__(self, tar: TarFile, kind: str = "oci-archive") -> None:
        version, document = tar.find("oci-layout"), tar.find("index.json")
        if version is None or document is None:
            raise PlaceInvalid(f"{tar.name} is no OCI archive: {_missing(tar, version)}")
        layout_index.check_version(tar.read(version, layout_index.LIMIT), tar.name)
        index = LayoutIndex.parse(tar.read(document, layout_index.LIMIT), tar.name)
        super().__init__(f"{kind}:{tar.name}", ArchiveBlobs(tar), lambda: index)


def _missing(tar: TarFile, version: Member | None) -> str:
    what = "it has no oci-layout" if version is None else "it has no index.json"
    return f"{what}; try docker-archive:{tar.name}" if tar.find("manifest.json") else what
