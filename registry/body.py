"""Reading a request body straight from its socket, in a thread, into a writer.

uvicorn's own path costs several copies and event loop turns per 64 KiB. Here the protocol class hands the
socket over for the length of one body: bytes go from the kernel into one buffer and from there to the
writer, which hashes and stores them, all without the interpreter lock. A client that pauses is waited for
on the event loop, never in a thread.
"""

import re
import select
import socket
import time
from collections.abc import Callable
from typing import Protocol

BLOCK = 1024 * 1024
# How long a thread waits for a fast client's next bytes before the event loop waits instead.
_POLL_MILLISECONDS = 5
# After this long a thread gives way to other bodies that wait for one.
_SLICE_SECONDS = 0.5
_HEAD_LIMIT = 8 * 1024

_chunk_head = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]{0,512})?\r\n").match
_trailer = re.compile(rb"[^\r\n]{1,4096}\r\n").match

Write = Callable[[memoryview], None]


class BodyCut(Exception):
    """The client left or stalled before its body ended."""


class BodyMalformed(BodyCut):
    """The chunked coding is broken; where the body ends cannot be known."""


class Framing(Protocol):
    """Knows where a body ends."""

    done: bool

    def decode(self, raw: memoryview, write: Write) -> int:
        """Hand on the body's bytes in `raw`; return how many of `raw` are used up. Raises BodyCut."""
        ...


class Length:
    """A body of a declared Content-Length, in bytes."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.done = size == 0

    def decode(self, raw: memoryview, write: Write) -> int:
        size = min(self._left, len(raw))
        if size:
            write(raw[:size])
        self._left -= size
        self.done = self._left == 0
        return size


class Chunked:
    """A body in the chunked coding, its pieces gathered into one block a write.

    Source: RFC 9112 §7.1. Extensions and trailers are read and dropped; a bare line feed is an error.
    """

    def __init__(self) -> None:
        self._left = 0  # bytes of the current chunk still to come
        self._ends_chunk = False  # its closing line break is still to come
        self._in_trailers = False
        self._block = bytearray(BLOCK)
        self.done = False

    def decode(self, raw: memoryview, write: Write) -> int:
        position = filled = 0
        while position < len(raw) and not self.done:
            if self._left:
                size = min(self._left, len(raw) - position, BLOCK - filled)
                self._block[filled : filled + size] = raw[position : position + size]
                filled, position, self._left = filled + size, position + size, self._left - size
                self._ends_chunk = self._left == 0
                if filled == BLOCK:
                    write(memoryview(self._block))
                    filled = 0
            else:
                used = self._decode_line(raw, position)
                if used == 0:
                    break
                position += used
        if filled:
            write(memoryview(self._block)[:filled])
        return position

    def _decode_line(self, raw: memoryview, position: int) -> int:
        """Read a line between chunks; return its length, 0 when it is not all there."""
        if self._ends_chunk:
            return self._decode_chunk_end(raw, position)
        if self._in_trailers:
            return self._decode_trailer(raw, position)
        match = _chunk_head(raw, position)
        if match is None:
            return _await_line(raw, position)
        self._left = int(match[1], 16)
        self._in_trailers = self._left == 0
        return match.end() - position

    def _decode_chunk_end(self, raw: memoryview, position: int) -> int:
        end = bytes(raw[position : position + 2])
        if not b"\r\n".startswith(end):
            raise BodyMalformed("a chunk does not end where it should")
        if len(end) < 2:
            return 0
        self._ends_chunk = False
        return 2

    def _decode_trailer(self, raw: memoryview, position: int) -> int:
        if bytes(raw[position : position + 2]) == b"\r\n":
            self.done = True
            return 2
        match = _trailer(raw, position)
        return match.end() - position if match else _await_line(raw, position)


def _await_line(raw: memoryview, position: int) -> int:
    rest = bytes(raw[position : position + _HEAD_LIMIT])
    if len(rest) == _HEAD_LIMIT or b"\n" in rest:
        raise BodyMalformed("the chunked coding of the body is broken")
    return 0


class BodyReader:
    """One body on its way from a non-blocking socket to a writer; `total` counts its decoded bytes."""

    def __init__(self, sock: socket.socket, framing: Framing, early: bytes, write: Write) -> None:
        self._socket = sock
        self._framing = framing
        self._write = write
        self._buffer = bytearray(max(BLOCK, 2 * len(early)))
        self._buffer[: len(early)] = early
        self._filled = len(early)
        self.received = len(early)
        self.total = 0

    @property
    def surplus(self) -> bytes:
        """What came behind the body: the next request's first bytes."""
        return bytes(self._buffer[: self._filled])

    def run(self) -> bool:
        """Read until the body ends (True), or the client pauses or the slice is over (False).

        Raises BodyCut, and whatever the writer raises.
        """
        self._decode()
        until = time.monotonic() + _SLICE_SECONDS
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not self._framing.done:
            if not self._fill(poll) or time.monotonic() > until:
                return False
        return True

    def _fill(self, poll: select.poll) -> bool:
        """Read what is there, up to a full buffer, and decode it; False when nothing came."""
        before = self.received
        try:
            while self._filled < len(self._buffer):
                if not self._receive() and not poll.poll(_POLL_MILLISECONDS):
                    break
        finally:
            # What came before the client left still counts.
            self._decode()
        return self.received != before

    def _receive(self) -> bool:
        """Read once; False when the socket has nothing now."""
        try:
            size = self._socket.recv_into(memoryview(self._buffer)[self._filled :])
        except BlockingIOError:
            return False
        except OSError as error:
            raise BodyCut("the client's connection broke") from error
        if size == 0:
            raise BodyCut("the client left before its body ended")
        self._filled += size
        self.received += size
        return True

    def _decode(self) -> None:
        raw = memoryview(self._buffer)[: self._filled]
        used = self._framing.decode(raw, self._count)
        rest = bytes(raw[used:])
        raw.release()
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)

    def _count(self, data: memoryview) -> None:
        self._write(data)
        self.total += len(data)
