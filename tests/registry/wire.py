"""A raw connection: what httpx would tidy up, these tests send as it is."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Wire:
    sock: socket.socket
    _rest: bytearray = field(default_factory=bytearray)

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def answer(self, *, head_only: bool = False) -> Answer:
        """Read one answer with a Content-Length; an interim one, as 100, has none."""
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, rest = bytes(self._rest).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = 0 if head_only else int(headers.get("content-length", 0))
        self._rest = bytearray(rest)
        while len(self._rest) < length:
            self._receive()
        body = bytes(self._rest[:length])
        del self._rest[:length]
        return Answer(int(lines[0].split()[1]), headers, body)

    def is_closed(self) -> bool:
        """Say whether the server has closed, or closes without another byte."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError(f"closed after {bytes(self._rest)!r}")
        self._rest += data


@contextmanager
def connect(url: str, seconds: float = 20, tls: ssl.SSLContext | None = None) -> Iterator[Wire]:
    """Connect; over TLS anybody is believed unless `tls` says otherwise."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=seconds) as sock:
        if parts.scheme == "http":
            yield Wire(sock)
            return
        with (tls or _unverified()).wrap_socket(sock, server_hostname=parts.hostname) as secured:
            yield Wire(secured)


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
