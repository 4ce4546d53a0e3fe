"""TLS with a registry inside of TLS with a proxy, for which the ssl module has no socket."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_BLOCK = 256 * 1024

T = TypeVar("T")


class TlsInTls:
    """The inner one, with the methods of an SSLSocket that are used here; timeouts are the outer's."""

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._outer = outer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._inner = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        # What was taken out of `_outgoing` and has not left yet, because of a timeout perhaps.
        self._unsent = memoryview(b"")

    def fileno(self) -> int:
        return self._outer.fileno()

    def settimeout(self, seconds: float | None) -> None:
        self._outer.settimeout(seconds)

    def gettimeout(self) -> float | None:
        return self._outer.gettimeout()

    def selected_alpn_protocol(self) -> str | None:
        return self._inner.selected_alpn_protocol()

    def do_handshake(self) -> None:
        self._run(self._inner.do_handshake)
        self._flush()

    def recv_into(self, buffer: memoryview) -> int:
        try:
            data = self._run(lambda: self._inner.read(len(buffer)))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: memoryview) -> int:
        self._flush()
        sent = self._run(lambda: self._inner.write(data[:_BLOCK]))
        # It counts as sent from here on: what does not leave now does so before anything else.
        with suppress(TimeoutError):
            self._flush()
        return sent

    def close(self) -> None:
        self._outer.close()

    def _run(self, operation: Callable[[], T]) -> T:
        """Do something of the inner TLS, and what it needs from the outer one first."""
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                self._flush()
            if data := self._outer.recv(_BLOCK):
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _flush(self) -> None:
        while self._unsent or self._outgoing.pending:
            self._unsent = self._unsent or memoryview(self._outgoing.read())
            self._unsent = self._unsent[self._outer.send(self._unsent) :]
