"""A stop from outside, as Ctrl-C gives it: every wait ends soon, and nothing half is taken for whole."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from client.clock import NEVER, Deadline
from client.connecting import connect
from client.content import BytesContent
from client.endpoints import Host, Scheme
from client.errors import Cancelled, Unreachable
from client.http import Timeouts
from client.network import Network
from client.partial import PartialFiles
from client.progress import Advanced, Event
from client.retry import Patience
from client.session import Session
from client.sources import RepositorySource
from client.transfer import Transfer
from client.uploads import Upload
from storage.durable import DISK, FileSystem
from storage.oci.digest import Digest
from tests.client.clocks import FakeClock
from tests.client.lying import Received, lying, reply, reply_range
from tests.client.moving import BLOB, CONTENT, MIB, NAME, Mover, descriptor

# Longer than any test runs: what ends sooner was stopped.
PATIENT = Timeouts(connect_seconds=300, first_byte_seconds=300, stall_seconds=300)


@contextmanager
def stoppable(address: str) -> Iterator[tuple[Session, Deadline, threading.Event]]:
    stop = threading.Event()
    deadline = Deadline.after(None, stop=stop)
    network = Network(deadline=deadline, timeouts=PATIENT)
    with Session(Host(address, address, Scheme.HTTP), network=network) as session:
        yield session, deadline, stop


@contextmanager
def full_listener() -> Iterator[str]:
    """An address that takes no connection: its queue is full, so that the system lets us wait."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address):
            yield f"127.0.0.1:{address[1]}"


def test_stops_while_it_connects() -> None:
    with full_listener() as address, stoppable(address) as (session, _, stop):
        threading.Timer(0.1, stop.set).start()
        started = time.monotonic()

        with pytest.raises(Cancelled):
            session.ping()

        assert time.monotonic() - started < 5


def test_connects_to_the_address_that_answers() -> None:
    """One that is silent holds nobody up, one that refuses is passed over."""
    with full_listener() as silent, lying(lambda _: reply(200)) as server:
        host, port = "127.0.0.1", server.port
        # The same port on three addresses of this machine: refused, silent, and a server.
        silent_port = int(silent.rpartition(":")[2])
        with connect(["127.0.0.2", host], port, 5, NEVER) as connected:
            assert connected.getpeername() == (host, port)
        with (
            socket.create_server(("127.0.0.3", silent_port)),
            connect([host, "127.0.0.3"], silent_port, 5, NEVER) as connected,
        ):
            assert connected.getpeername() == ("127.0.0.3", silent_port)


def test_says_what_each_address_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with pytest.raises(Unreachable, match=r"127\.0\.0\.1: Connection refused; 127\.0\.0\.2: Conn"):
        connect(["127.0.0.1", "127.0.0.2"], port, 5, NEVER)


def test_net_09_waits_for_no_connection() -> None:
    with full_listener() as address, pytest.raises(Unreachable, match="no answer in 0 s"):
        connect(["127.0.0.1"], int(address.rpartition(":")[2]), 0.05, NEVER)


def test_stops_while_it_waits_for_an_answer() -> None:
    ended = threading.Event()

    def answer(received: Received) -> Iterator[bytes]:
        stop.set()
        ended.wait(20)
        yield b""

    with lying(answer) as server, stoppable(server.address) as (session, _, stop):
        with pytest.raises(Cancelled):
            session.ping()
        ended.set()


def test_stops_in_mid_upload() -> None:
    """The registry reads no further: the upload waits in a write."""

    def upload(address: str) -> None:
        with stoppable(address) as (session, _, stop):
            session.upload_blob(
                NAME,
                Digest.of(b""),
                BytesContent(bytes(64 * MIB)),
                upload=Upload(httpx.URL(f"http://{address}/u")),
                progress=lambda done: stop.set(),
            )

    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(Cancelled):
        upload(f"127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize("size", [len(CONTENT), 1000], ids=["large", "small"])
def test_a_transfer_that_was_stopped_does_not_return(mover: Mover, size: int) -> None:
    blob, ended = descriptor(CONTENT[:size]), threading.Event()

    def answer(received: Received) -> Iterator[bytes]:
        head, body = reply_range(received, CONTENT[:size])
        yield head
        yield body[: size // 2]
        stop.set()
        ended.wait(20)

    sinks = PartialFiles(mover.directory / "partial", mover.directory / "blobs")
    with lying(answer) as server, stoppable(server.address) as (session, deadline, stop):
        try:
            with pytest.raises(Cancelled):
                Transfer(sinks, deadline=deadline).fetch([blob], [RepositorySource(session, NAME)])
        finally:
            ended.set()

    assert mover.blob(blob) is None


def test_stops_while_it_hashes_what_is_there(mover: Mover) -> None:
    """Bytes of an earlier process, of which there may be many gigabytes."""
    reads: list[int] = []
    stop = threading.Event()

    class Slow(FileSystem):
        def read(self, fd: int, size: int, offset: int) -> bytes:
            reads.append(offset)
            stop.set()
            return super().read(fd, size, offset)

    def sinks(disk: FileSystem) -> PartialFiles:
        return PartialFiles(mover.directory / "partial", mover.directory / "blobs", disk)

    with sinks(DISK).open(BLOB, lambda: None) as sink:
        assert sink is not None
        sink.write(0, CONTENT)
    with pytest.raises(Cancelled):
        Transfer(sinks(Slow()), deadline=Deadline.after(None, stop=stop)).fetch([BLOB], [])

    assert len(reads) == 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handling of SIGINT, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_transfer_that_stalls(mover: Mover) -> None:
    """Also where nobody made a stop of it."""
    arrived, ended = threading.Event(), threading.Event()

    def tell(event: Event) -> None:
        if isinstance(event, Advanced):
            arrived.set()

    def answer(received: Received) -> Iterator[bytes]:
        head, body = reply_range(received, CONTENT)
        yield head
        yield body[: 2 * MIB]
        arrived.wait(20)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        ended.wait(20)

    with lying(answer) as server:
        deadline = Deadline.after(None)
        network = Network(deadline=deadline, timeouts=PATIENT)
        with Session(Host(server.address, server.address, Scheme.HTTP), network=network) as session:
            transfer = Transfer(mover.sinks, tell, deadline=deadline)
            with pytest.raises(KeyboardInterrupt):
                transfer.fetch([BLOB], [RepositorySource(session, NAME)])
            ended.set()

    assert mover.kept > 0
    # Whatever comes next is not stopped with it.
    assert deadline.limit(5) == 5


def test_stops_while_a_name_is_looked_up() -> None:
    """The system gives no way to end that, so that it goes on where nobody waits for it."""
    stop, ended = threading.Event(), threading.Event()

    def resolve(host: str, port: int) -> tuple[str, ...]:
        stop.set()
        ended.wait(20)
        return ()

    network = Network(deadline=Deadline.after(None, stop=stop), timeouts=PATIENT, resolve=resolve)
    with Session(Host("r.example", "r.example", Scheme.HTTP), network=network) as session:
        with pytest.raises(Cancelled):
            session.ping()
        ended.set()


def test_net_09_waits_for_no_name(clock: FakeClock) -> None:
    ended = threading.Event()

    def resolve(host: str, port: int) -> tuple[str, ...]:
        ended.wait(20)
        return ()

    network = Network(
        deadline=clock.deadline(),
        timeouts=Timeouts(connect_seconds=0.05),
        patience=Patience(attempts=1),
        resolve=resolve,
    )
    with Session(Host("r.example", "r.example", Scheme.HTTP), network=network) as session:
        with pytest.raises(Unreachable, match=r"r\.example"):
            session.ping()
        ended.set()
