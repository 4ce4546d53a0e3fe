"""The first moments of a TLS connection: before its handshake is done there is no HTTP to speak of.

Who does not speak TLS at all is told so at once, in plain HTTP. A connection counts from its first moment,
and has the time for its handshake that a request has for its head.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from registry import metrics
from registry.gate import Gate
from registry.refusal import on_the_wire
from registry.tls import Certificates
from storage.oci.errors import RequestInvalid

log = logging.getLogger(__name__)

_TLS_HANDSHAKE = b"\x16"
_LINGER_SECONDS = 5.0


class Handshake(asyncio.Protocol):
    """A connection on its way to TLS; then the protocol that `speak` makes has it.

    `speak` gets a callback as `arrived`, to call when it counts the connection itself.
    """

    def __init__(
        self,
        gate: Gate,
        certificates: Certificates,
        server: ServerState,
        speak: Callable[..., asyncio.Protocol],
    ) -> None:
        self._gate = gate
        self._certificates = certificates
        self._server = server
        self._speak = speak
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._failure = "limit"
        self._counts = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast("asyncio.Transport", transport)
        self._client = (get_remote_addr(raw) or ("-", 0))[0]
        self._connections.add(self)
        self._counts = True
        is_welcome = self._gate.enter(self, self._client)
        # A transport would swallow the first byte, which TLS needs too: the socket goes on without it.
        sock = socket.socket(fileno=os.dup(raw.get_extra_info("socket").fileno()))
        raw.abort()
        if not is_welcome:
            sock.close()
            self._end()
            return
        self._task = self._loop.create_task(self._shake_hands(sock))
        self._server.tasks.add(self._task)
        self._task.add_done_callback(self._server.tasks.discard)

    def sweep(self, now: float) -> None:
        if now - self._since > self._gate.limits.header_seconds:
            self._failure = "timeout"
            self._task.cancel()

    def shutdown(self) -> None:
        """End: the server does, and nothing was asked here yet."""
        self._failure = "shutdown"
        self._task.cancel()

    @property
    def _connections(self) -> set[Any]:
        return cast("set[Any]", self._server.connections)

    async def _shake_hands(self, sock: socket.socket) -> None:
        self._failure = "left"
        try:
            first = await self._peek(sock)
            if first == _TLS_HANDSHAKE:
                await self._start_tls(sock)
            elif first:
                await self._answer_plainly(sock)
        except ConnectionAbortedError:
            self._failure = "timeout"
        except ConnectionError:
            pass
        except OSError as error:  # ssl.SSLError is one
            self._failure = "tls"
            log.debug("no TLS handshake", extra={"client": self._client, "reason": str(error)})
        finally:
            if self._counts:
                sock.close()
            self._end()

    async def _peek(self, sock: socket.socket) -> bytes:
        """Return the first byte, which stays in the socket; nothing when the client left."""
        while True:
            with suppress(BlockingIOError):
                return sock.recv(1, socket.MSG_PEEK)
            ready = self._loop.create_future()
            self._loop.add_reader(sock.fileno(), _resolve, ready)
            try:
                await ready
            finally:
                self._loop.remove_reader(sock.fileno())

    async def _start_tls(self, sock: socket.socket) -> None:
        await self._loop.connect_accepted_socket(
            lambda: self._speak(arrived=self._leave),
            sock,
            ssl=self._certificates.context(),
            ssl_handshake_timeout=self._gate.limits.header_seconds,
            ssl_shutdown_timeout=_LINGER_SECONDS,
        )

    async def _answer_plainly(self, sock: socket.socket) -> None:
        self._failure = "plain"
        error = RequestInvalid("this port speaks TLS; use https://")
        await self._loop.sock_sendall(sock, on_the_wire(error))
        sock.shutdown(socket.SHUT_WR)
        # A reset for unread bytes would take the answer away from the client.
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._loop.sock_recv(sock, 65536):
                    pass

    def _end(self) -> None:
        if self._counts:
            metrics.HANDSHAKES_FAILED.labels(self._failure).inc()
            self._leave()

    def _leave(self) -> None:
        self._counts = False
        self._connections.discard(self)
        self._gate.leave(self, self._client)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
