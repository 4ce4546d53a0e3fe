"""HTTP/1.1 as the registry speaks it: uvicorn's protocol with a guard at its door.

What is ambiguous, oversized, too slow or too much is refused here, in the spec's JSON, before any handler
runs (HTTP-01..HTTP-08). The start of a body is held back until the application asks for it: through
`receive`, and then uvicorn's parser goes on, or through the extension `cargohold.body`, which reads the
socket itself.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from registry.access_log import Refusals
from registry.cycle import Cycle
from registry.gate import Gate
from registry.head import SINGLE, WATCHED, body_length, check_head
from registry.refusal import on_the_wire, refusal
from registry.tls import extension
from storage.oci.errors import (
    HeadersTooLarge,
    RegistryError,
    RequestInvalid,
    Unavailable,
    UriTooLong,
)

_TARGET_LIMIT = 8 * 1024
_HEADERS_LIMIT = 32 * 1024
_HEADER_LINES = 100
_WRITE_BUFFER = 256 * 1024
_LINGER_SECONDS = 5.0

_TLS_HANDSHAKE = 0x16


class RegistryProtocol(HttpToolsProtocol):
    """One client connection."""

    write_buffer = _WRITE_BUFFER

    def __init__(
        self,
        *,
        gate: Gate,
        threads: ThreadPoolExecutor,
        refusals: Refusals,
        arrived: Callable[[], None] | None = None,
        **uvicorn: Any,
    ) -> None:
        super().__init__(**uvicorn)
        self._arrived = arrived
        self.gate = gate
        self.threads = threads
        self.url = b""
        self._refusals = refusals
        self._tls: dict[str, Any] | None = None
        self.waiting: asyncio.Future[None] | None = None
        # The request whose answer is next; `cycle` is the latest, and those between wait in the pipeline.
        self._running: Cycle | None = None
        self._watched: dict[bytes, bytes] = {}
        self._in_head = True
        self._head_bytes = 0
        self._head_lines = self._header_bytes = 0
        self._splits = False  # what is fed to the parser ends with a head
        self._tail = b""  # the last bytes of a head that is not complete
        self._held: bytearray | None = None  # the start of a body that nobody asked for yet
        self._refused = False
        self._since = 0.0  # of the connection, the head or the idle time
        self._progress = (0.0, 0)  # when the floor was measured last, and the bytes by then
        self._body_bytes = 0

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._since = self.loop.time()
        if (tls := transport.get_extra_info("ssl_object")) is not None:
            self._tls = extension(tls)
        if self._arrived is not None:
            self._arrived()
        if not self.gate.enter(self, self._client()):
            self._refuse(Unavailable("too many connections", retry_after_seconds=5))

    def connection_lost(self, exc: Exception | None) -> None:
        self.gate.leave(self, self._client())
        super().connection_lost(exc)
        self._wake()

    def _current(self) -> Cycle | None:
        """Return the latest request; uvicorn has no type for there being none yet."""
        return cast("Cycle | None", self.cycle)

    def _client(self) -> str:
        return str(self.client[0]) if self.client else "-"

    def _wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    def _refuse(self, error: RegistryError) -> None:
        """Answer with an error and close. An answer under way is finished first, and nothing follows it."""
        if self._refused:
            return
        self._refused = True
        running = self._running
        if running is not None and not running.response_complete:
            self.pipeline.clear()
            if running is not self.cycle or running.response_started or not running.more_body:
                running.closes = True
                running.keep_alive = running.response_started
                return
            # It is this request's own body that is broken: its handler hears that nothing more comes.
            running.disconnected = True
            running.message_event.set()
        else:
            self._report(error)
        self.transport.write(on_the_wire(error, self.server_state.default_headers))
        self._linger()

    def _report(self, error: RegistryError) -> None:
        method = self.parser.get_method() if self.url else b"-"
        self._refusals.report(error, self._client(), method, self.url)

    def _linger(self) -> None:
        """Close so that the answer arrives: a reset for unread bytes would take it away from the client."""
        self._refused = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def eof_received(self) -> None:
        if self._refused:
            self.transport.close()

    # Bytes

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._held is not None:
            self._held += data
            return
        if data[0] == _TLS_HANDSHAKE and self._current() is None and self._tls is None:
            # docker and podman try TLS first; a server that waits for a line would hang them.
            self._refuse(RequestInvalid("this port speaks plain HTTP"))
            return
        while data and self._is_reading():
            data = self._feed_head(data) if self._in_head else self._feed_body(data)
        self._hold(data)

    def _is_reading(self) -> bool:
        return not self._refused and self._held is None

    def _hold(self, data: bytes) -> None:
        if self._held is not None:
            self._held += data

    def _feed_head(self, data: bytes) -> bytes:
        """Feed the parser up to the end of a head; return what is behind it."""
        if not self._head_bytes:
            self._since = self.loop.time()
        found = (self._tail + data).find(b"\r\n\r\n")
        end = len(data) if found < 0 else found + 4 - len(self._tail)
        self._head_bytes += end
        self._tail = (self._tail + data[:end])[-3:] if found < 0 else b""
        if self._head_bytes > _TARGET_LIMIT + _HEADERS_LIMIT:
            self._refuse(HeadersTooLarge("the request's headers are too large"))
            return b""
        self._splits = found >= 0
        self._parse(data[:end])
        self._splits = False
        return data[end:]

    def _feed_body(self, data: bytes) -> bytes:
        self._body_bytes += len(data)
        self._parse(data)
        return b""

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, RegistryError):
                raise
            self._refuse(cause)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(RequestInvalid("the request is not valid HTTP/1.1"))

    # What the parser calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._watched = {}
        self._head_lines = self._header_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > _TARGET_LIMIT:
            raise UriTooLong("the request target is too long", limit=_TARGET_LIMIT)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        self._head_lines += 1
        self._header_bytes += len(name) + len(value) + 4
        if self._head_lines > _HEADER_LINES or self._header_bytes > _HEADERS_LIMIT:
            raise HeadersTooLarge("the request has too many or too large headers", limit=_HEADERS_LIMIT)
        if name in WATCHED:
            if name in self._watched and name in SINGLE:
                raise RequestInvalid(f"the request has several {name.decode()} headers")
            self._watched[name] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        method, version = self.parser.get_method(), self.parser.get_http_version()
        check_head(method, self.url, version, self._watched)
        length = body_length(version, self._watched)
        target, _, query = self.url.partition(b"?")
        scope = self.scope
        scope["method"] = method.decode("ascii")
        if version != "1.1":
            scope["http_version"] = "1.0"
        # Nothing here decides by the decoded path; it is what ASGI asks for.
        scope["path"] = target.decode("latin-1")
        scope["raw_path"] = target
        scope["query_string"] = query
        self._start(length)

    def _start(self, length: int | None) -> None:
        before = self._current()
        cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self._watched.get(b"expect", b"").lower() == b"100-continue",
            keep_alive=self.parser.should_keep_alive() and self.scope["http_version"] == "1.1",
            on_response=self.on_response_complete,
        )
        cycle.protocol = self
        cycle.content_length = length
        self.cycle = cycle
        self._progress = (self.loop.time(), 0)
        is_free = before is None or before.response_complete
        extensions: dict[str, Any] = {}
        self.scope["extensions"] = extensions
        if self._tls is not None:
            extensions["tls"] = self._tls
        else:
            extensions["http.response.zerocopysend"] = {}
        self._body_bytes = 0
        if length != 0 and is_free and self._splits and self._tls is None:
            self._held = bytearray()
            self.flow.pause_reading()
            extensions["cargohold.body"] = {"take": cycle.take}
        if is_free:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if self.gate.running >= self.gate.limits.max_requests:
            app = self._overloaded
        self.gate.running += 1
        cycle.runs = True
        self._running = cycle
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(partial(self._task_done, cycle))
        self.tasks.add(task)

    async def _overloaded(self, scope: Any, receive: Any, send: Any) -> None:
        error = Unavailable("the registry is overloaded", retry_after_seconds=1)
        self._refusals.report(error, self._client(), scope["method"].encode(), scope["raw_path"])
        await refusal(error)(scope, receive, send)

    def _task_done(self, cycle: Cycle, task: "asyncio.Task[None]") -> None:
        self.ended(cycle)
        self.tasks.discard(task)

    def ended(self, cycle: Cycle) -> None:
        """Count a request out, with its answer or with its task, whichever is first."""
        if cycle.runs:
            cycle.runs = False
            self.gate.running -= 1

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self.url = b""  # of the next request, once there is one
        super().on_message_complete()

    # Bodies

    def release_body(self, cycle: Cycle) -> None:
        """Let uvicorn's parser read a body whose start was held back."""
        if self._held is None or cycle is not self.cycle:
            return
        held, self._held = bytes(self._held), None
        self.flow.resume_reading()
        if held:
            self.data_received(held)

    def take_body(self, cycle: Cycle) -> bytes:
        """Give the held start of a body to who reads the rest from the socket."""
        if self._held is None or cycle is not self.cycle:
            raise RuntimeError("the body was already asked for")
        held = bytes(self._held)
        self._held = bytearray()
        self.flow.pause_reading()
        return held

    def body_ended(self, surplus: bytes) -> None:
        """Go on behind a body that was read from the socket, with a parser that never saw it."""
        surplus += bytes(self._held or b"")
        self._held = None
        self.parser = httptools.HttpRequestParser(self)
        self._in_head = True
        self.flow.resume_reading()
        if surplus:
            self.data_received(surplus)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        ended = cast("Cycle", self._running)  # not `cycle`: a pipelined one may have come since
        if self._refused or ended.closes:
            self._close_after_response(ended)
            return
        self.release_body(ended)
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def _close_after_response(self, ended: Cycle) -> None:
        self.pipeline.clear()
        if ended.more_body or self._refused:
            self._held = None
            self._linger()
        else:
            self.transport.close()

    # Time

    def sweep(self, now: float) -> None:
        limits, cycle = self.gate.limits, self._current()
        if self.transport.is_closing():
            self._wake()
        elif cycle is None or cycle.response_complete:
            self._sweep_head(now)
        elif now - self._progress[0] > limits.body_floor_window_seconds:
            self._sweep_progress(now)

    def _sweep_head(self, now: float) -> None:
        limits = self.gate.limits
        is_idle = self._current() is not None and not self._head_bytes
        if now - self._since > (limits.idle_seconds if is_idle else limits.header_seconds):
            self.transport.close()

    def _sweep_progress(self, now: float) -> None:
        """Cut a client that we wait for and that moved less than the floor since the last look."""
        cycle: Any = self.cycle
        moved = cycle.received + cycle.sent + self._body_bytes
        since, before = self._progress
        self._progress = (now, moved)
        waits = self.waiting is not None or self.flow.write_paused or self._reads_body(cycle)
        floor = self.gate.limits.body_floor_bytes_per_second * (now - since)
        if waits and moved - before < floor:
            self.transport.abort()
            self._wake()

    def _reads_body(self, cycle: Any) -> bool:
        return bool(cycle.more_body and self._held is None and not self.flow.read_paused)
