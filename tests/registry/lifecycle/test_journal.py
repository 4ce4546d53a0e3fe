"""The journal: what it writes, and that a crash repeats but never loses."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.app import MIGRATIONS
from registry.lifecycle.journal import Journal, manifest_key
from registry.metadata import blobs, manifests, outbox, repositories, tags
from registry.metadata.blobs import NewBlob
from registry.metadata.manifests import Push
from storage.blobs import Location
from storage.database import Connection, SqliteDatabase, connect
from storage.objects import FilesystemObjects
from storage.oci.digest import Digest
from storage.oci.errors import Unavailable
from storage.oci.manifest import Manifest
from storage.oci.names import RepositoryName, Tag
from tests.registry.pushing import image

NAME = RepositoryName("app")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = connect(f"sqlite:{tmp_path / 'names.db'}", MIGRATIONS)
    yield database
    database.close()


@pytest.fixture
def objects(tmp_path: Path) -> FilesystemObjects:
    return FilesystemObjects(tmp_path)


def push(database: SqliteDatabase, tag: str) -> Manifest:
    blob = NewBlob(Digest.of(b"{}"), 2, Location(f"blobs/sha256/44/{Digest.of(b'{}').hex}.{'0' * 16}"))
    database.transaction(lambda db: blobs.store(db, NAME, blob, None, 10))
    manifest = Manifest.parse(None, image(b"{}", annotations={"tag": tag}))
    database.transaction(lambda db: manifests.put(db, Push(NAME, manifest, (Tag(tag),), "ann"), sparse=False))
    return manifest


def lines(objects: FilesystemObjects) -> list[dict[str, object]]:
    return [json.loads(line) for key in objects.list("journal/") for line in objects.get(key).splitlines()]


def test_writes_every_change_in_order_and_each_manifest(
    database: SqliteDatabase, objects: FilesystemObjects
) -> None:
    manifest = push(database, "v1")

    assert Journal(database, objects).drain() == 3

    assert [line["kind"] for line in lines(objects)] == ["blob", "manifest", "tag"]
    assert lines(objects)[2] | {"repository": "app", "tag": "v1", "principal": "ann"} == lines(objects)[2]
    assert objects.get(manifest_key(manifest.digest)) == manifest.body
    assert database.read(lambda db: outbox.pending(db, 10)) == []


def test_goes_on_in_the_object_it_began_also_after_a_restart(
    database: SqliteDatabase, objects: FilesystemObjects
) -> None:
    for tag in ("v1", "v2"):
        push(database, tag)
        Journal(database, objects).drain()

    assert len(list(objects.list("journal/"))) == 1
    ids = [line["id"] for line in lines(objects)]
    assert ids == sorted(ids)  # type: ignore[type-var]


def test_a_crash_between_object_and_outbox_repeats_lines_with_their_ids(
    database: SqliteDatabase, objects: FilesystemObjects
) -> None:
    class Stops(FilesystemObjects):
        def put(self, key: str, data: bytes) -> None:
            super().put(key, data)
            if key.startswith("journal/"):
                raise Unavailable("the process died here")

    push(database, "v1")
    stops = Stops.__new__(Stops)
    stops.__dict__.update(objects.__dict__)
    with pytest.raises(Unavailable):
        Journal(database, stops).drain()

    Journal(database, objects).drain()

    by_id = {line["id"]: line for line in lines(objects)}
    assert [by_id[id_]["kind"] for id_ in sorted(by_id, key=str)] == ["blob", "manifest", "tag"]


def test_a_manifest_that_is_gone_again_is_only_a_line(
    database: SqliteDatabase, objects: FilesystemObjects
) -> None:
    manifest = push(database, "v1")
    Journal(database, objects).drain()

    def remove(db: Connection) -> None:
        repository = repositories.find(db, NAME)
        assert repository is not None
        manifests.delete(db, NAME, repository, manifest.digest, "")
        manifests.drop_if_unheld(db, manifest.digest, 10)
        assert tags.current(db, repository, Tag("v1")) is None

    database.transaction(remove)
    Journal(database, objects).drain()

    assert [line["kind"] for line in lines(objects)][-2:] == ["untag", "unmanifest"]
    assert list(objects.list("manifests/")) == []


def test_asked_to_stop_it_leaves_the_rest_for_the_next_time(
    database: SqliteDatabase, objects: FilesystemObjects
) -> None:
    pushed = [push(database, f"v{number}") for number in range(10)]
    answers = iter([False] * 8)

    Journal(database, objects).drain(lambda: next(answers, True))

    assert 0 < len(list(objects.list("manifests/"))) < 10, "it stopped in the middle"
    assert lines(objects) == [], "and told nothing of a batch that it did not finish"

    Journal(database, objects).drain()

    assert [line["tag"] for line in lines(objects) if line["kind"] == "tag"] == [
        f"v{number}" for number in range(10)
    ]
    assert {manifest_key(manifest.digest) for manifest in pushed} == set(objects.list("manifests/"))
    assert database.read(lambda db: outbox.pending(db, 10)) == []
