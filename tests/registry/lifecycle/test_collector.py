"""The collector, with a clock that the test turns."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from registry.app import MIGRATIONS
from registry.lifecycle.collector import Collected, Collector
from registry.metadata import blobs, manifests, uploads
from registry.metadata.blobs import NewBlob
from registry.metadata.manifests import Push
from registry.settings import Settings
from storage.blobs import Location, UploadId
from storage.database import SqliteDatabase, connect
from storage.filesystem import FilesystemBlobs
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown
from storage.oci.manifest import Manifest
from storage.oci.names import RepositoryName, Tag
from tests.registry.pushing import image

LEASE = 1000.0
NAME = RepositoryName("app")
NOTHING = Collected(0, 0, 0)


@dataclass
class House:
    """A store, its names, and a clock for both."""

    store: FilesystemBlobs
    database: SqliteDatabase
    collector: Collector
    clock: list[float] = field(default_factory=lambda: [1_000_000.0])

    def pass_seconds(self, seconds: float) -> None:
        self.clock[0] += seconds

    def push(self, content: bytes, name: RepositoryName = NAME) -> Digest:
        digest = Digest.of(content)
        blob = NewBlob(digest, len(content), self.write(content))
        loser = self.database.transaction(lambda db: blobs.store(db, name, blob, None, LEASE))
        if loser:
            self.store.delete(loser)
        return digest

    def write(self, content: bytes) -> Location:
        upload = self.store.begin()
        with self.store.claim(upload):
            writer = self.store.append(upload, 0)
            writer.write(content)
            writer.close()
            return self.store.commit(upload, Digest.of(content), None)

    def put(self, body: bytes, tag: str = "v1") -> Manifest:
        manifest = Manifest.parse(None, body)
        push = Push(NAME, manifest, (Tag(tag),), "")
        self.database.transaction(lambda db: manifests.put(db, push, sparse=False))
        return manifest

    def remove(self, manifest: Manifest) -> None:
        from registry.metadata import repositories

        def unit(db: object) -> None:
            repository = repositories.find(db, NAME)  # type: ignore[arg-type]
            assert repository is not None
            manifests.delete(db, NAME, repository, manifest.digest, "")  # type: ignore[arg-type]
            manifests.drop_if_unheld(db, manifest.digest, LEASE)  # type: ignore[arg-type]

        self.database.transaction(unit)

    def has(self, digest: Digest) -> bool:
        found = self.database.read(lambda db: blobs.find(db, NAME, digest))
        if found is None:
            return False
        self.store.open(found.location).close()
        return True


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = [1_000_000.0]
    database = connect(f"sqlite:{tmp_path / 'names.db'}", MIGRATIONS, lambda: clock[0])
    store = FilesystemBlobs(tmp_path)
    settings = Settings(data=tmp_path, lease_seconds=LEASE, upload_seconds=LEASE, stray_seconds=LEASE)
    yield House(store, database, Collector(settings, database, store, lambda: clock[0]), clock)
    database.close()


def test_r1_a_blob_without_a_manifest_stays_for_its_lease(house: House) -> None:
    digest = house.push(b"layer")
    house.pass_seconds(LEASE - 1)
    assert house.collector.collect() == NOTHING
    assert house.has(digest)

    house.pass_seconds(2)

    assert house.collector.collect() == Collected(1, 0, 0)
    assert not house.has(digest)
    assert list(house.store.locations()) == []


def test_inv_06_what_a_manifest_names_stays(house: House) -> None:
    digests = [house.push(b"{}"), house.push(b"layer")]
    house.put(image(b"{}", b"layer"))
    house.pass_seconds(100 * LEASE)

    assert house.collector.collect() == NOTHING
    assert all(house.has(digest) for digest in digests)


def test_a_deleted_manifest_lets_its_blobs_go_after_a_lease(house: House) -> None:
    digests = [house.push(b"{}"), house.push(b"layer")]
    manifest = house.put(image(b"{}", b"layer"))
    house.pass_seconds(100 * LEASE)

    house.remove(manifest)

    assert house.collector.collect() == NOTHING
    house.pass_seconds(LEASE + 1)
    assert house.collector.collect() == Collected(2, 0, 0)
    assert not any(house.has(digest) for digest in digests)


def test_r2_a_promise_renews_the_lease(house: House) -> None:
    digest = house.push(b"layer")
    house.pass_seconds(LEASE - 1)

    until = house.clock[0] + LEASE
    assert house.database.transaction(lambda db: blobs.extend_lease(db, digest, until))

    house.pass_seconds(LEASE - 1)
    assert house.collector.collect() == NOTHING
    assert house.has(digest)


def test_crash_17_a_promise_after_the_collection_is_refused(house: House) -> None:
    digest = house.push(b"layer")
    house.pass_seconds(LEASE + 1)
    house.collector.collect()

    assert not house.database.transaction(lambda db: blobs.extend_lease(db, digest, house.clock[0] + LEASE))


def test_a_mount_renews_the_lease(house: House) -> None:
    digest = house.push(b"layer")
    house.pass_seconds(LEASE - 1)

    target = RepositoryName("other")
    assert house.database.transaction(lambda db: blobs.mount(db, target, digest, NAME, LEASE))

    house.pass_seconds(LEASE - 1)
    assert house.collector.collect() == NOTHING


def test_r3_a_push_after_the_row_went_is_not_hit_by_the_late_delete(house: House) -> None:
    digest = house.push(b"layer")
    house.pass_seconds(LEASE + 1)
    (old,) = house.database.transaction(lambda db: blobs.take_unreferenced(db, 10))

    house.push(b"layer")
    house.store.delete(old)

    assert house.has(digest)


def test_two_commits_of_one_digest_leave_one_location(house: House) -> None:
    house.push(b"layer")
    house.push(b"layer", RepositoryName("other"))

    assert len(list(house.store.locations())) == 1


def test_r9_the_first_owner_may_go(house: House) -> None:
    digest = house.push(b"layer")
    other = RepositoryName("other")
    house.database.transaction(lambda db: blobs.mount(db, other, digest, NAME, LEASE))
    house.database.transaction(lambda db: blobs.unlink(db, NAME, digest, LEASE))

    found = house.database.read(lambda db: blobs.find(db, other, digest))

    assert found is not None
    house.store.open(found.location).close()


def begin(house: House) -> UploadId:
    upload = house.store.begin()
    house.database.transaction(lambda db: uploads.create(db, upload, NAME, "", "sha256"))
    return upload


def test_ops_10_a_stale_upload_goes(house: House) -> None:
    upload = begin(house)
    house.pass_seconds(LEASE - 1)
    assert house.collector.collect() == NOTHING

    house.pass_seconds(2)

    assert house.collector.collect().uploads == 1
    assert list(house.store.uploads()) == []
    assert not house.database.read(lambda db: uploads.exists(db, upload))


def test_ops_10_an_upload_that_is_being_written_stays(house: House) -> None:
    upload = begin(house)
    house.pass_seconds(LEASE + 1)

    with house.store.claim(upload):
        assert house.collector.collect() == NOTHING

    assert list(house.store.uploads()) == [upload]


def test_r8_bytes_without_a_row_go_after_a_grace(house: House) -> None:
    location = house.write(b"committed, then the server died")
    orphan = house.store.begin()
    assert house.collector.collect() == NOTHING
    house.pass_seconds(LEASE - 1)
    assert house.collector.collect() == NOTHING

    house.pass_seconds(2)

    assert house.collector.collect() == Collected(0, 0, 2)
    assert orphan not in list(house.store.uploads())
    with pytest.raises(BlobUnknown):
        house.store.size(location)


def test_r8_bytes_that_get_their_row_in_time_stay(house: House) -> None:
    location = house.write(b"slow")
    house.collector.collect()
    digest = Digest.of(b"slow")
    blob = NewBlob(digest, 4, location)
    house.database.transaction(lambda db: blobs.store(db, NAME, blob, None, 100 * LEASE))
    house.pass_seconds(LEASE + 1)

    assert house.collector.collect() == NOTHING
    assert house.has(digest)
