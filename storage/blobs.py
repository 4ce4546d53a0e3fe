"""The BlobStore contract: content is invisible until its commit and immutable after it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NewType, Protocol

from storage.oci.digest import Digest

UploadId = NewType("UploadId", str)
"""Names an upload: 32 lower-case hexadecimal digits, 128 random bits."""

Location = NewType("Location", str)
"""Names committed bytes: an opaque key, new at every commit, so a late delete only hits dead bytes (R3)."""


@dataclass(frozen=True, slots=True)
class Appended:
    """How many bytes an upload has, and their digest in the upload's algorithm.

    The digest is None when this process did not see all of them.
    """

    offset: int
    digest: Digest | None


class BlobFile(Protocol):
    """Open bytes. `fileno` feeds a zero-copy send where there is a file."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class BlobWriter(Protocol):
    """Appends to a claimed upload."""

    def write(self, data: memoryview | bytes, /) -> None: ...

    def flush(self) -> Appended:
        """Make all bytes durable and say how many there are."""
        ...

    def close(self) -> None:
        """Let go; what was written stays. Closing twice is harmless."""
        ...


class BlobStore(Protocol):
    """Where bytes are. Every method blocks; nothing here knows a repository, a tag or HTTP.

    The offset of an upload is kept by the caller (in its row): bytes behind it were never acknowledged.
    Raises Unavailable when the medium fails and InsufficientStorage when it is full.
    """

    def begin(self, algorithm: str = "sha256") -> UploadId:
        """Start an upload hashed with `algorithm`."""
        ...

    def claim(self, upload: UploadId) -> AbstractContextManager[None]:
        """Be its only writer, over all threads and processes; a dead process's claim is free.

        Raises BlobUploadUnknown, and RangeInvalid while another holds it.
        """
        ...

    def append(self, upload: UploadId, offset: int) -> BlobWriter:
        """Write on at `offset`, under a claim; what lay behind it is dropped.

        Raises BlobUploadUnknown, and RangeInvalid when fewer bytes are there.
        """
        ...

    def commit(self, upload: UploadId, digest: Digest, verified: Appended | None) -> Location:
        """Verify an upload, under a claim, and make it content. The upload is gone after.

        `verified` is what the last flush said; with the same algorithm and length nothing is read again.
        Raises DigestInvalid; the upload then stays as it is.
        """
        ...

    def abort(self, upload: UploadId) -> None:
        """Drop an upload. An absent one is success."""
        ...

    def uploads(self) -> Iterator[UploadId]: ...

    def open(self, location: Location) -> BlobFile:
        """Open committed bytes. Raises BlobUnknown."""
        ...

    def size(self, location: Location) -> int:
        """Return the length of committed bytes. Raises BlobUnknown."""
        ...

    def url(self, location: Location) -> str | None:
        """Return where a client may fetch the bytes itself, or None."""
        ...

    def delete(self, location: Location) -> None:
        """Drop committed bytes. Absent ones are success."""
        ...

    def locations(self) -> Iterator[Location]: ...

    def free_bytes(self) -> int | None:
        """Return the room that is left, or None where there is no such limit."""
        ...
