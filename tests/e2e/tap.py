"""A relay that notes which requests pass, and can cut or hold a connection in the middle of a body."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httptools

from tests.e2e.sandbox import Sandbox

_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Request:
    """A request line, and the Range header if there was one."""

    method: str
    target: str
    range: str | None

    @property
    def sends_blob_data(self) -> bool:
        """Tell whether bytes of a blob travel in this request."""
        return self.method in ("PATCH", "PUT") and "/blobs/uploads/" in self.target

    @property
    def mount(self) -> tuple[str, str] | None:
        """The digest and the source repository, when this asks for a cross-repository mount."""
        query = parse_qs(urlsplit(self.target).query)
        if self.method != "POST" or "mount" not in query or "from" not in query:
            return None
        return query["mount"][0], query["from"][0]


@dataclass(slots=True)
class Tap:
    """The requests that have passed so far, in the order of their arrival."""

    _requests: list[Request] = field(default_factory=list)
    _cut_after: int | None = None
    _hold_after: int | None = None

    def note(self, request: Request) -> None:
        """Remember a request."""
        self._requests.append(request)

    def forget(self) -> None:
        """Forget all requests."""
        self._requests.clear()

    def cut_one_connection(self, *, after: int) -> None:
        """Cut, once, the first connection that brings a client more than `after` bytes."""
        self._cut_after = after

    def hold_one_connection(self, *, after: int) -> None:
        """Keep back, once, what a connection brings a client behind so many bytes."""
        self._hold_after = after

    def holds(self, received: int) -> bool:
        """Tell whether the time has come to hold a connection that has brought so many bytes."""
        if self._hold_after is None or received <= self._hold_after:
            return False
        self._hold_after = None
        return True

    def cuts(self, received: int) -> bool:
        """Tell whether the time has come to cut a connection that has brought so many bytes."""
        if self._cut_after is None or received <= self._cut_after:
            return False
        self._cut_after = None
        return True

    def requests(self, repository: str) -> list[Request]:
        """Select the requests to one repository."""
        return [request for request in self._requests if request.target.startswith(f"/v2/{repository}/")]


class _RequestNotes:
    """Callbacks of the HTTP parser."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._url = b""
        self._range: str | None = None
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._url, self._range = b"", None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"range":
            self._range = value.decode()

    def on_headers_complete(self) -> None:
        self._tap.note(Request(self.parser.get_method().decode(), self._url.decode(), self._range))


@contextlib.contextmanager
def tapping(sandbox: Sandbox, *, port: int, upstream_port: int) -> Iterator[Tap]:
    """Relay a port of the sandbox to another while the block lasts."""
    tap = Tap()
    started = threading.Event()
    stop = threading.Event()

    async def relay() -> None:
        # asyncio itself holds its tasks by weak references only.
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(_relay_connection(tap, reader, writer, upstream_port))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", port)
        started.set()
        await asyncio.to_thread(stop.wait)
        server.close()

    sandbox.submit(lambda: asyncio.run(relay()))
    assert started.wait(10)
    try:
        yield tap
    finally:
        stop.set()


async def _relay_connection(
    tap: Tap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream_port: int
) -> None:
    upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
    try:
        await asyncio.gather(
            _copy_requests(tap, reader, upstream_writer),
            _copy_responses(tap, upstream_reader, writer),
        )
    finally:
        upstream_writer.close()
        writer.close()


async def _copy_requests(tap: Tap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy to the end; bytes that are not HTTP, such as a ClientHello, pass unread."""
    notes: _RequestNotes | None = _RequestNotes(tap)
    with contextlib.suppress(OSError):  # Either side has gone; closing tells the other.
        while block := await reader.read(_BLOCK):
            if notes is not None:
                try:
                    notes.parser.feed_data(block)
                except httptools.HttpParserError:
                    notes = None
            writer.write(block)
            await writer.drain()
        writer.write_eof()
        return
    writer.close()


async def _copy_responses(tap: Tap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    received = 0
    with contextlib.suppress(OSError):
        while block := await reader.read(_BLOCK):
            received += len(block)
            if tap.cuts(received):
                break
            if tap.holds(received):
                await reader.read()  # until the client has gone
                break
            writer.write(block)
            await writer.drain()
    writer.close()
