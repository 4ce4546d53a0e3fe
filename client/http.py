"""HTTP/1.1 over sockets of our own: big reads, one look-up a name, and no wait without an end."""

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import httpcore
import httpx

from client.clock import NEVER, Deadline
from client.connecting import connect, resolved
from client.destinations import Destinations, resolve
from client.errors import AnswerInvalid, CertificateRejected, ProxyRefused, TimedOut, Unreachable
from client.proxies import DIRECT, Proxies
from client.tls import Tls
from client.tls_in_tls import TlsInTls
from storage.oci.errors import RequestInvalid

# At 64 KiB, httpcore's own, parsing costs more than copying: 0.44 GB/s against 1.6.
_READ_BYTES = 1024 * 1024
_MAX_CONNECTIONS = 64
# Below what servers keep an idle connection for (ours 15 s), so that few requests meet one just closed.
_KEEP_ALIVE_SECONDS = 10.0
_LEAST_TIMEOUT = 0.001
# How soon a stop is noticed.
_LONGEST_WAIT = 1.0
# How answers begin that are not the last: 100, 103.
_INTERIM = b"HTTP/1.1 1"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each wait may take (NET-09); a transfer below the floor over a whole window is cut."""

    connect_seconds: float = 10.0
    first_byte_seconds: float = 30.0
    # After an upload the registry may copy and hash all of it before it answers.
    commit_seconds: float = 300.0
    stall_seconds: float = 30.0
    floor_bytes_per_second: int = 1024
    floor_window_seconds: float = 60.0


TIMEOUTS = Timeouts()


class Pace:
    """Holds one direction of a connection to the floor; only time spent waiting for the peer counts."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._bytes = 0
        self._waited = 0.0

    def restart(self) -> None:
        self._bytes, self._waited = 0, 0.0

    def add(self, size: int, waited: float) -> None:
        """Count bytes that took `waited` seconds. Raises TimedOut after a window that was too slow."""
        self._bytes += size
        self._waited += waited
        window = self._timeouts.floor_window_seconds
        if self._waited < window:
            return
        if self._bytes < self._timeouts.floor_bytes_per_second * window:
            raise TimedOut(f"{self._bytes} bytes in {self._waited:.0f} s are too slow")
        self.restart()


class _Stream(httpcore.NetworkStream):
    """A connected socket. Timeouts become ours; other errors httpcore's, which knows what they end."""

    def __init__(self, sock: socket.socket | TlsInTls, timeouts: Timeouts, deadline: Deadline) -> None:
        self._socket = sock
        self._timeouts = timeouts
        self._deadline = deadline
        self._in = Pace(timeouts)
        self._out = Pace(timeouts)
        self._awaits_answer = False
        # What was heard while a request was sent.
        self._early = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has come, up to 1 MiB: more than `max_bytes`, which the parser does not mind."""
        patience = self._timeouts.stall_seconds
        if self._awaits_answer:
            patience = timeout or self._timeouts.first_byte_seconds
        started = self._deadline.clock.monotonic()
        data, self._early = self._early, b""
        try:
            data = data or self._patiently(self._receive, patience, "the registry stopped sending")
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        if self._awaits_answer:
            self._awaits_answer = data.startswith(_INTERIM)
            self._in.restart()
        elif data:
            self._in.add(len(data), self._deadline.clock.monotonic() - started)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not self._awaits_answer:
            self._awaits_answer = True
            self._out.restart()
        view = memoryview(buffer)
        while view:
            started = self._deadline.clock.monotonic()
            try:
                sent = self._patiently(
                    partial(self._send, view),
                    self._timeouts.stall_seconds,
                    "the registry stopped receiving",
                )
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error
            self._out.add(sent, self._deadline.clock.monotonic() - started)
            view = view[sent:]

    def _send(self, view: memoryview) -> int:
        if self._is_readable():
            self._hear()
        return self._socket.send(view)

    def _hear(self) -> None:
        """Take in what comes before all is sent. Raises OSError when that is an answer, or the end.

        Else a registry that refuses an upload from its head would be waited for until it read the body.
        """
        timeout = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            data = self._receive()
        except (BlockingIOError, ssl.SSLWantReadError):
            return  # TLS has things to say of its own
        finally:
            self._socket.settimeout(timeout)
        self._early += data
        if not data.startswith(_INTERIM):
            raise ConnectionAbortedError("the registry did not wait for the end of the request")

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            secured = self._socket = _secured(self._socket, ssl_context, server_hostname)
            self._patiently(secured.do_handshake, self._timeouts.connect_seconds, "the TLS handshake stalled")
        except BaseException as error:
            self.close()
            match error:
                case TimedOut():
                    raise TlsFailed(error.message) from error
                case ssl.SSLCertVerificationError():
                    raise CertificateRejected(
                        f"the certificate of {server_hostname} is not valid: {error.verify_message}"
                    ) from error
                case OSError():
                    raise TlsFailed(f"TLS with {server_hostname} failed: {error}") from error
            raise
        return _TlsStream(secured, self._timeouts, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._is_readable() if info == "is_readable" else None

    def _is_readable(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def _receive(self) -> bytes:
        assert isinstance(self._socket, socket.socket)
        return self._socket.recv(_READ_BYTES)

    def _patiently(self, operation: Callable[[], T], seconds: float, what: str) -> T:
        """Do something with the socket. Raises TimedOut, or Cancelled when the work is to stop."""
        left = seconds
        while True:
            limit = min(self._deadline.limit(left), _LONGEST_WAIT)
            self._socket.settimeout(max(limit, _LEAST_TIMEOUT))
            try:
                return operation()
            except TimeoutError as error:
                left -= limit
                if left <= 0:
                    self._deadline.limit(seconds)
                    raise TimedOut(f"{what} for {seconds:.0f} s") from error


def _secured(
    sock: socket.socket | TlsInTls, context: ssl.SSLContext, server_hostname: str | None
) -> ssl.SSLSocket | TlsInTls:
    """Return what TLS is spoken over; the socket of an https proxy speaks it with the proxy already."""
    if isinstance(sock, ssl.SSLSocket):
        return TlsInTls(sock, context, server_hostname)
    assert isinstance(sock, socket.socket)
    return context.wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=False)


class TlsFailed(Unreachable):
    """A handshake that came to nothing: often the other side does not speak TLS."""


class _TlsStream(_Stream):
    def __init__(self, sock: socket.socket | TlsInTls, timeouts: Timeouts, deadline: Deadline) -> None:
        super().__init__(sock, timeouts, deadline)
        self._buffer = bytearray(_READ_BYTES)

    def get_extra_info(self, info: str) -> Any:
        # What httpcore asks for the protocol that was agreed on.
        return self._socket if info == "ssl_object" else super().get_extra_info(info)

    def _receive(self) -> bytes:
        """Collect records, each 16 KiB at most, while more are there already."""
        view = memoryview(self._buffer)
        filled = self._socket.recv_into(view)
        self._socket.settimeout(0)
        while 0 < filled < _READ_BYTES:
            try:
                size = self._socket.recv_into(view[filled:])
            except OSError:
                break  # nothing more now, or an error that the next read meets again
            if not size:
                break
            filled += size
        return bytes(view[:filled])


class _Backend(httpcore.NetworkBackend):
    """Connects to the addresses that the rules allowed, and to no others."""

    def __init__(
        self, timeouts: Timeouts, deadline: Deadline, addresses: Callable[[str, int], Iterable[str]]
    ) -> None:
        self._timeouts = timeouts
        self._deadline = deadline
        self._addresses = addresses

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: object = None,
    ) -> httpcore.NetworkStream:
        seconds = self._timeouts.connect_seconds
        try:
            addresses = resolved(lambda: self._addresses(host, port), seconds, self._deadline)
            connected = connect(addresses, port, seconds, self._deadline)
        except Unreachable as error:
            raise Unreachable(f"cannot connect to {host}:{port}: {error.message}") from error
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Stream(connected, self._timeouts, self._deadline)


class Transport:
    """Sends single requests and returns their answers, body unread: no redirects, no cookies, no retries."""

    def __init__(
        self,
        destinations: Destinations,
        tls: Callable[[httpx.URL], Tls],
        *,
        proxies: Proxies = DIRECT,
        timeouts: Timeouts = TIMEOUTS,
        deadline: Deadline = NEVER,
    ) -> None:
        self._destinations = destinations
        self._tls = tls
        self._proxies = proxies
        self.timeouts = timeouts
        self._deadline = deadline
        self._lock = threading.Lock()
        self._pools: dict[tuple[Tls | None, str], httpcore.ConnectionPool] = {}

    def send(self, request: httpx.Request, first_byte_seconds: float | None = None) -> httpx.Response:
        """Send a request. Raises Unreachable, TimedOut, CertificateRejected or DestinationRefused."""
        timeout = {"read": first_byte_seconds or self.timeouts.first_byte_seconds}
        with _failures(request.url):
            answer = self._pool(request.url).handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions={"timeout": timeout},
                )
            )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream, request.url), request=request
        )

    def close(self) -> None:
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.close()

    def _pool(self, url: httpx.URL) -> httpcore.ConnectionPool:
        tls = self._tls(url) if url.scheme == "https" else None
        proxy = self._proxies.of(url)
        key = (tls, str(proxy or ""))
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = self._make_pool(tls, proxy)
            return pool

    def _make_pool(self, tls: Tls | None, proxy: httpx.URL | None) -> httpcore.ConnectionPool:
        # A proxy is the operator's choice, wherever it is, and looks names up itself.
        addresses = self._destinations.addresses if proxy is None else resolve
        return httpcore.ConnectionPool(
            ssl_context=tls.context() if tls else None,
            proxy=None if proxy is None else _proxy(proxy),
            max_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE_SECONDS,
            network_backend=_Backend(self.timeouts, self._deadline, addresses),
        )


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Any, url: httpx.URL) -> None:
        self._stream = stream
        self._url = url

    def __iter__(self) -> Iterator[bytes]:
        with _failures(self._url):
            yield from self._stream

    def close(self) -> None:
        self._stream.close()


def _proxy(url: httpx.URL) -> httpcore.Proxy:
    auth = (url.username, url.password) if url.userinfo else None
    context = Tls().context() if url.scheme == "https" else None
    bare = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/")
    return httpcore.Proxy(bare, auth=auth, ssl_context=context)


@contextmanager
def _failures(url: httpx.URL) -> Iterator[None]:
    """Turn httpcore's errors into ours; ours pass."""
    host = url.netloc.decode("ascii")
    try:
        yield
    except httpcore.TimeoutException as error:
        raise TimedOut(f"{host}: {error}") from error
    except httpcore.LocalProtocolError as error:
        raise RequestInvalid(f"the request to {host} cannot be sent: {error}") from error
    except httpcore.ProxyError as error:
        kind = ProxyRefused if str(error).startswith("4") else Unreachable
        raise kind(f"the proxy does not connect to {host}: {error}") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise Unreachable(f"{host}: {error}") from error
    except httpcore.UnsupportedProtocol as error:
        raise AnswerInvalid(f"{host}: {error}") from error
