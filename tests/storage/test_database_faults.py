"""What goes wrong in units, files and other processes reaches who asked, and the writer goes on."""

import fcntl
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from storage.database import Busy, Connection, Migration, SqliteDatabase, connect
from storage.oci.errors import Unavailable

FIRST = Migration(1, "0001_first", "CREATE TABLE item (id $id, name $text NOT NULL UNIQUE);\n")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = connect(f"sqlite:{tmp_path / 'test.db'}", [FIRST])
    yield database
    database.close()


def test_no_error_of_a_unit_ends_the_writer(database: SqliteDatabase) -> None:
    broken = database.submit(lambda db: db.execute("INSERT INTO item (name) VALUES (?)", (object(),)))  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        broken.result(5)
    after = database.submit(lambda db: db.execute("INSERT INTO item (name) VALUES ('x')").rowcount)
    assert after.result(5) == 1


def test_a_mistake_in_one_unit_fails_only_that_unit(database: SqliteDatabase) -> None:
    go = threading.Event()
    database.submit(lambda db: go.wait(10))
    good = database.submit(lambda db: db.execute("INSERT INTO item (name) VALUES ('x')").rowcount)
    bad = database.submit(lambda db: db.execute("INSERT INTO item (name) VALUES (?)", ()))
    go.set()
    with pytest.raises(Unavailable):
        bad.result(5)
    assert good.result(5) == 1


def test_crash_19_a_stopped_writer_elsewhere_is_a_503_in_the_end(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    turn = os.open(tmp_path / "test.db.writer", os.O_RDWR)
    fcntl.flock(turn, fcntl.LOCK_EX)
    waiting = database.submit(lambda db: db.execute("INSERT INTO item (name) VALUES ('x')").rowcount)
    with pytest.raises(Unavailable):
        waiting.result(20)


def test_a_closed_database_says_so(database: SqliteDatabase) -> None:
    database.close()
    with pytest.raises(Unavailable, match="closed"):
        database.submit(lambda db: 1).result(3)


def test_a_point_read_of_a_broken_file_is_ours_or_busy(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    database = connect(f"sqlite:{path}", [FIRST])
    for n in range(300):
        database.transaction(partial(_insert, name=f"{n}" * 50))
    database.close()
    data = bytearray(path.read_bytes())
    for page in range(8, len(data) // 4096):
        data[page * 4096 : page * 4096 + 100] = b"\xee" * 100
    path.write_bytes(data)
    database = connect(f"sqlite:{path}", [FIRST])
    with pytest.raises((Busy, Unavailable)):
        database.read_inline(lambda db: db.execute("SELECT count(*), max(length(name)) FROM item").fetchall())
    database.close()


def _insert(db: Connection, name: str) -> None:
    db.execute("INSERT INTO item (name) VALUES (?)", (name,))
