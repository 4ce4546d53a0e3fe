"""Commit and row are two steps: what happens between them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from registry.app import MIGRATIONS
from registry.lifecycle.collector import Collector
from registry.metadata import blobs
from registry.offload import Offload
from registry.settings import Settings
from registry.space import FreeSpace
from registry.uploads import Uploads, Write
from storage.blobs import Location
from storage.database import connect
from storage.filesystem import FilesystemBlobs
from storage.oci.digest import Digest
from storage.oci.names import RepositoryName

NAME = RepositoryName("app")


def test_a_lease_of_nothing_takes_no_bytes_between_commit_and_row(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, lease_seconds=0, free_space_floor=0)
    database = connect(f"sqlite:{tmp_path / 'names.db'}", MIGRATIONS)
    store = FilesystemBlobs(tmp_path)
    collector = Collector(settings, database, store)

    class Collects(FilesystemBlobs):
        def commit(self, *arguments: Any) -> Location:
            location = super().commit(*arguments)
            collector.collect()  # the other thread's turn
            return location

    offload = Offload(database)
    uploads = Uploads(settings, database, Collects(tmp_path), offload, FreeSpace(settings, store))

    async def push() -> None:
        session = await uploads.begin(NAME, "", "sha256")

        async def feed(write: Write) -> None:
            write(memoryview(b"content"))

        await uploads.finish(session, Digest.of(b"content"), None, feed)

    asyncio.run(push())
    found = database.read(lambda db: blobs.location(db, Digest.of(b"content")))
    assert found is not None
    assert store.size(found[0]) == 7
    offload.close()
    database.close()


def test_a_push_whose_row_is_refused_leaves_no_copy(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, free_space_floor=0)
    database = connect(f"sqlite:{tmp_path / 'names.db'}", MIGRATIONS)
    refuse = "CREATE TRIGGER refuse BEFORE INSERT ON blob BEGIN SELECT RAISE(ABORT, 'refused'); END"
    database.transaction(lambda db: db.execute(refuse))
    store = FilesystemBlobs(tmp_path)
    offload = Offload(database)
    uploads = Uploads(settings, database, store, offload, FreeSpace(settings, store))

    async def push() -> None:
        session = await uploads.begin(NAME, "", "sha256")

        async def feed(write: Write) -> None:
            write(memoryview(b"content"))

        await uploads.finish(session, Digest.of(b"content"), None, feed)

    with pytest.raises(Exception, match="refused"):
        asyncio.run(push())

    assert list(store.locations()) == []
    offload.close()
    database.close()
