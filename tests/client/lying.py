"""A server that answers whatever a test says, byte by byte: what no honest registry would send."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Received:
    """One request as it came; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode())

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")

    @property
    def range(self) -> tuple[int, int | None]:
        """The bytes that were asked for, as start and stop."""
        first, _, last = self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1 if last else None


Answer = Callable[[Received], Iterable[bytes]]


class Cut(Exception):
    """Raised by an answer to close the connection where it is."""


def reply(status: int, body: bytes = b"", /, **headers: object) -> Iterator[bytes]:
    """Send a response whose Content-Length is true unless it is given; `_` in names is `-`."""
    fields: dict[str, object] = {"Content-Length": len(body)}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    yield "\r\n".join(lines).encode()
    if body:
        yield body


def reply_json(status: int, document: Any, **headers: object) -> Iterator[bytes]:
    return reply(status, json.dumps(document).encode(), Content_Type="application/json", **headers)


def reply_error(status: int, code: str, **headers: object) -> Iterator[bytes]:
    return reply_json(status, {"errors": [{"code": code, "message": "as told"}]}, **headers)


def reply_range(received: Received, blob: bytes, **headers: object) -> Iterator[bytes]:
    """Send a blob, or the part of it that was asked for, honestly."""
    if "range" not in received.headers:
        return reply(200, blob, **headers)
    start, stop = received.range
    stop = min(len(blob), stop or len(blob))
    headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(blob)}"
    return reply(206, blob[start:stop], **headers)


@dataclass
class Lying:
    """A running server and what it was asked."""

    port: int
    scheme: str = "http"
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    # The common names of the certificates that clients showed, a connection each.
    peer_certificates: list[str | None] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    def seen(self, method: str, path: str = "") -> list[Received]:
        return [each for each in self.requests if each.method == method and each.path.startswith(path)]


@contextmanager
def lying(
    answer: Answer,
    context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    send_buffer: int | None = None,
) -> Iterator[Lying]:
    """Run a server on loopback; every thread and socket of it is gone afterwards.

    `send_buffer` is how many bytes the kernel may take before they leave, if its own choice will not do.
    """
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = Lying(listener.getsockname()[1], "https" if context else "http")

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection: socket.socket = listener.accept()[0]
                    if context:
                        connection = context.wrap_socket(
                            connection, server_side=True, do_handshake_on_connect=False
                        )
                    open_sockets.append(connection)
                    server.connections += 1
                    thread = threading.Thread(target=_converse, args=(connection, server, answer))
                    threads.append(thread)
                    thread.start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in open_sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for connection in open_sockets:
                connection.close()


def _converse(connection: socket.socket, server: Lying, answer: Answer) -> None:
    with suppress(OSError, Cut):
        if isinstance(connection, ssl.SSLSocket):
            connection.do_handshake()
            server.peer_certificates.append(_common_name(connection))
        with connection, connection.makefile("rb") as file:
            while True:
                received = _receive(file)
                if received is None:
                    return
                server.requests.append(received)
                for piece in answer(received):
                    connection.sendall(piece)
                    if received.method == "HEAD":
                        break  # the first piece is the head


def _common_name(connection: ssl.SSLSocket) -> str | None:
    subject: Any = (connection.getpeercert() or {}).get("subject", ())
    return dict(pair for entry in subject for pair in entry).get("commonName")


def _receive(file: Any) -> Received | None:
    if file.peek(1)[:1] == b"\x16":
        return None  # a TLS handshake, which servers of plain HTTP close at once
    line = file.readline().decode("latin-1").split()
    if len(line) != 3:
        return None
    headers = {}
    while (field_ := file.readline().decode("latin-1").strip()) != "":
        name, _, value = field_.partition(":")
        headers[name.lower()] = value.strip()
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
    elif "content-length" in headers:
        body = file.read(int(headers["content-length"]))
    return Received(line[0], line[1], headers, body)


def once(
    first: Callable[[], Iterable[bytes]], then: Callable[[], Iterable[bytes]]
) -> Callable[..., Iterable[bytes]]:
    """Answer the first request in one way and all others in another."""
    left = [first]
    return lambda _: left.pop()() if left else then()


def cut(*pieces: bytes) -> Iterator[bytes]:
    yield from pieces
    raise Cut


def endless(
    head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n",
) -> Iterator[bytes]:
    yield head
    while True:
        yield b"\0" * 65536
