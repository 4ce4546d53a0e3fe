"""The chores: they end soon when they are asked to, and tell of a failure once."""

import json
import logging
import signal
import threading
import time
from pathlib import Path

import pytest

from registry.app import MIGRATIONS
from registry.lifecycle.background import Background, Failures
from registry.lifecycle.collector import Collector
from registry.lifecycle.journal import Journal
from registry.metadata import manifests, outbox
from registry.metadata.manifests import Push
from registry.settings import Settings
from storage.database import Connection, connect
from storage.filesystem import FilesystemBlobs
from storage.objects import FilesystemObjects
from storage.oci.errors import InsufficientStorage
from storage.oci.manifest import Manifest
from storage.oci.names import RepositoryName, Tag
from tests.registry.pushing import index
from tests.registry.test_server import answers, free_port, running

MANY = 1000


def push_many(data: Path, count: int) -> None:
    """Let the outbox hold `count` manifests, as a burst of pushes leaves it."""
    database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)

    def unit(db: Connection) -> None:
        for number in range(count):
            manifest = Manifest.parse(None, index(annotations={"number": str(number)}))
            push = Push(RepositoryName("app"), manifest, (Tag(f"v{number}"),), "ann")
            manifests.put(db, push, sparse=True)

    database.transaction(unit)
    database.close()


def waiting(data: Path) -> int:
    database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)
    try:
        return len(database.read(lambda db: outbox.pending(db, 10 * MANY)))
    finally:
        database.close()


def test_sigterm_waits_for_no_backlog_and_the_next_start_writes_it(tmp_path: Path) -> None:
    push_many(tmp_path, MANY)
    port, stored = free_port(), tmp_path / "objects"
    flags = ("--port", str(port))
    with running(tmp_path, *flags) as (process, _):
        answers(f"http://127.0.0.1:{port}/v2/")
        deadline = time.monotonic() + 20
        while not any(stored.glob("manifests/**/*")):
            assert time.monotonic() < deadline
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert time.monotonic() - started < 3
    left = waiting(tmp_path)
    assert left > 0, "there was more to do than it had time for"

    with running(tmp_path, *flags):
        deadline = time.monotonic() + 50
        while waiting(tmp_path):
            assert time.monotonic() < deadline

    lines = [json.loads(line) for file in stored.glob("journal/*") for line in file.read_text().splitlines()]
    tags = {line["tag"] for line in lines if line["kind"] == "tag"}
    assert tags == {f"v{number}" for number in range(MANY)}
    assert len([path for path in stored.glob("manifests/**/*") if path.is_file()]) == MANY


def test_ends_behind_the_object_that_is_written_now(tmp_path: Path) -> None:
    """Not behind all of them: a thread that was waited for would hold the end of the process up."""
    push_many(tmp_path, 50)
    writing, go_on = threading.Event(), threading.Event()

    class Held(FilesystemObjects):
        written = 0

        def put(self, key: str, data: bytes) -> None:
            writing.set()
            assert go_on.wait(20)
            self.written += 1
            super().put(key, data)

    settings = Settings(data=tmp_path, collect_every_seconds=0)
    database, store = connect(f"sqlite:{tmp_path / 'cargohold.db'}", MIGRATIONS), FilesystemBlobs(tmp_path)
    objects = Held(tmp_path)
    background = Background(tmp_path, Journal(database, objects), Collector(settings, database, store), 0)
    background.start()
    assert writing.wait(20)
    closing = threading.Thread(target=background.close)
    closing.start()
    while not background.is_closing:
        pass
    go_on.set()
    closing.join(20)

    assert not closing.is_alive()
    assert objects.written == 1
    database.close()


# Failures


def test_tells_of_a_failure_once_and_then_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    failures = Failures("journal", lambda: now[0])
    for second in range(150):
        now[0] = float(second)
        failures.tell(InsufficientStorage("the disk is full"))
    failures.end()
    failures.end()

    told = [
        (record.levelname, record.__dict__["failures"], bool(record.exc_info)) for record in caplog.records
    ]
    assert told == [
        ("WARNING", 1, True),
        ("WARNING", 61, False),
        ("WARNING", 121, False),
        ("INFO", 150, False),
    ]
    assert "the disk is full" in caplog.records[1].__dict__["reason"]


def test_tells_at_once_of_another_failure_and_of_one_that_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = Failures("journal", lambda: 0.0)
    failures.tell(InsufficientStorage("the disk is full"))
    failures.tell(KeyError("a fault of ours"))
    failures.end()
    failures.tell(InsufficientStorage("the disk is full"))

    assert [record.levelname for record in caplog.records if record.exc_info] == [
        "WARNING",
        "ERROR",
        "WARNING",
    ]
