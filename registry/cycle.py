"""One request and its answer on a connection: uvicorn's cycle, with two shortcuts past Python's copies."""

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from registry.body import BodyCut, BodyReader, Chunked, Framing, Length, Write
from registry.offload import finish
from registry.zero_copy import FileSender

if TYPE_CHECKING:
    from registry.protocol import RegistryProtocol

# Up to this a file is sent on the event loop: cheaper than a hop, and too short to hold anyone up.
_INLINE_BYTES = 64 * 1024
# A body that nobody wants is read to its end if it is this short; else the connection closes.
_DISCARD_BYTES = 64 * 1024
_BODILESS = (204, 304)


class Cycle(RequestResponseCycle):
    """Adds `http.response.zerocopysend` and `cargohold.body` to uvicorn's cycle."""

    protocol: "RegistryProtocol"
    content_length: int | None = 0  # None: the chunked coding
    received = 0  # bytes of the body, for the floor
    sent = 0  # bytes of the answer, for the floor
    closes = False  # the connection ends with this answer
    runs = False  # it counts towards the requests a worker answers at once
    _head = b""  # of the answer, not written yet

    async def receive(self) -> Any:
        self.protocol.release_body(self)
        return await super().receive()

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or self.transport.is_closing():
            # uvicorn tells only the latest request of a pipeline that the client has left.
            self.disconnected = True
            return
        if message["type"] == "http.response.start":
            self._start_response(message)
        elif message["type"] == "http.response.body":
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            await self._send_file(message)

    def _start_response(self, message: Any) -> None:
        """Write the head down; it goes out with the first bytes behind it, in one system call."""
        if self.response_started:
            raise RuntimeError("the response was started before")
        self.response_started = True
        self.waiting_for_100_continue = False
        if self._has_unread_body():
            self.keep_alive = False
        status = message["status"]
        content = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *message.get("headers", ())):
            if b"\r" in value or b"\n" in value or b"\0" in value:
                raise RuntimeError("a response header may not hold a line break")
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive = False
                continue
            content += (name, b": ", value, b"\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _BODILESS:
            self.chunked_encoding = True
            content.append(b"transfer-encoding: chunked\r\n")
        content.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self._head = b"".join(content)
        # uvicorn would close the transport right behind the answer; the protocol does it in its own way.
        self.closes, self.keep_alive = not self.keep_alive, True

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if not self.response_started or self.response_complete:
            raise RuntimeError("a body belongs between the start and the end of a response")
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif self.chunked_encoding:
            body = _chunk(body, more=more)
        else:
            if len(body) > self.expected_content_length:
                raise RuntimeError("the response is longer than its Content-Length")
            self.expected_content_length -= len(body)
        head, self._head = self._head, b""
        self.sent += len(body)
        if head or body:
            self.transport.write(head + body if head else body)
        if not more:
            self._complete()

    def _complete(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("the response is shorter than its Content-Length")
        self.response_complete = True
        self.protocol.ended(self)
        self.message_event.set()
        if not self.keep_alive:  # the server shuts down
            self.transport.close()
        self.on_response()

    def _has_unread_body(self) -> bool:
        """Say whether more of the body is to come than is worth reading for nothing."""
        if not self.more_body:
            return False
        return self.content_length is None or self.content_length > _DISCARD_BYTES

    async def take(self, write: Write) -> int:
        """Read the whole body into `write`, called on threads, one call at a time; return its bytes.

        Raises BodyCut when the client leaves, stalls or breaks the coding; then the connection closes.
        """
        protocol, loop = self.protocol, self.protocol.loop
        if self.waiting_for_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        framing: Framing = Chunked() if self.content_length is None else Length(self.content_length)
        with _duplicate(self.transport) as sock:
            reader = BodyReader(sock, framing, protocol.take_body(self), write)
            try:
                while not await finish(loop.run_in_executor(protocol.threads, reader.run)):
                    self.received = reader.received
                    await self._wait(loop.add_reader, loop.remove_reader, sock)
            except BaseException:
                # The rest of the body is still to come and nobody will read it.
                self.keep_alive = False
                raise
        self.more_body = False
        protocol.body_ended(reader.surplus)
        return reader.total

    async def _send_file(self, message: Any) -> None:
        count = message["count"]
        if self.disconnected or self.scope["method"] == "HEAD" or not count:
            return
        if not self.response_started or self.chunked_encoding or count > self.expected_content_length:
            raise RuntimeError("a zero-copy send must fit a Content-Length that was sent before")
        if self._head:
            self.transport.write(self._head)
            self._head = b""
        await self._drain()
        with _duplicate(self.transport) as sock:
            sender = FileSender(sock, message["file"].fileno(), message["offset"], count)
            try:
                await self._run_sender(sender, sock)
            except (OSError, BodyCut):
                self.transport.abort()  # the client left in the middle
                return
            except BaseException:
                # Whatever it was, the promised bytes did not come: never a clean end (INV-04).
                self.transport.abort()
                raise
        self.expected_content_length -= count
        if not message.get("more_body", False):
            self._complete()

    async def _drain(self) -> None:
        """Wait until the transport has sent all it holds, so that the file's bytes come behind it."""
        self.transport.set_write_buffer_limits(high=0)
        if self.flow.write_paused:
            await self.flow.drain()
        self.transport.set_write_buffer_limits(high=self.protocol.write_buffer)

    async def _run_sender(self, sender: FileSender, sock: socket.socket) -> None:
        protocol, loop, before = self.protocol, self.protocol.loop, self.sent
        done = sender.try_once() if sender.is_short(_INLINE_BYTES) else False
        while not done:
            done = await finish(loop.run_in_executor(protocol.threads, sender.run))
            self.sent = before + sender.sent
            if not done:
                await self._wait(loop.add_writer, loop.remove_writer, sock)
        if self.disconnected:
            raise ConnectionResetError("the client left")

    async def _wait(self, add: Any, remove: Any, sock: socket.socket) -> None:
        """Wait on the event loop until the socket is ready. Raises BodyCut when the connection ends."""
        ready = self.protocol.loop.create_future()
        add(sock.fileno(), _resolve, ready)
        self.protocol.waiting = ready
        try:
            await ready
        finally:
            self.protocol.waiting = None
            remove(sock.fileno())
        if self.transport.is_closing():
            raise BodyCut("the connection was closed: its client left or was too slow")


def _chunk(body: bytes, *, more: bool) -> bytes:
    """Source: RFC 9112 §7.1."""
    return (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _duplicate(transport: asyncio.Transport) -> socket.socket:
    """Open a second descriptor of a transport's socket, which the event loop lets us watch."""
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
