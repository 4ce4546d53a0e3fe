"""A transfer under test: what it moves, where to, and servers that break it off."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from client.download import PACE, Pace
from client.partial import PartialFiles
from client.progress import Event
from client.sources import Source
from client.transfer import Transfer
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.media_types import OCTET_STREAM
from storage.oci.names import RepositoryName
from tests.client.clocks import FakeClock
from tests.client.lying import Cut, Received, reply, reply_range

MIB = 1024 * 1024
NAME = RepositoryName("library/app")
# The same in every process.
CONTENT = random.Random(7).randbytes(6 * MIB + 13)
WRONG = bytes(CONTENT[:-1]) + bytes([CONTENT[-1] ^ 1])
# Splits what the tests move.
SPLITTING = replace(
    PACE,
    split_from_bytes=2 * MIB,
    probe_bytes=MIB,
    chunk_bytes=MIB,
    fast_bytes_per_second=10**18,
    hash_apart_from_bytes=0,
)


def descriptor(content: bytes) -> Descriptor:
    return Descriptor(OCTET_STREAM, Digest.of(content), len(content))


BLOB = descriptor(CONTENT)


class Mover:
    """A transfer into a directory, and what it told."""

    def __init__(self, directory: Path, clock: FakeClock) -> None:
        self.directory = directory
        self.clock = clock
        self.events: list[Event] = []

    @property
    def sinks(self) -> PartialFiles:
        return PartialFiles(self.directory / "partial", self.directory / "blobs")

    def fetch(self, sources: Sequence[Source], *blobs: Descriptor, pace: Pace = PACE) -> None:
        Transfer(self.sinks, self._tell, pace, self.clock.deadline()).fetch(blobs or (BLOB,), sources)

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        # Nothing is infinitely fast.
        self.clock.advance(0.001)

    def blob(self, blob: Descriptor = BLOB) -> bytes | None:
        path = self.directory / "blobs" / blob.digest.algorithm / blob.digest.hex
        return path.read_bytes() if path.exists() else None

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def kept(self) -> int:
        """How many bytes wait for the next time."""
        part = self.directory / "partial" / f"sha256-{BLOB.digest.hex}.part"
        return part.stat().st_size if part.exists() else 0


Sourced = Callable[[str], Source]


def honest(received: Received) -> Iterable[bytes]:
    return reply_range(received, CONTENT)


def cut_after(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Send the head and `size` bytes of the body, then close."""
    head, *body = pieces
    yield head
    yield b"".join(body)[:size]
    raise Cut


class Breaking:
    """Closes every connection after a number of bytes."""

    def __init__(self, *sizes: int, ranges: bool = True) -> None:
        self._sizes = list(sizes)
        self._ranges = ranges

    def __call__(self, received: Received) -> Iterable[bytes]:
        whole = reply_range(received, CONTENT) if self._ranges else reply(200, CONTENT)
        return cut_after(whole, self._sizes.pop(0)) if self._sizes else whole
