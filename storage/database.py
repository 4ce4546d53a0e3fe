"""SQL behind one small seam: point reads, units of work, forward-only migrations.

A unit of work is a function of a `Connection`. `read` runs it on the caller's thread; `submit` queues it
for the one writer thread of this process, which commits many queued units with one fsync. SQLite is the
embedded database of one host. PostgreSQL takes the same units through its own `Database`.
"""

import contextlib
import fcntl
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from storage.oci.errors import InsufficientStorage, Unavailable

if TYPE_CHECKING or sys.platform != "linux":
    import sqlite3
else:
    import pysqlite3 as sqlite3  # the same module over a newer SQLite

T = TypeVar("T")
Value = str | bytes | int | float | None

# Before this release a checkpoint beside a write of another process may corrupt the file.
# Source: sqlite.org/wal.html, "The WAL-Reset Bug".
SAFE_FOR_SEVERAL_PROCESSES = (3, 51, 3)

_BATCH = 64
_BUSY_SECONDS = 10.0
_WAL_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the two databases' SQL differs: column types by the name migrations use, and row locks."""

    types: Mapping[str, str]
    for_update: str
    for_share: str


SQLITE = Dialect(
    # BINARY collation sorts tags bytewise, as COLLATE "C" does on PostgreSQL.
    types={
        "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "bytes": "BLOB",
        "text": "TEXT",
        "number": "INTEGER",
        "time": "REAL",
    },
    # BEGIN IMMEDIATE has locked all there is.
    for_update="",
    for_share="",
)


class Cursor(Protocol):
    """The part of a DB-API cursor that units of work use."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What a unit of work may do. Parameters are `?`, whatever the database."""

    @property
    def dialect(self) -> Dialect: ...

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Cursor: ...

    def now(self) -> float:
        """Seconds since the epoch by the database's clock, the only clock that leases know."""
        ...


Unit = Callable[[Connection], T]


@dataclass(frozen=True, slots=True)
class Migration:
    """One forward step of a schema; `$name` stands for a type of the dialect.

    A statement ends with a semicolon at the end of a line.
    """

    number: int
    name: str
    sql: str

    def statements(self, dialect: Dialect) -> list[str]:
        sql = Template(self.sql).substitute(dialect.types)
        return [part.strip() for part in sql.split(";\n") if part.strip()]

    @classmethod
    def load(cls, directory: Path) -> list[Self]:
        """Read `0001_name.sql` files in order."""
        files = sorted(directory.glob("[0-9]*.sql"))
        return [cls(int(file.name.split("_")[0]), file.stem, file.read_text()) for file in files]


class Database(Protocol):
    """Reads and units of work on one database. Raises Unavailable when it does not answer."""

    def read(self, unit: Unit[T]) -> T:
        """Run a reading unit on this thread and wait for it."""
        ...

    def read_inline(self, unit: Unit[T]) -> T:
        """Run a point read that must not wait: for the event loop. Raises Busy instead of waiting."""
        ...

    def submit(self, unit: Unit[T]) -> "Future[T]":
        """Queue a unit for one transaction. The future ends after the commit is durable."""
        ...

    def transaction(self, unit: Unit[T]) -> T:
        """Run a unit in a transaction and wait until its commit is durable."""
        ...

    def close(self) -> None: ...


class Busy(Exception):
    """A point read met a lock; the caller repeats it on a thread that may wait."""


class SchemaNewer(Exception):
    """The database was written by a newer cargohold. Nothing was changed."""


def connect(
    url: str, migrations: Sequence[Migration], clock: Callable[[], float] = time.time
) -> "SqliteDatabase":
    """Open the database at `sqlite:PATH`, brought to the newest schema.

    Raises SchemaNewer when the file knows a migration that we don't, ValueError for another scheme.
    """
    scheme, _, path = url.partition(":")
    if scheme != "sqlite" or not path:
        raise ValueError(f"database must be sqlite:PATH, not {url!r}")
    return SqliteDatabase(Path(path), migrations, clock)


class SqliteConnection:
    """A raw connection with the clock beside it; `execute` is the driver's own method, unwrapped."""

    __slots__ = ("_clock", "execute", "raw")

    dialect = SQLITE

    def __init__(self, raw: "sqlite3.Connection", clock: Callable[[], float]) -> None:
        self.raw = raw
        self.execute = raw.execute
        self._clock = clock

    def now(self) -> float:
        return self._clock()


class SqliteDatabase:
    """SQLite in WAL mode: readers never wait, one writer a process, a fair queue between processes."""

    def __init__(self, path: Path, migrations: Sequence[Migration], clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._threads = threading.local()
        self._opened: list[SqliteConnection] = []
        self._opened_lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Unit[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._is_closed = False
        # SQLite gives its other files the mode of this one.
        with _ours():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        # Of several that make the database at once SQLite lets only one turn it to WAL, and nobody wait.
        with _ours(), self._our_turn():
            self._writer = self._open(read_only=False, busy_seconds=_BUSY_SECONDS)
        self._migrate(migrations)
        self._thread = threading.Thread(target=self._write, name="database writer", daemon=True)
        self._thread.start()

    def read(self, unit: Unit[T]) -> T:
        with _ours():
            return unit(self._reader("waiting", _BUSY_SECONDS))

    def read_inline(self, unit: Unit[T]) -> T:
        try:
            return unit(self._reader("inline", 0.0))
        except sqlite3.Error as error:
            raise Busy from error  # a thread that may wait learns what it is

    def submit(self, unit: Unit[T]) -> "Future[T]":
        future: Future[T] = Future()
        with self._closing:
            if self._is_closed:
                future.set_exception(Unavailable("the database is closed"))
            else:
                self._queue.put((unit, future))
        return future

    def transaction(self, unit: Unit[T]) -> T:
        return self.submit(unit).result()

    def close(self) -> None:
        """Finish the queued units and close every connection."""
        with self._closing:
            self._is_closed = True
            self._queue.put(None)
        self._thread.join()
        with self._opened_lock:
            for connection in self._opened:
                connection.raw.close()
            self._opened.clear()

    def _reader(self, kind: str, busy_seconds: float) -> SqliteConnection:
        connection: SqliteConnection | None = getattr(self._threads, kind, None)
        if connection is None:
            connection = self._open(read_only=True, busy_seconds=busy_seconds)
            setattr(self._threads, kind, connection)
        return connection

    def _open(self, *, read_only: bool, busy_seconds: float) -> SqliteConnection:
        with _ours():
            # Closing happens on another thread than reading, hence check_same_thread; nothing is shared.
            raw = sqlite3.connect(
                self._path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
            raw.execute("PRAGMA journal_mode = WAL")
            raw.execute("PRAGMA synchronous = FULL")
            raw.execute("PRAGMA foreign_keys = ON")
            raw.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
            raw.execute(f"PRAGMA query_only = {int(read_only)}")
        connection = SqliteConnection(raw, self._clock)
        with self._opened_lock:
            self._opened.append(connection)
        return connection

    def _migrate(self, migrations: Sequence[Migration]) -> None:
        with _ours(), self._our_turn(), _transaction(self._writer):
            self._writer.execute(
                "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
            )
            (newest,) = self._writer.execute("SELECT coalesce(max(number), 0) FROM migration").fetchone()
            _refuse_newer(self._path, newest, migrations)
            for migration in migrations:
                if migration.number > newest:
                    _apply(self._writer, migration)

    @contextlib.contextmanager
    def _our_turn(self) -> Iterator[None]:
        # SQLite's own lock is a race that a busy process can win for ever; flock wakes its waiters in order.
        turn = _Turn(Path(f"{self._path}.writer"))
        turn.take(_BUSY_SECONDS)
        try:
            yield
        finally:
            turn.end()

    def _write(self) -> None:
        while batch := self._next_batch():
            # A caller that was cancelled while it queued gets nothing done; after this it gets all.
            self._commit([(unit, future) for unit, future in batch if future.set_running_or_notify_cancel()])

    def _commit(self, batch: list[tuple[Unit[Any], Future[Any]]]) -> None:
        try:
            with _ours(), self._our_turn(), _transaction(self._writer):
                ends = [_attempt(self._writer, unit, future) for unit, future in batch]
        except BaseException as error:  # whatever it was, nobody waits for ever and the writer goes on
            for _, future in batch:
                future.set_exception(error)
        else:
            for end in ends:
                end()

    def _next_batch(self) -> list[tuple[Unit[Any], Future[Any]]]:
        """Wait for a unit, then take all that queued behind it; empty when the database closes."""
        batch = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) == _BATCH or self._queue.empty():
                return batch
            item = self._queue.get()
        if batch:
            self._queue.put(None)
        return batch


class _Turn:
    """One process's turn to write: a flock on an open file of its own, so that giving up leaves nothing."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._is_taken = threading.Event()
        self._gave_up = False

    def take(self, seconds: float) -> None:
        """Wait for the turn. Raises Unavailable when another process keeps it that long (CRASH-19)."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Only a blocking flock queues, and it has no deadline: another thread waits in it.
            threading.Thread(target=self._wait, name="database turn", daemon=True).start()
            if not self._is_taken.wait(seconds) and self._give_up():
                raise Unavailable("another process keeps the database", retry_after_seconds=5) from None

    def end(self) -> None:
        os.close(self._fd)

    def _wait(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        with self._lock:
            if self._gave_up:
                os.close(self._fd)
            else:
                self._is_taken.set()

    def _give_up(self) -> bool:
        """Leave the file to the waiting thread; False when the turn came at the last moment."""
        with self._lock:
            self._gave_up = not self._is_taken.is_set()
            return self._gave_up


def sqlite_version() -> tuple[int, ...]:
    return tuple(sqlite3.sqlite_version_info)


@contextlib.contextmanager
def _transaction(connection: SqliteConnection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.raw.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _attempt(connection: SqliteConnection, unit: Unit[T], future: "Future[T]") -> Callable[[], None]:
    """Run one unit of a batch; what it raises undoes only itself. Returns how its future ends."""
    connection.execute("SAVEPOINT unit")
    try:
        with _ours():
            result = unit(connection)
    except BaseException as error:
        if not connection.raw.in_transaction:
            raise  # SQLite gave the whole batch up, as it may on a full or failing disk
        return _undo(connection, future, error)
    connection.execute("RELEASE unit")
    return lambda: future.set_result(result)


def _undo(connection: SqliteConnection, future: "Future[T]", error: BaseException) -> Callable[[], None]:
    connection.execute("ROLLBACK TO unit")
    connection.execute("RELEASE unit")
    return lambda: future.set_exception(error)


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Turn the driver's errors into ours. What it says itself is the cause: clients read the message."""
    try:
        yield
    except OSError as error:
        raise Unavailable("the database cannot be opened", retry_after_seconds=30) from error
    except sqlite3.IntegrityError:
        raise  # a broken constraint is a fault of ours, not of the database
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
            raise InsufficientStorage("the disk of the database is full") from error
        raise Unavailable("the database does not answer", retry_after_seconds=1) from error
    except sqlite3.Error as error:
        raise Unavailable("the database is not usable", retry_after_seconds=30) from error


def _refuse_newer(path: Path, newest: int, migrations: Sequence[Migration]) -> None:
    known = max((migration.number for migration in migrations), default=0)
    if newest > known:
        raise SchemaNewer(
            f"{path} has schema {newest}, this cargohold knows {known}: "
            "install the newer version again, or restore the backup taken before the upgrade"
        )


def _apply(connection: SqliteConnection, migration: Migration) -> None:
    for statement in migration.statements(connection.dialect):
        connection.execute(statement)
    connection.execute("INSERT INTO migration VALUES (?, ?)", (migration.number, migration.name))
