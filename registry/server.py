"""The server process: listeners, workers, signals; uvicorn does the rest.

One worker is one process. Several share the listening sockets, which their parent binds; it starts a worker
anew when one dies, hands signals on, and is not needed for the workers to serve.
"""

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from registry.access_log import AccessLog, Refusals
from registry.gate import Gate, Limits
from registry.handshake import Handshake
from registry.logs import configure
from registry.protocol import RegistryProtocol
from registry.settings import Settings, Source
from registry.tls import Certificates, CertificateUnusable, Files

log = logging.getLogger(__name__)

_THREADS = 16
_BACKLOG = 2048
_RESTART_SECONDS = 1.0


class Worker(uvicorn.Server):
    """One worker's server, with what a SIGHUP looks at anew."""

    def __init__(self, config: uvicorn.Config, certificates: Certificates | None, refusals: Refusals) -> None:
        super().__init__(config)
        self._certificates = certificates
        self._refusals = refusals

    def look_at_certificates(self) -> None:
        """Read changed certificate files now, and not only with the next handshake."""
        if self._certificates is not None:
            self._certificates.context()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._refusals.flush()


def create(settings: Settings, app: ASGIApp | None = None) -> Worker:
    """Build one worker's server; `run(sockets=[...])` serves until `should_exit`.

    Raises what registry.app.create_app raises, and CertificateUnusable, before anything listens.
    """
    files = Files.of(settings)
    certificates = Certificates(files) if files else None
    if app is None:
        from registry.app import create_app

        app = create_app(settings)
    if settings.trusted_proxies:
        app = cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", app), list(settings.trusted_proxies)))
    return _build(settings, app, certificates)


def _build(settings: Settings, app: ASGIApp, certificates: Certificates | None) -> Worker:
    refusals = Refusals(AccessLog() if settings.access_log else None)
    config = uvicorn.Config(
        cast("Any", app),
        http=cast("Any", _protocol(settings, certificates, refusals)),
        ws="none",
        interface="asgi3",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        headers=_headers(settings) if certificates else [],
        log_config=None,
        log_level="warning",  # its events of a start say less than our one line
        timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
    )
    return Worker(config, certificates, refusals)


def _protocol(
    settings: Settings, certificates: Certificates | None, refusals: Refusals
) -> Callable[..., asyncio.Protocol]:
    """Return what uvicorn calls for each connection."""
    gate = Gate(_limits(settings))
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bodies")
    speak = partial(RegistryProtocol, gate=gate, threads=threads, refusals=refusals)
    if certificates is None:
        return speak

    def shake_hands(server_state: ServerState, **more: Any) -> asyncio.Protocol:
        return Handshake(gate, certificates, server_state, partial(speak, server_state=server_state, **more))

    return shake_hands


def _headers(settings: Settings) -> list[tuple[str, str]]:
    # A certificate of our own making is tried out on machines that have other services: nothing to remember.
    if not settings.hsts_seconds or settings.tls_self_signed:
        return []
    return [("strict-transport-security", f"max-age={settings.hsts_seconds}")]


def _limits(settings: Settings) -> Limits:
    return Limits(
        header_seconds=settings.header_seconds,
        idle_seconds=settings.idle_seconds,
        body_floor_bytes_per_second=settings.body_floor_bytes_per_second,
        body_floor_window_seconds=settings.body_floor_window_seconds,
        max_connections=settings.max_connections,
        max_connections_per_client=settings.max_connections_per_client,
        max_requests=settings.max_requests,
    )


def serve(settings: Settings, source: Source) -> int:
    """Run the registry until SIGTERM or SIGINT; return the exit code. SIGHUP reads `source` again."""
    with contextlib.ExitStack() as stack:
        listener = _open(stack, _address(settings), partial(_listen, settings))
        operations = None
        if listener is not None and settings.metrics_listen is not None:
            address = settings.metrics_listen
            operations = _open(stack, address, partial(_listen_on, *_host_and_port(address)))
        if listener is None or (settings.metrics_listen is not None and operations is None):
            return 1
        stack.enter_context(_metrics_directory(settings))
        stack.enter_context(_operations(settings, operations))
        # A person reads this line, and tests wait for it; the socket listens already.
        log.info("cargohold listening on %s", _url(settings, listener))
        if settings.workers > 1:
            return _Supervisor(settings, source, listener).run()
        server = create(settings)
        _reload_on_hangup(settings, source, server)
        _tune()
        server.run(sockets=[listener])
        return 0 if server.started else 1


def _open(
    stack: contextlib.ExitStack, address: str, listen: Callable[[], socket.socket]
) -> socket.socket | None:
    """Open a listener; None, and an event in the log, when it cannot be had."""
    try:
        return stack.enter_context(listen())
    except OSError as error:
        log.error("cannot listen", extra={"address": address, "reason": error.strerror})
        return None


def _listen(settings: Settings) -> socket.socket:
    if settings.unix_socket is not None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(settings.unix_socket.lstat().st_mode):
                settings.unix_socket.unlink()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(settings.unix_socket))
        listener.listen(_BACKLOG)
        return listener
    return _listen_on(settings.host, settings.port)


def _listen_on(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _address(settings: Settings) -> str:
    return str(settings.unix_socket) if settings.unix_socket else f"{settings.host}:{settings.port}"


def _url(settings: Settings, listener: socket.socket) -> str:
    if settings.unix_socket is not None:
        return f"unix:{settings.unix_socket}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.speaks_tls else 'http'}://{host}:{listener.getsockname()[1]}{settings.path_prefix}"


@contextlib.contextmanager
def _metrics_directory(settings: Settings) -> Iterator[None]:
    """Give several workers a place where prometheus_client can sum their counters."""
    if settings.workers == 1:
        yield
        return
    place = settings.data / "metrics"
    _remove_dead(place)
    directory = place / str(os.getpid())
    directory.mkdir(mode=0o700, parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_dead(place: Path) -> None:
    """Remove what processes left that were killed."""
    for directory in place.glob("[0-9]*"):
        try:
            os.kill(int(directory.name), 0)
        except ProcessLookupError:
            shutil.rmtree(directory, ignore_errors=True)
        except PermissionError:
            continue


@contextlib.contextmanager
def _operations(settings: Settings, listener: socket.socket | None) -> Iterator[None]:
    """Serve health and metrics on the second listener, in a thread of this process."""
    if listener is None:
        yield
        return
    from registry.app import create_operations_app

    server = _build(settings, create_operations_app(settings), certificates=None)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="operations")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


class _Supervisor:
    """Keeps the workers alive and hands signals on."""

    def __init__(self, settings: Settings, source: Source, listener: socket.socket) -> None:
        self._settings = settings
        self._source = source
        self._listener = listener
        self._context = get_context("spawn")
        # Workers see the other end close when this process dies, however it dies.
        self._theirs, self._ours = self._context.Pipe(duplex=False)
        self._workers: list[SpawnProcess] = []
        self._stopping = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: self._hang_up())
        self._workers = [self._start() for _ in range(self._settings.workers)]
        while self._workers:
            ended = connection.wait([worker.sentinel for worker in self._workers], timeout=1.0)
            self._workers = [
                self._replace(worker) if worker.sentinel in ended else worker for worker in self._workers
            ]
            if self._stopping:
                self._workers = [worker for worker in self._workers if worker.is_alive()]
        return 0

    def _start(self) -> SpawnProcess:
        arguments = (self._settings, self._source, self._listener, self._theirs)
        worker = self._context.Process(target=_work, args=arguments)
        # Inherited until the worker has its own handler: else an early SIGHUP would end it.
        handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        worker.start()
        signal.signal(signal.SIGHUP, handler)
        return worker

    def _replace(self, worker: SpawnProcess) -> SpawnProcess:
        worker.join()
        if self._is_stopping():
            return worker
        log.error("a worker died and is started again", extra={"pid": worker.pid, "code": worker.exitcode})
        time.sleep(_RESTART_SECONDS)  # a worker that cannot start must not take the machine with it
        return worker if self._is_stopping() else self._start()

    def _is_stopping(self) -> bool:
        # A signal may have come during the line before; a method, so that no type checker forgets that.
        return self._stopping

    def _hang_up(self) -> None:
        # Quietly for itself: it is what a worker that is started later begins with.
        with contextlib.suppress(ValueError, OSError):
            self._settings.adopt(self._source.load())
        for worker in self._workers:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, signal.SIGHUP)

    def _stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.terminate()


def _work(
    settings: Settings, source: Source, listener: socket.socket, parent: "connection.Connection[Any, Any]"
) -> None:
    """Be a worker: serve until SIGTERM, or until the parent is gone."""
    configure(settings.log_level)
    try:
        server = create(settings)
    except CertificateUnusable as error:  # changed since the first worker began
        log.error("cannot speak TLS", extra={"reason": str(error)})
        sys.exit(1)
    _reload_on_hangup(settings, source, server)
    # A SIGHUP that came before the line above was ignored; what it meant is read here.
    _reload(settings, source, server)
    _tune()
    threading.Thread(target=_exit_with, args=(parent, server), daemon=True).start()
    server.run(sockets=[listener])


def _reload(settings: Settings, source: Source, server: Worker) -> None:
    server.look_at_certificates()
    try:
        taken, left = settings.adopt(source.load())
    except (ValueError, OSError) as error:
        log.error("settings could not be read again", extra={"reason": str(error)})
        return
    configure(settings.log_level)
    log.info("settings read again", extra={"changed": taken, "need_a_restart": left})


def _reload_on_hangup(settings: Settings, source: Source, server: Worker) -> None:
    signal.signal(signal.SIGHUP, lambda *_: _reload(settings, source, server))


def _tune() -> None:
    """Set the interpreter up for serving."""
    # What start-up made stays for ever; requests leave few cycles, so looking for them may wait.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    # A thread that hashes takes the lock back for microseconds; the event loop must not wait 5 ms for it.
    sys.setswitchinterval(0.0005)


def _exit_with(parent: "connection.Connection[Any, Any]", server: uvicorn.Server) -> None:
    with contextlib.suppress(EOFError, OSError):
        parent.recv()
    server.should_exit = True
