"""Random schedules of pushes and collections, cut between any two of their steps (CRASH-15..18, R1-R9)."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from registry.app import MIGRATIONS
from registry.lifecycle.collector import Collector
from registry.metadata import blobs
from registry.metadata.blobs import NewBlob
from registry.metadata.manifests import Push
from registry.offload import Offload
from registry.registry import Registry
from registry.settings import Settings
from registry.space import FreeSpace
from registry.uploads import Uploads
from storage.blobs import Location
from storage.database import connect
from storage.filesystem import FilesystemBlobs
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown, ReferenceConflict
from storage.oci.manifest import Manifest
from storage.oci.names import RepositoryName, Tag
from tests.registry.pushing import image
from tests.storage.disks import Unsynced

T = TypeVar("T")

LEASE = 100.0
NAMES = st.sampled_from([RepositoryName("a"), RepositoryName("b")])
CONTENTS = st.sampled_from([b"{}", b"one"])
ANY = st.integers(0, 1000)


class Collection(RuleBasedStateMachine):
    """What a push and a collection do, a step a rule; a step that never comes is a process that died."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        root = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.now = 1_000_000.0
        configuration = Settings(
            data=root, lease_seconds=LEASE, upload_seconds=LEASE, stray_seconds=LEASE, free_space_floor=0
        )
        self.database = connect(f"sqlite:{root / 'names.db'}", MIGRATIONS, lambda: self.now)
        self._stack.callback(self.database.close)
        self.store = FilesystemBlobs(root, disk=Unsynced())
        offload = Offload(self.database)
        self._stack.callback(offload.close)
        space = FreeSpace(configuration, self.store)
        self.registry = Registry(configuration, self.store, offload, space)
        self.uploads = Uploads(configuration, self.database, self.store, offload, space)
        self.collectors = [
            Collector(configuration, self.database, self.store, lambda: self.now) for _ in range(2)
        ]
        self._loop = self._stack.enter_context(asyncio.Runner())
        # Between their steps.
        self.committed: list[tuple[float, NewBlob]] = []
        self.doomed: list[Location] = []
        # What was promised.
        self.leases: dict[Digest, float] = {}
        self.links: set[tuple[RepositoryName, Digest]] = set()
        self.parts: dict[tuple[RepositoryName, Digest], set[Digest]] = {}

    def teardown(self) -> None:
        try:
            self.collect_all()
        finally:
            self._stack.close()

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    def _is_held(self, digest: Digest) -> bool:
        return any(digest in parts for parts in self.parts.values())

    def _must_have(self, name: RepositoryName, digest: Digest) -> bool:
        lives = self._is_held(digest) or self.leases.get(digest, 0.0) > self.now
        return lives and (name, digest) in self.links

    def _promise(self, name: RepositoryName, digest: Digest) -> None:
        if not self._is_held(digest) and self.leases.get(digest, 0.0) < self.now:
            # It may have been collected, with every link, and come anew.
            self.links = {link for link in self.links if link[1] != digest}
        self.leases[digest] = max(self.leases.get(digest, 0.0), self.now + LEASE)
        self.links.add((name, digest))

    @rule(content=CONTENTS)
    def commit_bytes(self, content: bytes) -> None:
        upload, digest = self.store.begin(), Digest.of(content)
        with self.store.claim(upload):
            writer = self.store.append(upload, 0)
            writer.write(content)
            writer.close()
            blob = NewBlob(digest, len(content), self.store.commit(upload, digest, None))
        self.committed.append((self.now, blob))

    @precondition(lambda self: self.committed)
    @rule(pick=ANY, name=NAMES)
    def store_row(self, pick: int, name: RepositoryName) -> None:
        _, blob = self.committed.pop(pick % len(self.committed))
        loser = self.database.transaction(lambda db: blobs.store(db, name, blob, None, LEASE))
        if loser is not None:
            self.doomed.append(loser)
        self._promise(name, blob.digest)

    @rule(name=NAMES, content=CONTENTS)
    def push_blob(self, name: RepositoryName, content: bytes) -> None:
        self.commit_bytes(content)
        self.store_row(-1, name)

    @rule()
    def die(self) -> None:
        """What requests and collections were about to do is not done."""
        self.committed.clear()
        self.doomed.clear()

    @rule()
    def take_rows(self) -> None:
        self.doomed += self.database.transaction(lambda db: blobs.take_unreferenced(db, 2))

    @precondition(lambda self: self.doomed)
    @rule(pick=ANY)
    def delete_bytes(self, pick: int) -> None:
        self.store.delete(self.doomed.pop(pick % len(self.doomed)))

    @rule(which=st.sampled_from([0, 1]))
    def collect(self, which: int) -> None:
        self.collectors[which].collect()

    @rule(seconds=st.sampled_from([LEASE / 3, LEASE - 1, LEASE + 1]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        # A request that stands still for a whole lease has lost its client.
        self.committed = [item for item in self.committed if item[0] + LEASE > self.now]

    @rule(name=NAMES, content=CONTENTS)
    def head_blob(self, name: RepositoryName, content: bytes) -> None:
        digest = Digest.of(content)
        had = self._must_have(name, digest)
        try:
            self._await(self.registry.promise_blob(name, digest))
        except BlobUnknown:
            assert not had
            return
        if not self._is_held(digest):
            # It may have had more than half of a lease.
            self.leases[digest] = max(self.leases.get(digest, 0.0), self.now + LEASE / 2)

    @rule(name=NAMES, source=NAMES, content=CONTENTS)
    def mount(self, name: RepositoryName, source: RepositoryName, content: bytes) -> None:
        digest = Digest.of(content)
        had = self._must_have(source, digest)
        if self._await(self.uploads.mount(name, digest, [source])) is None:
            assert not had
        else:
            kept = {link for link in self.links if link[1] == digest}
            self._promise(name, digest)
            self.links |= kept

    @rule(name=NAMES, config=CONTENTS, layer=CONTENTS)
    def put_manifest(self, name: RepositoryName, config: bytes, layer: bytes) -> None:
        manifest = Manifest.parse(None, image(config, layer))
        parts = {Digest.of(config), Digest.of(layer)}
        had = all(self._must_have(name, digest) for digest in parts)
        try:
            self._await(self.registry.put_manifest(Push(name, manifest, (Tag("v1"),), "")))
        except ManifestBlobUnknown:
            assert not had, "CRASH-16: blob unknown within its lease"
            return
        self.parts[name, manifest.digest] = parts
        self.links |= {(name, digest) for digest in parts}

    @rule(name=NAMES, content=CONTENTS)
    def push_image(self, name: RepositoryName, content: bytes) -> None:
        self.push_blob(name, content)
        self.put_manifest(name, content, content)

    @precondition(lambda self: self.parts)
    @rule(pick=ANY)
    def delete_manifest(self, pick: int) -> None:
        name, digest = sorted(self.parts, key=str)[pick % len(self.parts)]
        self._await(self.registry.delete_manifest(name, digest, ""))
        for part in self.parts.pop((name, digest)):
            if not any(key[1] == digest for key in self.parts):
                self.leases[part] = max(self.leases.get(part, 0.0), self.now + LEASE)

    @rule(name=NAMES, content=CONTENTS)
    def delete_blob(self, name: RepositoryName, content: bytes) -> None:
        digest = Digest.of(content)
        held = any(digest in parts for key, parts in self.parts.items() if key[0] == name)
        had = self._must_have(name, digest)
        try:
            self._await(self.registry.delete_blob(name, digest))
        except ReferenceConflict:
            assert held
        except BlobUnknown:
            assert not had
        else:
            assert not held
            self.links.discard((name, digest))

    @invariant()
    def every_promise_is_kept(self) -> None:
        for name, digest in self.links:
            if self._must_have(name, digest):
                found = self._await(self.registry.blob(name, digest))
                file = self._await(self.registry.open_blob(found))
                assert Digest.of(file.read(100)) == digest
                file.close()
        for name, digest in self.parts:
            assert self._await(self.registry.manifest(name, digest)).digest == str(digest)

    def collect_all(self) -> None:
        """What nobody holds is gone a lease and a grace later, whatever died before."""
        self.die()
        for _ in range(3):
            self.now += LEASE + 1
            self.collectors[0].collect()
        held = sorted(str(digest) for digest in set(itertools.chain.from_iterable(self.parts.values())))
        kept = self.database.read(
            lambda db: db.execute("SELECT digest, location FROM blob ORDER BY digest").fetchall()
        )
        assert [digest for digest, _ in kept] == held
        assert sorted(self.store.locations()) == sorted(location for _, location in kept)


def run_schedules(count: int) -> None:
    run_state_machine_as_test(
        Collection, settings=settings(max_examples=count, stateful_step_count=30, deadline=None)
    )


def test_crash_16_no_schedule_of_a_collection_breaks_a_promise() -> None:
    run_schedules(80)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_crash_16_no_schedule_of_many_breaks_a_promise() -> None:
    run_schedules(5000)


def test_crash_18_a_manifest_that_was_deleted_is_unknown_until_it_is_pushed_again() -> None:
    machine = Collection()
    try:
        name = RepositoryName("a")
        for _ in range(2):
            for content in (b"{}", b"one"):
                machine.commit_bytes(content)
                machine.store_row(0, name)
            machine.put_manifest(name, b"{}", b"one")
            machine.every_promise_is_kept()
            machine.delete_manifest(0)
            machine.collect_all()
            assert list(machine.store.locations()) == []
            digest = Manifest.parse(None, image(b"{}", b"one")).digest
            try:
                machine._await(machine.registry.manifest(name, digest))
            except ManifestUnknown:
                continue
            raise AssertionError("an answered delete came back (INV-06)")
    finally:
        machine.teardown()
