"""Bodies from a socket: framing, surplus, and clients that leave or stall."""

import os
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.body import BodyCut, BodyReader, Chunked, Length
from storage.oci.digest import Digest
from tests.registry.wire import Wire, connect

HOST = "Host: registry.test\r\n"


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def decode(raw: bytes, cuts: list[int]) -> tuple[bytes, bytes, bool]:
    """Decode as a socket would bring it, cut at `cuts`; return body, surplus and whether it ended."""
    framing, out, pending = Chunked(), bytearray(), bytearray()
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    for start, stop in pairwise(edges):
        pending += raw[start:stop]
        if framing.done:
            continue
        used = framing.decode(memoryview(bytes(pending)), out.extend)
        del pending[:used]
    return bytes(out), bytes(pending), framing.done


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    surplus=st.binary(max_size=50),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
)
def test_chunks_decode_however_they_are_cut(chunks: list[bytes], surplus: bytes, cuts: list[int]) -> None:
    assert decode(chunked(*chunks) + surplus, cuts) == (b"".join(chunks), surplus, True)


def test_extensions_and_trailers_are_dropped() -> None:
    raw = b'3;name="value"\r\nabc\r\n0\r\nX-Trailer: yes\r\nAnother: one\r\n\r\nGET'

    assert decode(raw, [1, 5, 20]) == (b"abc", b"GET", True)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"3\nabc\n0\n\n", id="bare-lf"),
        pytest.param(b"x\r\nabc\r\n", id="no-number"),
        pytest.param(b"-3\r\nabc\r\n", id="negative"),
        pytest.param(b"0x3\r\nabc\r\n", id="prefix"),
        pytest.param(b"3\r\nabcd\r\n", id="too-long"),
        pytest.param(b"3\r\nabc3\r\nabc\r\n", id="no-end"),
        pytest.param(b"f" * 20 + b"\r\n", id="huge"),
        pytest.param(b"3;" + b"x" * 9000, id="endless-extension"),
        pytest.param(b"0\r\n" + b"x" * 9000, id="endless-trailer"),
    ],
)
def test_http_01_a_broken_coding_is_cut(raw: bytes) -> None:
    with pytest.raises(BodyCut):
        decode(raw, [])


@given(raw=st.binary(max_size=200))
def test_any_bytes_decode_or_are_cut(raw: bytes) -> None:
    try:
        decode(raw, [7, 90])
    except BodyCut:
        return


def test_what_came_before_the_client_left_is_written() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    written = bytearray()
    with ours, theirs:
        theirs.sendall(b"half")
        theirs.close()
        reader = BodyReader(ours, Length(20), b"first ", written.extend)
        with pytest.raises(BodyCut):
            reader.run()

    assert written == b"first half"


def test_a_pause_returns_to_the_event_loop() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    written = bytearray()
    with ours, theirs:
        reader = BodyReader(ours, Length(10), b"", written.extend)
        theirs.sendall(b"01234")
        assert reader.run() is False
        theirs.sendall(b"56789next")
        assert reader.run() is True

    assert (bytes(written), reader.surplus, reader.total) == (b"0123456789", b"next", 10)


CONTENT = os.urandom(3_000_000)
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def wire(registry_url: str) -> Iterator[Wire]:
    with connect(registry_url) as wire:
        yield wire


def begin(wire: Wire) -> str:
    wire.send(f"POST /v2/body/blobs/uploads/ HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n")
    return wire.answer().headers["location"]


def test_a_pipelined_request_behind_a_body_is_answered(wire: Wire) -> None:
    location = begin(wire)

    wire.send(
        f"PUT {location}&digest={DIGEST} HTTP/1.1\r\n{HOST}Content-Length: {len(CONTENT)}\r\n\r\n".encode()
        + CONTENT
        + f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n".encode()
    )

    assert [wire.answer().status, wire.answer().status] == [201, 200]


def test_a_pipelined_request_behind_a_chunked_body_is_answered(wire: Wire) -> None:
    location = begin(wire)

    wire.send(
        f"PATCH {location} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n".encode()
        + chunked(CONTENT[:16], CONTENT[16:40000], CONTENT[40000:])
        + f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n".encode()
    )

    answer = wire.answer()
    assert (answer.status, answer.headers["range"]) == (202, f"0-{len(CONTENT) - 1}")
    assert wire.answer().status == 200
    wire.send(f"PUT {answer.headers['location']}&digest={DIGEST} HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n")
    assert wire.answer().status == 201


def test_the_head_and_the_body_may_come_together_or_apart(wire: Wire) -> None:
    head = (
        f"PUT {begin(wire)}&digest={DIGEST} HTTP/1.1\r\n{HOST}Content-Length: {len(CONTENT)}\r\n\r\n".encode()
    )
    for start in range(0, len(head), 7):
        wire.send(head[start : start + 7])
    for start in range(0, len(CONTENT), 400_000):
        wire.send(CONTENT[start : start + 400_000])

    assert wire.answer().status == 201


def test_crash_05_a_client_that_leaves_keeps_its_offset(registry_url: str, wire: Wire) -> None:
    location = begin(wire)
    with connect(registry_url) as leaving:
        leaving.send(f"PATCH {location} HTTP/1.1\r\n{HOST}Content-Length: {len(CONTENT)}\r\n\r\n".encode())
        leaving.send(CONTENT[:1_500_000])
        leaving.sock.shutdown(socket.SHUT_WR)
        answer = leaving.answer()
    assert answer.status == 408

    wire.send(f"GET {location} HTTP/1.1\r\n{HOST}\r\n")
    assert wire.answer(head_only=True).headers["range"] == "0-1499999"
    wire.send(
        f"PATCH {location} HTTP/1.1\r\n{HOST}Content-Length: 1500000\r\n"
        "Content-Range: 1500000-2999999\r\n\r\n"
    )
    wire.send(CONTENT[1_500_000:])
    assert wire.answer().status == 202
    wire.send(f"PUT {location}&digest={DIGEST} HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n")
    assert wire.answer().status == 201


def test_http_01_a_broken_chunk_is_refused_and_the_connection_closed(wire: Wire) -> None:
    wire.send(f"PATCH {begin(wire)} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX\r\n")

    assert wire.answer().status == 400
    assert wire.is_closed()


def test_many_bodies_at_once(registry_url: str) -> None:
    statuses: list[int] = []

    def push(number: int) -> None:
        content = CONTENT[number * 1000 :]
        with connect(registry_url) as wire:
            location = begin(wire)
            wire.send(
                f"PUT {location}&digest={Digest.of(content)} HTTP/1.1\r\n{HOST}"
                f"Content-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            statuses.append(wire.answer().status)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [201] * 24


def test_api_05_one_of_two_writers_wins(registry_url: str) -> None:
    with connect(registry_url) as first, connect(registry_url) as second:
        location = begin(first)
        first.send(f"PATCH {location} HTTP/1.1\r\n{HOST}Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert first.answer().status == 100, "it holds the claim and waits for its body"
        first.send("01234")
        second.send(f"PATCH {location} HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n")
        assert second.answer().status == 416
        first.send("56789")

        answer = first.answer()
        assert (answer.status, answer.headers["range"]) == (202, "0-9")
