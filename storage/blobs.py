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

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size`; none at the end only. Raises Unavailable."""
        ...

    def seek(self, offset: int, /) -> int:
        """Read on at `offset` of the blob."""
        ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class BlobWriter(Protocol):
    """Appends to a claimed upload. After an error it takes no more."""

    def write(self, data: memoryview | bytes, /) -> None:
        """Write on. Raises InsufficientStorage: what no flush acknowledged is dropped, the rest stays.

        Raises Unavailable when the medium failed: the upload is gone, its bytes are not to be trusted.
        """
        ...

    def flush(self) -> Appended:
        """Make all bytes durable and say how many there are.

        Raises Unavailable or InsufficientStorage; the upload is gone then, whatever was acknowledged.
        """
        ...

    def close(self) -> None:
        """Let go; what was written stays. Closing twice is harmless."""
        ...


class BlobStore(Protocol):
    """Where bytes are. Every method blocks; nothing here knows a repository, a tag or HTTP.

    The offset of an upload is kept by the caller (in its row): bytes behind it were never acknowledged.
    Raises Unavailable when the medium fails and InsufficientStorage when it is full.
    """

    def begin(self, algorithm: str = "sha256", expected: Digest | None = None) -> UploadId:
        """Start an upload hashed with `algorithm`, or with that of the digest it is `expected` to have."""
        ...

    def claim(self, upload: UploadId) -> AbstractContextManager[None]:
        """Be its only writer, over all threads and processes; a dead process's claim is free.

        Raises BlobUploadUnknown, and RangeInvalid while another holds it.
        """
        ...

    def append(self, upload: UploadId, offset: int, digest: Digest | None = None) -> BlobWriter:
        """Write on at `offset`, under a claim; what lay behind it is dropped.

        With the `digest` of the bytes before it, as acknowledged, a store that still has their hash state
        hashes on; without, their digest is known again only once `commit` has read them.
        Raises BlobUploadUnknown, and RangeInvalid when fewer bytes are there.
        """
        ...

    def commit(self, upload: UploadId, digest: Digest, verified: Appended | None) -> Location:
        """Verify an upload, under a claim, and make it durable content. The upload is gone after.

        Needs no flush before it. `verified` is what was acknowledged last: if that is all of the upload, in
        the digest's algorithm, or the writer of this claim has hashed all of it, nothing is read again.
        Raises DigestInvalid, and the upload stays as it is, to be aborted or written over by its caller.
        Raises Unavailable or InsufficientStorage, and the upload is gone; its bytes may be at a location
        that was told to nobody.
        """
        ...

    def offset(self, upload: UploadId) -> int:
        """Return how many bytes are there, acknowledged or not. Raises BlobUploadUnknown."""
        ...

    def abort(self, upload: UploadId) -> None:
        """Drop an upload. An absent one is success."""
        ...

    def uploads(self) -> Iterator[UploadId]: ...

    def open(self, location: Location, start: int = 0, stop: int | None = None) -> BlobFile:
        """Open committed bytes, from `start` up to `stop`.

        Raises BlobUnknown, and BlobRangeInvalid when they do not reach that far.
        """
        ...

    def size(self, location: Location) -> int:
        """Return the length of committed bytes. Raises BlobUnknown."""
        ...

    def url(self, location: Location) -> str | None:
        """Return where a client may fetch the bytes itself, or None."""
        ...

    def delete(self, location: Location) -> None:
        """Drop committed bytes; a crash may bring them back. Absent ones are success."""
        ...

    def locations(self) -> Iterator[Location]: ...

    def free_bytes(self) -> int | None:
        """Return the room that is left, or None where there is no such limit."""
        ...
