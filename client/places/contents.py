"""Blobs as they are read: parts of local files, and what goes out to a registry or into an archive."""

import os
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from client.clock import Deadline
from client.content import BLOCK
from client.errors import Cancelled, ContentMismatch, DiskFailed, Unreachable
from client.sources import Source, Stream
from storage.oci.descriptor import Descriptor
from storage.oci.digest import hasher
from storage.oci.errors import BlobUnknown, RegistryError

# As in a download: a connection that brought this much has earned another try.
_PROGRESS_BYTES = 1024 * 1024
_FAILURES = 3


class FileStream:
    """Bytes `start` to `stop` of a blob that lies at `base` in an open file, which it may close."""

    is_range = True

    def __init__(self, fd: int, base: int, span: tuple[int, int], *, owns: bool) -> None:
        self._fd = fd
        self._base = base
        self.start, self._stop = span
        self._owns = owns

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owns:
            os.close(self._fd)
            self._owns = False

    def __iter__(self) -> Iterator[bytes]:
        """Raises ContentMismatch where the file ends early."""
        position = self.start
        while position < self._stop:
            try:
                data = os.pread(self._fd, min(BLOCK, self._stop - position), self._base + position)
            except OSError as error:
                raise DiskFailed(f"a blob cannot be read: {error.strerror or error}") from error
            if not data:
                raise ContentMismatch(f"a file ends after {position} of {self._stop} bytes")
            position += len(data)
            yield data


def span(blob: Descriptor, start: int, stop: int | None) -> tuple[int, int]:
    """Return which bytes are meant."""
    return start, blob.size if stop is None else min(stop, blob.size)


class SourcedContent:
    """A blob on its way out: read from the first source that has it, hashed, and cut off before a lie ends.

    The last bytes of a blob with the wrong digest are not given, so that nobody can take it for whole.
    """

    def __init__(
        self,
        blob: Descriptor,
        sources: Sequence[Source],
        deadline: Deadline,
        stop: threading.Event | None = None,
    ) -> None:
        self._blob = blob
        self._sources = sources
        self._deadline = deadline
        self._stop = stop
        self._hash = hasher(blob.digest.algorithm)
        self._frontier = 0

    @property
    def size(self) -> int:
        return self._blob.size

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Raises what the last source does, and ContentMismatch for another digest."""
        if self._blob.data is not None:
            yield self._blob.data[start:stop]
            return
        if not self.size:
            self._feed(0, b"")
        for piece in self._from_sources(start, stop):
            self._check()
            self._feed(start, piece)
            start += len(piece)
            yield piece

    def _from_sources(self, position: int, stop: int) -> Iterator[bytes]:
        error: RegistryError = BlobUnknown(f"nothing to read {self._blob.digest} from")
        for source in self._sources:
            failures, furthest = 0, position
            while position < stop and failures < _FAILURES:
                try:
                    for piece in _pieces(source, self._blob, position, stop):
                        position += len(piece)
                        yield piece
                    failures += 1
                except Unreachable as failure:
                    error = failure
                    failures = 0 if position >= furthest + _PROGRESS_BYTES else failures + 1
                    furthest = position
                except RegistryError as failure:
                    error = failure
                    break
        if position < stop:
            raise error

    def _feed(self, offset: int, data: bytes) -> None:
        """Hash what was not hashed before; the whole must have the digest."""
        skipped = self._frontier - offset
        is_new = 0 <= skipped < len(data)
        if is_new:
            self._hash.update(memoryview(data)[skipped:])
            self._frontier = offset + len(data)
        is_whole = self._frontier == self.size and (is_new or not self.size)
        if is_whole and self._hash.hexdigest() != self._blob.digest.hex:
            raise ContentMismatch(f"{self._blob.digest} is not the digest of what its source gives")

    def _check(self) -> None:
        self._deadline.limit(1.0)
        if self._stop is not None and self._stop.is_set():
            raise Cancelled("another part of the work failed")


def _pieces(source: Source, blob: Descriptor, start: int, stop: int) -> Iterator[bytes]:
    """Yield exactly the bytes from `start` to `stop`, also from a source that gives the whole blob."""
    is_all = start == 0 and stop == blob.size
    with source.open(blob, start, None if is_all or stop == blob.size else stop) as stream:
        offset = stream.start
        for data in stream:
            piece = data[max(0, start - offset) : max(0, stop - offset)]
            offset += len(data)
            if piece:
                yield piece


def read_all(source: Source, blob: Descriptor, limit: int) -> bytes:
    """Return a small blob whole, its size checked but not its digest. Raises ContentMismatch, BlobUnknown."""
    if blob.size > limit:
        raise ContentMismatch(f"{blob.digest} has {blob.size} bytes, more than the {limit} that it may have")
    stream: Stream
    with source.open(blob, 0, None) as stream:
        data = b"".join(stream)
    if len(data) != blob.size:
        raise ContentMismatch(f"{blob.digest} has {len(data)} bytes where its descriptor says {blob.size}")
    return data
