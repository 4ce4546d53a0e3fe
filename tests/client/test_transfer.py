"""Blobs from honest registries, over one connection or several, in one process or more."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from client.content import BytesContent
from client.download import PACE, Pace
from client.errors import (
    Cancelled,
    TimedOut,
)
from client.network import Network
from client.partial import PartialFiles
from client.progress import Advanced, Event, Failed, Finished, Started
from client.sources import RepositorySource
from client.transfer import Transfer
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown
from storage.oci.media_types import OCTET_STREAM
from storage.oci.names import RepositoryName
from tests.client.conftest import Open
from tests.client.lying import Received, lying, reply, reply_error, reply_range
from tests.client.moving import (
    BLOB,
    CONTENT,
    MIB,
    NAME,
    SPLITTING,
    Mover,
    Sourced,
    cut_after,
    descriptor,
    honest,
)

# From real registries


@pytest.mark.parametrize("pace", [pytest.param(PACE, id="as-one"), pytest.param(SPLITTING, id="in-parts")])
def test_fetches_blobs(
    registry: str, open_session: Open, mover: Mover, name: RepositoryName, pace: Pace
) -> None:
    session = open_session(registry)
    contents = [CONTENT, os.urandom(3 * MIB), b"small", b""]
    for content in contents:
        session.upload_blob(name, Digest.of(content), BytesContent(content))
    blobs = [descriptor(content) for content in contents]

    mover.fetch([RepositorySource(session, name)], *blobs, blobs[0], pace=pace)

    assert [mover.blob(blob) for blob in blobs] == contents
    assert len(mover.told(Finished)) == len(blobs)
    assert os.listdir(mover.directory / "partial") == []


def test_fetches_nothing_twice(registry: str, open_session: Open, mover: Mover, name: RepositoryName) -> None:
    session = open_session(registry)
    session.upload_blob(name, BLOB.digest, BytesContent(CONTENT))
    mover.fetch([RepositorySource(session, name)])

    mover.fetch([])

    assert mover.events[-1] == Finished(BLOB.digest, BLOB.size, "present")


def test_fetches_a_sha512(our_registry: str, open_session: Open, mover: Mover, name: RepositoryName) -> None:
    session = open_session(our_registry)
    blob = Descriptor(OCTET_STREAM, Digest.of(CONTENT, "sha512"), len(CONTENT))
    session.upload_blob(name, blob.digest, BytesContent(CONTENT))

    mover.fetch([RepositorySource(session, name)], blob)

    assert mover.blob(blob) == CONTENT


def test_writes_what_the_descriptor_holds(mover: Mover) -> None:
    blob = replace(descriptor(b"{}"), data=b"{}")

    mover.fetch([], blob)

    assert mover.blob(blob) == b"{}"
    assert mover.events == [Finished(blob.digest, 2, "embedded")]


def test_tells_how_far_it_is(mover: Mover, source: Sourced) -> None:
    with lying(honest) as server:
        mover.fetch([source(server.address)])

    done = [event.done for event in mover.told(Advanced) if isinstance(event, Advanced)]
    assert mover.events[0] == Started(BLOB.digest, BLOB.size, 0)
    assert done == sorted(done)
    assert done[-1] == BLOB.size
    assert mover.events[-1] == Finished(BLOB.digest, BLOB.size, "fetched")
    assert mover.events[-1].to_json() == {
        "event": "finished",
        "digest": str(BLOB.digest),
        "size": BLOB.size,
        "how": "fetched",
    }


# In parts


def test_splits_only_after_a_probe_proved_ranges(mover: Mover, source: Sourced) -> None:
    with lying(honest) as server:
        mover.fetch([source(server.address)], pace=SPLITTING)

    assert server.requests[0].range == (0, MIB)
    assert sorted(each.range[0] for each in server.requests) == [number * MIB for number in range(7)]
    assert server.connections > 1
    assert mover.blob() == CONTENT


def test_does_not_split_what_is_fast(mover: Mover, source: Sourced) -> None:
    pace = replace(SPLITTING, fast_bytes_per_second=0)
    with lying(honest) as server:
        mover.fetch([source(server.address)], pace=pace)

    assert [each.range for each in server.requests] == [(0, MIB), (MIB, None)]
    assert mover.blob() == CONTENT


def test_asks_for_no_parts_where_the_whole_came(mover: Mover, source: Sourced) -> None:
    other = os.urandom(3 * MIB)
    contents = {str(BLOB.digest): CONTENT, str(Digest.of(other)): other}
    with lying(lambda received: reply(200, contents[received.path.rpartition("/")[2]])) as server:
        place = source(server.address)
        pace = replace(SPLITTING, parallel_blobs=1)
        mover.fetch([place], BLOB, descriptor(other), pace=pace)

    assert ["range" in each.headers for each in server.requests] == [True, False]
    assert mover.blob() == CONTENT


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: reply_error(416, "UNSUPPORTED"), id="416"),
        pytest.param(lambda: reply(400), id="400"),
        pytest.param(lambda: reply(501), id="501"),
        pytest.param(
            lambda: reply(206, CONTENT[:MIB], Content_Range="bytes 5-9/10"), id="wrong-content-range"
        ),
        pytest.param(lambda: reply(206, CONTENT[:MIB]), id="no-content-range"),
    ],
)
def test_cli_02_asks_for_the_whole_where_parts_fail(
    mover: Mover, source: Sourced, answer: Callable[[], Iterable[bytes]]
) -> None:
    with lying(lambda received: answer() if "range" in received.headers else reply(200, CONTENT)) as server:
        mover.fetch([source(server.address)], pace=SPLITTING)

        assert len(server.requests) == 2
    assert mover.blob() == CONTENT


def test_cli_02_goes_on_when_one_of_several_connections_breaks(mover: Mover, source: Sourced) -> None:
    broken: list[int] = []

    def answer(received: Received) -> Iterator[bytes]:
        start, _ = received.range
        if start == 3 * MIB and not broken:
            broken.append(start)
            yield from cut_after(reply_range(received, CONTENT), 400_000)
        yield from reply_range(received, CONTENT)

    with lying(answer) as server:
        mover.fetch([source(server.address)], pace=SPLITTING)

    assert broken
    assert mover.blob() == CONTENT


# Together


def test_stops_all_when_one_fails(mover: Mover, source: Sourced) -> None:
    stop = threading.Event()
    good, bad, never = CONTENT, b"bad", b"never"

    def answer(received: Received) -> Iterator[bytes]:
        digest = received.path.rpartition("/")[2]
        if digest == str(Digest.of(bad)):
            yield from reply_error(404, "BLOB_UNKNOWN")
            return
        head, body = reply_range(received, good)
        yield head
        yield body[:MIB]
        assert stop.wait(20)
        yield body[MIB:]

    def progress(event: Event) -> None:
        mover.events.append(event)
        if isinstance(event, Failed) and event.digest == Digest.of(bad):
            stop.set()

    with lying(answer) as server:
        pace = replace(PACE, parallel_blobs=2)
        sinks = PartialFiles(mover.directory / "partial", mover.directory / "blobs")
        transfer = Transfer(sinks, progress, pace, mover.clock.deadline())
        with pytest.raises(BlobUnknown):
            transfer.fetch(
                [descriptor(good), descriptor(bad), *(descriptor(never * n) for n in range(1, 20))],
                [source(server.address)],
            )

        assert len(server.requests) < 20


def test_stops_when_it_is_told_to(mover: Mover, source: Sourced) -> None:
    sinks = PartialFiles(mover.directory / "partial", mover.directory / "blobs")
    transfer: Transfer

    def progress(event: Event) -> None:
        if isinstance(event, Advanced):
            transfer.cancel()

    transfer = Transfer(sinks, progress, PACE, mover.clock.deadline())
    with lying(honest) as server, pytest.raises(Cancelled):
        transfer.fetch([BLOB], [source(server.address)])

    assert mover.blob() is None
    assert mover.kept > 0


def test_stops_when_the_time_is_over(mover: Mover, open_session: Open) -> None:
    deadline = mover.clock.deadline(60)
    sinks = PartialFiles(mover.directory / "partial", mover.directory / "blobs")

    def answer(received: Received) -> Iterable[bytes]:
        mover.clock.advance(61)
        return cut_after(reply_range(received, CONTENT), 10)

    with lying(answer) as server:
        session = open_session(server.address, network=Network(deadline=deadline))
        with pytest.raises(TimedOut, match="operation"):
            Transfer(sinks, deadline=deadline).fetch([BLOB], [RepositorySource(session, NAME)])


def test_asks_for_a_digest_once(mover: Mover, source: Sourced) -> None:
    with lying(honest) as server:
        mover.fetch([source(server.address)], BLOB, BLOB, BLOB)

        assert len(server.requests) == 1
