"""What one process leaves, the next goes on with; two at once fetch a blob once."""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from client.download import PACE
from client.endpoints import Host, Scheme
from client.partial import PartialFiles
from client.progress import Event, Finished, Waiting
from client.session import Session
from client.sources import RepositorySource
from client.transfer import Transfer
from tests.client.lying import Received, lying, reply_range
from tests.client.moving import (
    BLOB,
    CONTENT,
    MIB,
    NAME,
    Mover,
    Sourced,
    honest,
)


def test_cli_03_goes_on_after_a_kill(mover: Mover, source: Sourced, tmp_path: Path) -> None:
    """The process dies in the middle of a body; the next one fetches the rest only."""
    middle, stop = threading.Event(), threading.Event()

    def stalling(received: Received) -> Iterator[bytes]:
        head, body = reply_range(received, CONTENT)
        yield head
        yield body[: 4 * MIB]
        middle.set()
        stop.wait(30)

    with lying(stalling) as server:
        process = multiprocessing.get_context("spawn").Process(
            target=fetch_here, args=(server.address, tmp_path)
        )
        process.start()
        assert middle.wait(30)
        record = tmp_path / "partial" / f"sha256-{BLOB.digest.hex}.json"
        while _recorded(record) < 3 * MIB:
            assert process.is_alive()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        stop.set()
    with lying(honest) as server:
        mover.fetch([source(server.address)])

        ((start, _),) = [each.range for each in server.requests]
        assert start >= 3 * MIB
    assert mover.blob() == CONTENT


def _recorded(path: Path) -> int:
    try:
        return sum(stop - start for start, stop in json.loads(path.read_text())["done"])
    except (OSError, ValueError):
        return 0


def fetch_here(address: str, directory: Path) -> None:
    """Fetch the blob: what the other processes run."""
    with Session(Host(address, address, Scheme.HTTP)) as session:
        sinks = PartialFiles(directory / "partial", directory / "blobs")
        Transfer(sinks).fetch([BLOB], [RepositorySource(session, NAME)])


def test_cli_04_two_processes_fetch_a_blob_once(tmp_path: Path) -> None:
    with lying(honest) as server:
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=fetch_here, args=(server.address, tmp_path)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()

        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert len(server.requests) == 1
    assert (tmp_path / "blobs" / "sha256" / BLOB.digest.hex).read_bytes() == CONTENT


def test_waits_while_another_has_the_blob(mover: Mover, source: Sourced) -> None:
    sinks = PartialFiles(mover.directory / "partial", mover.directory / "blobs")
    with lying(honest) as server, sinks.open(BLOB, lambda: None) as other:
        assert other is not None
        held = other

        def publish(event: Event) -> None:
            mover.events.append(event)
            if isinstance(event, Waiting):
                held.write(0, CONTENT)
                held.commit()

        Transfer(sinks, publish, PACE, mover.clock.deadline()).fetch([BLOB], [source(server.address)])

        assert not server.requests
    assert mover.events[-1] == Finished(BLOB.digest, BLOB.size, "present")
