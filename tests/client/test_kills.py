"""SIGKILL at random points of a transfer: the next process goes on, and hardly a byte comes twice."""

import hashlib
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.download import PACE, Pace
from client.endpoints import Host, Scheme
from client.partial import PartialFiles
from client.session import Session
from client.sources import RepositorySource
from client.transfer import Transfer
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.media_types import OCTET_STREAM
from tests.client.lying import Cut, Received, lying
from tests.client.moving import MIB, NAME

ROUNDS = 10
SIZE = 384 * MIB
# Different in every MiB, so that no part may stand for another.
BLOCK = random.Random(7).randbytes(2 * MIB)
PIECE = 64 * 1024
SPLITTING = replace(PACE, fast_bytes_per_second=10**18)


def content(start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of a blob that nobody has to keep: each MiB is a window into the block."""
    while start < stop:
        index, offset = divmod(start, MIB)
        end = min(stop - start, MIB - offset, PIECE)
        yield BLOCK[index * 97 + offset :][:end]
        start += end


class Killing:
    """Serves the blob, and kills its client when it has sent a number of bytes to it."""

    def __init__(self) -> None:
        self.sent = 0
        self._lock = threading.Lock()
        self._target: tuple[int, int] | None = None
        self.is_armed = threading.Event()

    def arm(self, pid: int, more: int) -> None:
        self._target = (pid, self.sent + more)
        self.is_armed.set()

    def disarm(self) -> None:
        self._target = None
        self.is_armed.set()

    def __call__(self, received: Received) -> Iterator[bytes]:
        assert self.is_armed.wait(20)
        start, stop = received.range
        stop = stop or SIZE
        head = f"HTTP/1.1 206 X\r\nContent-Length: {stop - start}\r\n"
        if "range" not in received.headers:
            head = head.replace("206", "200")
        yield f"{head}Content-Range: bytes {start}-{stop - 1}/{SIZE}\r\n\r\n".encode()
        for piece in content(start, stop):
            yield piece
            self._count(len(piece))

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size
            if self._target is None or self.sent < self._target[1]:
                return
            self.is_armed.clear()
            os.kill(self._target[0], signal.SIGKILL)
        raise Cut


@pytest.mark.timeout(180)
@pytest.mark.parametrize("pace", [pytest.param(PACE, id="as-one"), pytest.param(SPLITTING, id="in-parts")])
def test_cli_03_goes_on_after_every_kill(tmp_path: Path, pace: Pace) -> None:
    chance = random.Random(11)
    hashed = hashlib.sha256()
    for piece in content(0, SIZE):
        hashed.update(piece)
    blob = Descriptor(OCTET_STREAM, Digest("sha256", hashed.hexdigest()), SIZE)
    killing = Killing()
    # What the kernel holds for a reader that dies is the link's matter, not the client's.
    with lying(killing, send_buffer=PIECE) as server:
        for _ in range(ROUNDS):
            process = started(server.address, tmp_path, blob, pace)
            assert process.pid is not None
            killing.arm(process.pid, chance.randrange(SIZE // ROUNDS))
            process.join()
            assert process.exitcode == -signal.SIGKILL
        process = started(server.address, tmp_path, blob, pace)
        killing.disarm()
        process.join()

        assert process.exitcode == 0
    assert (tmp_path / "blobs" / "sha256" / blob.digest.hex).stat().st_size == SIZE
    assert killing.sent - SIZE <= ROUNDS * SIZE // 100


def started(
    address: str, directory: Path, blob: Descriptor, pace: Pace
) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(
        target=fetch, args=(address, directory, blob, pace)
    )
    process.start()
    return process


def fetch(address: str, directory: Path, blob: Descriptor, pace: Pace) -> None:
    """Fetch the blob: what the processes run that are killed."""
    with Session(Host(address, address, Scheme.HTTP)) as session:
        sinks = PartialFiles(directory / "partial", directory / "blobs")
        Transfer(sinks, pace=pace).fetch([blob], [RepositorySource(session, NAME)])
