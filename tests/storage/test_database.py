"""The database: migrations, units of work, several processes."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Connection, Migration, SchemaNewer, SqliteDatabase, Unit, connect
from storage.oci.errors import InsufficientStorage, Unavailable

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


def test_many_units_share_one_commit(tmp_path: Path, database: SqliteDatabase) -> None:
    started, go = threading.Event(), threading.Event()

    def waits(db: Connection) -> None:
        started.set()
        go.wait()

    first = database.submit(waits)
    started.wait()
    futures = [database.submit(insert(f"{n:02}")) for n in range(30)]
    seen: list[int] = []
    watch = database.submit(lambda db: seen.append(1))
    go.set()
    first.result()
    watch.result()

    assert all(future.done() for future in futures), "they ended with the batch that the watcher was in"
    assert len(names(database)) == 30


def test_a_cancelled_unit_does_nothing(database: SqliteDatabase) -> None:
    started, go = threading.Event(), threading.Event()

    def waits(db: Connection) -> None:
        started.set()
        go.wait()

    first = database.submit(waits)
    started.wait()
    cancelled = database.submit(insert("never"))
    assert cancelled.cancel()
    go.set()
    first.result()
    database.transaction(insert("after"))

    assert names(database) == ["after"]


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
