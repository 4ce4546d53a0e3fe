"""One blob from the network to a sink: what is missing, from where, over how many connections."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from client.clock import Deadline
from client.errors import (
    AnswerInvalid,
    Cancelled,
    ConfigurationInvalid,
    ContentMismatch,
    CredentialsUnusable,
    DiskFailed,
    Unreachable,
)
from client.partial import Sink
from client.progress import Advanced, Progress, Retried, Started
from client.sources import Source, Stream
from client.verifier import Verifier
from storage.oci.descriptor import Descriptor
from storage.oci.errors import (
    BlobRangeInvalid,
    BlobUnknown,
    InsufficientStorage,
    RegistryError,
    RequestInvalid,
    Unsupported,
)

MIB = 1024 * 1024

# How many blocks of a blob may wait for the hash.
_MOST_UNHASHED = 4

# Nothing that another source could help with.
_FINAL = (CredentialsUnusable, ConfigurationInvalid, DiskFailed, InsufficientStorage)
# What servers that cannot give parts answer to those who ask for one.
_NO_RANGES = (AnswerInvalid, BlobRangeInvalid, RequestInvalid, Unsupported)


@dataclass(frozen=True, slots=True)
class Pace:
    """How much to do at once, and when to go elsewhere."""

    parallel_blobs: int = 4
    # For one blob; 1 never splits it.
    connections: int = 3
    # Smaller blobs come in one request.
    split_from_bytes: int = 64 * MIB
    # What the first request of a large blob asks for, to learn whether parts come and how fast.
    probe_bytes: int = 8 * MIB
    chunk_bytes: int = 32 * MIB
    # What comes as fast as this would not come faster over more connections.
    fast_bytes_per_second: int = 60 * MIB
    # A connection that broke after so much, or after so long, is opened again without counting (CLI-02).
    progress_bytes: int = MIB
    progress_seconds: float = 60.0
    failures: int = 3
    # From this size on a blob is hashed on another core than it is received on.
    hash_apart_from_bytes: int = 8 * MIB
    first_delay_seconds: float = 0.2


PACE = Pace()


@dataclass(frozen=True, slots=True)
class Shared:
    """What the downloads of one transfer have in common."""

    pace: Pace
    deadline: Deadline
    tell: Progress
    cancelled: threading.Event = field(default_factory=threading.Event)
    # Hosts that do not serve parts, and hosts for which one connection is enough.
    without_ranges: set[str] = field(default_factory=set)
    fast: set[str] = field(default_factory=set)
    # Hosts that did not answer: other places come first from then on.
    down: set[str] = field(default_factory=set)

    def check(self) -> None:
        """Raises Cancelled after a stop, TimedOut after the deadline: also where nothing waits."""
        if self.cancelled.is_set():
            raise Cancelled("the transfer was stopped")
        self.deadline.limit(1.0)


class Download:
    """Fills one sink with the bytes of one blob."""

    def __init__(self, shared: Shared, blob: Descriptor, sink: Sink) -> None:
        self._shared = shared
        self._blob = blob
        self._sink = sink
        self._lock = threading.Lock()
        self._present = sink.present()
        self._is_resumed = self._present.total > 0
        self._verifier = Verifier(blob.digest, sink)
        self._contributors: list[Source] = []
        # Those that contradicted the descriptor.
        self._liars: list[Source] = []
        self._hasher: ThreadPoolExecutor | None = None
        self._unhashed: deque[Future[None]] = deque()

    @property
    def only_source(self) -> Source | None:
        """The source that every byte came from, if there is just one."""
        is_one = len(self._contributors) == 1 and not self._is_resumed
        return self._contributors[0] if is_one else None

    @property
    def is_suspect(self) -> bool:
        """Whether every byte came from sources that lied; those of others are not wrong because of them."""
        return not self._is_resumed and all(each in self._liars for each in self._contributors)

    def is_verified(self) -> bool:
        """Hash what is not hashed yet, and tell whether the blob is whole and right."""
        self._verifier.catch_up(self._end_of)
        return self._verifier.is_verified(self._blob.size)

    def complete(self, sources: Sequence[Source]) -> None:
        """Fetch what is missing from the first source that gives it, and from the next where that fails.

        Raises the last source's error, or ContentMismatch of one whose answer contradicted the descriptor.
        """
        self._shared.tell(Started(self._blob.digest, self._blob.size, self._present.total))
        error: RegistryError = BlobUnknown(f"nothing to fetch {self._blob.digest} from")
        with self._hashing():
            for source, failures in self._planned(sources) if self._missing() else ():
                try:
                    self._fetch_from(source, failures)
                except _FINAL:
                    raise
                except RegistryError as failure:
                    error = failure
                    if isinstance(failure, ContentMismatch):
                        self._liars.append(source)
                    if isinstance(failure, Unreachable):
                        self._shared.down.add(source.host)
                    self._shared.tell(Retried(self._blob.digest, source.host, failure.message))
                else:
                    break
        if self._missing():
            raise error

    @contextmanager
    def _hashing(self) -> Iterator[None]:
        """Hash in a thread beside the one that receives, unless the blob is so small that it does not pay."""
        if self._blob.size < self._shared.pace.hash_apart_from_bytes:
            yield
            return
        with ThreadPoolExecutor(1, "hash") as self._hasher:
            # What an earlier process left, while more arrives.
            catching_up = self._hasher.submit(self._verifier.catch_up, self._end_of)
            yield
            catching_up.result()
        self._hasher = None

    def _hash(self, offset: int, data: bytes) -> None:
        if self._hasher is None:
            self._verifier.feed(offset, data)
            return
        with self._lock:
            self._unhashed.append(self._hasher.submit(self._verifier.feed, offset, data))
            oldest = self._unhashed.popleft() if len(self._unhashed) > _MOST_UNHASHED else None
        if oldest is not None:
            oldest.result()

    def _planned(self, sources: Sequence[Source]) -> Iterable[tuple[Source, int]]:
        """Pair each source with how many failures in a row it may have: one, while there is another."""
        ordered = sorted(sources, key=lambda each: each.host in self._shared.down)
        return zip(ordered, [1] * (len(ordered) - 1) + [self._shared.pace.failures], strict=False)

    def _fetch_from(self, source: Source, most_failures: int) -> None:
        """Fetch all that is missing from one source, with new connections where they break."""
        pace, deadline = self._shared.pace, self._shared.deadline
        failures = 0
        while missing := self._missing():
            done, started = self._present.total, deadline.clock.monotonic()
            try:
                self._fetch_some(source, *missing[0])
            except ContentMismatch:
                raise
            except _NO_RANGES as error:
                if source.host in self._shared.without_ranges:
                    raise
                self._shared.without_ranges.add(source.host)
                self._shared.tell(Retried(self._blob.digest, source.host, error.message))
            except Unreachable as error:
                elapsed = deadline.clock.monotonic() - started
                moved = self._present.total - done
                was_slow = moved > 0 and elapsed >= pace.progress_seconds
                failures = 0 if moved >= pace.progress_bytes or was_slow else failures + 1
                if failures >= most_failures:
                    raise
                spread = 0.5 + deadline.clock.random()
                delay = pace.first_delay_seconds * 2.0**failures * spread if failures else 0.0
                self._shared.tell(Retried(self._blob.digest, source.host, error.message, delay))
                if delay:
                    deadline.sleep(delay)

    def _fetch_some(self, source: Source, start: int, stop: int) -> None:
        """Fetch from a gap's start: the rest of it, a first part to learn from, or the whole blob."""
        pace, host, size = self._shared.pace, source.host, self._blob.size
        if host in self._shared.without_ranges:
            self._consume(source, 0, None)
        elif pace.connections < 2 or host in self._shared.fast or stop - start < pace.split_from_bytes:
            self._consume(source, start, None if stop == size else stop)
        else:
            clock = self._shared.deadline.clock
            began = clock.monotonic()
            end = start + pace.probe_bytes
            if not self._consume(source, start, end):
                return  # it was the whole blob
            if pace.probe_bytes >= (clock.monotonic() - began) * pace.fast_bytes_per_second:
                self._shared.fast.add(host)
            else:
                self._fetch_chunks(source, end, stop)

    def _fetch_chunks(self, source: Source, start: int, stop: int) -> None:
        """Fetch a gap over several connections. Raises the first error of them when all have ended."""
        size = self._shared.pace.chunk_bytes
        chunks = deque((at, min(at + size, stop)) for at in range(start, stop, size))

        def work() -> None:
            while True:
                try:
                    chunk = chunks.popleft()
                except IndexError:
                    return
                if not self._consume(source, *chunk):
                    raise AnswerInvalid(f"{source.host} has stopped serving parts of a blob")
                self._verifier.catch_up(self._end_of)

        count = min(self._shared.pace.connections, len(chunks))
        with ThreadPoolExecutor(count, "chunk") as pool:
            futures = [pool.submit(work) for _ in range(count)]
        for future in futures:
            future.result()

    def _consume(self, source: Source, start: int, stop: int | None) -> bool:
        """Take what one request brings; false when it brought the whole blob where a part was asked for."""
        self._shared.check()
        with source.open(self._blob, start, stop) as stream:
            if source not in self._contributors:
                self._contributors.append(source)
            is_part = start > 0 or stop is not None
            if is_part and not stream.is_range:
                self._shared.without_ranges.add(source.host)
            self._take(stream)
            return stream.is_range or not is_part

    def _take(self, stream: Stream) -> None:
        offset = stream.start
        for data in stream:
            self._shared.check()
            with self._lock:
                gaps = self._present.missing(offset, offset + len(data))
            for start, stop in gaps:
                piece = data[start - offset : stop - offset]
                self._sink.write(start, piece)
                with self._lock:
                    self._present.add(start, stop)
                self._hash(start, piece)
            offset += len(data)
            with self._lock:
                done = self._present.total
            self._shared.tell(Advanced(self._blob.digest, done))

    def _end_of(self, offset: int) -> int:
        self._shared.check()  # hashing gigabytes that are there takes a while
        with self._lock:
            return self._present.end_of(offset)

    def _missing(self) -> list[tuple[int, int]]:
        return self._present.missing(0, self._blob.size)
