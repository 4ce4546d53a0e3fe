"""The database: migrations, units of work, several processes."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest

from storage.database import Busy, Connection, Migration, SchemaNewer, SqliteDatabase, Unit, connect
from storage.oci.errors import InsufficientStorage, Unavailable
from tests.storage.small_disk import grow, small_disk

FIRST = Migration(1, "0001_first", "CREATE TABLE item (id $id, name $text NOT NULL UNIQUE);\n")
SECOND = Migration(
    2, "0002_second", "ALTER TABLE item ADD COLUMN size $number;\nCREATE INDEX size ON item (size);\n"
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = connect(f"sqlite:{tmp_path / 'test.db'}", [FIRST])
    yield database
    database.close()


def insert(name: str) -> Unit[int]:
    return lambda db: db.execute("INSERT INTO item (name) VALUES (?)", (name,)).rowcount


def names(database: SqliteDatabase) -> list[str]:
    return database.read(lambda db: [name for (name,) in db.execute("SELECT name FROM item ORDER BY name")])


def hold(database: SqliteDatabase) -> tuple[Future[None], threading.Event]:
    """Keep the writer in a unit until the event is set, so that what is submitted queues behind it."""
    inside, go = threading.Event(), threading.Event()

    def unit(db: Connection) -> None:
        inside.set()
        go.wait()

    held = database.submit(unit)
    inside.wait()
    return held, go


def test_brings_an_old_schema_forward(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'test.db'}"
    old = connect(url, [FIRST])
    old.transaction(insert("kept"))
    old.close()

    new = connect(url, [FIRST, SECOND])

    assert new.read(lambda db: db.execute("SELECT name, size FROM item").fetchall()) == [("kept", None)]
    new.close()
    connect(url, [FIRST, SECOND]).close()


def test_refuses_a_downgrade_and_says_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'test.db'}"
    connect(url, [FIRST, SECOND]).close()

    with pytest.raises(SchemaNewer, match=r"has schema 2, this cargohold knows 1: install the newer version"):
        connect(url, [FIRST])


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'test.db'}"
    connect(url, [FIRST]).close()
    broken = Migration(2, "0002_broken", "CREATE TABLE half (id $id);\nNOT SQL;\n")

    with pytest.raises(Unavailable):
        connect(url, [FIRST, broken])

    database = connect(url, [FIRST])
    tables = database.read(lambda db: [name for (name,) in db.execute("SELECT name FROM sqlite_master")])
    assert "half" not in tables
    database.close()


def test_refuses_another_scheme() -> None:
    with pytest.raises(ValueError, match="sqlite:PATH"):
        connect("mysql:x", [])


def test_a_unit_that_raises_undoes_only_itself(database: SqliteDatabase) -> None:
    def fails(db: Connection) -> None:
        db.execute("INSERT INTO item (name) VALUES ('half')")
        raise LookupError("stop")

    before, failing, after = (
        database.submit(insert("a")),
        database.submit(fails),
        database.submit(insert("b")),
    )

    assert before.result() == 1
    with pytest.raises(LookupError):
        failing.result()
    assert after.result() == 1
    assert names(database) == ["a", "b"]


def test_readers_see_what_is_committed_only(database: SqliteDatabase) -> None:
    inside, go = threading.Event(), threading.Event()

    def slow(db: Connection) -> None:
        db.execute("INSERT INTO item (name) VALUES ('slow')")
        inside.set()
        go.wait()

    future = database.submit(slow)
    inside.wait()
    assert names(database) == []
    assert database.read_inline(lambda db: db.execute("SELECT count(*) FROM item").fetchone()) == (0,)
    go.set()
    future.result()
    assert names(database) == ["slow"]


def test_readers_cannot_write(database: SqliteDatabase) -> None:
    with pytest.raises(Unavailable):
        database.read(insert("x"))


def test_a_full_disk_is_told_as_such_and_later_writes_work(database: SqliteDatabase) -> None:
    def limit(db: Connection, pages: int) -> None:
        db.execute(f"PRAGMA max_page_count = {pages}")

    database.transaction(lambda db: limit(db, 20))
    with pytest.raises(InsufficientStorage):
        database.transaction(insert("x" * 1_000_000))

    database.transaction(lambda db: limit(db, 100_000))
    assert database.transaction(insert("y" * 1_000_000)) == 1


def test_close_finishes_what_was_queued(tmp_path: Path) -> None:
    database = connect(f"sqlite:{tmp_path / 'test.db'}", [FIRST])
    futures = [database.submit(insert(str(n))) for n in range(200)]

    database.close()

    assert all(future.result() == 1 for future in futures)


def changes(path: Path) -> int:
    """Count the commits in the write-ahead log: frames that carry the size of the database.

    Source: sqlite.org/fileformat2.html, "The Write-Ahead Log".
    """
    log = Path(f"{path}-wal").read_bytes()
    page = int.from_bytes(log[8:12], "big")
    frames = range(32, len(log), 24 + page)
    return sum(int.from_bytes(log[frame + 4 : frame + 8], "big") > 0 for frame in frames)


def test_many_submits_are_few_commits(tmp_path: Path, database: SqliteDatabase) -> None:
    before = changes(tmp_path / "test.db")
    held, go = hold(database)
    futures = [database.submit(insert(f"{n:03}")) for n in range(200)]
    go.set()
    held.result()

    assert [future.result() for future in futures] == [1] * 200
    assert changes(tmp_path / "test.db") - before == 4  # 64 units share one at most


def test_a_broken_constraint_undoes_only_its_unit(database: SqliteDatabase) -> None:
    held, go = hold(database)
    before, again, after = (database.submit(insert(name)) for name in ("a", "a", "b"))
    go.set()
    held.result()

    assert (before.result(), after.result()) == (1, 1)
    with pytest.raises(Exception, match="UNIQUE constraint failed"):
        again.result()
    assert names(database) == ["a", "b"]


def test_a_full_disk_fails_its_whole_batch_and_leaves_nothing_of_it(database: SqliteDatabase) -> None:
    database.transaction(insert("kept"))
    database.transaction(lambda db: db.execute("PRAGMA max_page_count = 20"))
    held, go = hold(database)
    batch = [database.submit(insert(name)) for name in ("small", "x" * 1_000_000, "other")]
    go.set()
    held.result()

    for future in batch:
        with pytest.raises(InsufficientStorage):
            future.result()
    assert names(database) == ["kept"]


def fill(database: SqliteDatabase) -> list[str]:
    """Write until the disk is full; return what was answered."""
    answered: list[str] = []
    try:
        while len(answered) < 1000:
            database.transaction(insert(f"{len(answered):04}" * 200))
            answered.append(f"{len(answered):04}" * 200)
    except InsufficientStorage:
        return answered
    pytest.fail("the disk never filled")


def test_crash_20_a_real_full_disk_loses_nothing_that_was_answered() -> None:
    with small_disk(1) as disk:
        url = f"sqlite:{disk / 'test.db'}"
        with closing(connect(url, [FIRST])) as database:
            answered = fill(database)
            assert answered
            assert names(database) == answered, "reads go on"
            grow(disk, 8)
            assert database.transaction(insert("z")) == 1
        with closing(connect(url, [FIRST])) as database:
            assert names(database) == [*answered, "z"]


def test_a_point_read_leaves_trouble_to_a_thread_that_may_wait(database: SqliteDatabase) -> None:
    def unit(db: Connection) -> object:
        return db.execute("SELECT * FROM locked_or_absent").fetchone()

    with pytest.raises(Busy):
        database.read_inline(unit)
    with pytest.raises(Unavailable) as raised:
        database.read(unit)
    assert "locked_or_absent" in str(raised.value.__cause__), "the log learns it, a client does not (API-17)"
    assert "locked_or_absent" not in raised.value.message


def test_a_cancelled_unit_is_passed_over_within_its_batch(database: SqliteDatabase) -> None:
    held, go = hold(database)
    before, cancelled, after = (database.submit(insert(name)) for name in ("a", "never", "b"))
    assert cancelled.cancel()
    go.set()
    held.result()

    assert (before.result(), after.result()) == (1, 1)
    assert names(database) == ["a", "b"]


def test_a_unit_that_runs_can_no_longer_be_cancelled(database: SqliteDatabase) -> None:
    held, go = hold(database)

    assert not held.cancel()
    go.set()
    held.result()


def test_answers_a_future_only_after_its_commit(tmp_path: Path, database: SqliteDatabase) -> None:
    ours, seen = connect(f"sqlite:{tmp_path / 'test.db'}", [FIRST]), []
    held, go = hold(ours)
    future = ours.submit(insert("x"))
    future.add_done_callback(lambda _: seen.append(names(database)))
    go.set()
    held.result()
    ours.close()  # its thread has run the callback when this returns

    assert seen == [["x"]]


def test_uses_the_clock_it_was_given(tmp_path: Path) -> None:
    database = connect(f"sqlite:{tmp_path / 'test.db'}", [FIRST], lambda: 12.5)

    assert database.read(lambda db: db.now()) == 12.5
    assert database.transaction(lambda db: db.now()) == 12.5
    database.close()


_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.storage.test_database import FIRST, SECOND, connect
database = connect("sqlite:" + sys.argv[2], [FIRST, SECOND])
for n in range(100):
    name = f"{sys.argv[3]}-{n}"
    database.transaction(lambda db: db.execute("INSERT INTO item (name) VALUES (?)", (name,)))
database.close()
"""


def test_several_processes_migrate_at_once_and_write_in_turn(tmp_path: Path) -> None:
    root, path = Path(__file__).parent.parent.parent, tmp_path / "test.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(root), str(path), str(n)], stderr=subprocess.PIPE
        )
        for n in range(4)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=50)
        assert process.returncode == 0, errors

    database = connect(f"sqlite:{path}", [FIRST, SECOND])
    assert len(names(database)) == 400
    database.close()


_RIVAL = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from tests.storage.test_database import FIRST, connect, insert
database = connect("sqlite:" + sys.argv[2], [FIRST])
asked = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), asked.set()), daemon=True).start()
print("ready", flush=True)
count = 0
while not asked.is_set():
    database.transaction(insert(f"rival-{count}"))
    count += 1
print(count)
database.close()
"""


def rival(path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that writes as fast as it can until its standard input ends."""
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", _RIVAL, root, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_busy_process_lets_another_write(tmp_path: Path, database: SqliteDatabase) -> None:
    """SQLite's own lock is taken by whoever polls luckily; the queue makes it fair."""
    with rival(tmp_path / "test.db") as process:
        for number in range(200):
            database.transaction(insert(f"ours-{number}"))
        output, _ = process.communicate()

    theirs = int(output)
    assert theirs > 20, "the rival starved"
    assert len(names(database)) == 200 + theirs


def test_crash_01_a_killed_writer_leaves_its_turn_and_no_half_unit(
    tmp_path: Path, database: SqliteDatabase
) -> None:
    with rival(tmp_path / "test.db") as process:
        while "rival-20" not in names(database):
            database.transaction(insert(f"between {len(names(database))}"))
        process.send_signal(signal.SIGKILL)
        process.wait()

    assert database.transaction(insert("after")) == 1
    rivals = {name for name in names(database) if name.startswith("rival")}
    assert rivals == {f"rival-{number}" for number in range(len(rivals))}
