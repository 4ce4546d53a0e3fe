"""Every fault at every call (TEST-01), and every power loss between two (TEST-02)."""

import errno
import os
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storage.blobs import Appended, Location, UploadId
from storage.durable import FileSystem
from storage.filesystem import FilesystemBlobs, oci_layout_location, unique_location
from storage.objects import FilesystemObjects
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown, BlobUploadUnknown, RegistryError
from tests.storage.disks import FailNth, SimFS, Unsynced
from tests.storage.pushing import append, commit, content, push

FIRST, SECOND = random.Random(1).randbytes(1500), random.Random(2).randbytes(700)  # content
DATA = FIRST + SECOND
DIGEST = Digest.of(DATA)
OLD = b"pushed before all this"


@dataclass
class Promises:
    """What was answered, and so has to hold from then on."""

    blobs: dict[Location, bytes] = field(default_factory=dict)
    uploads: dict[UploadId, bytes] = field(default_factory=dict)
    objects: dict[str, list[bytes]] = field(default_factory=dict)  # any of these

    def check_blobs(self, store: FilesystemBlobs) -> None:
        for location, data in self.blobs.items():
            assert content(store, location) == data, "INV-02: a push that was answered is lost"
        for location in store.locations():
            digest = Digest.of(content(store, location), location.split("/")[1])
            assert digest.hex in location, "INV-04: visible bytes are not those of the digest"

    def check_uploads(self, store: FilesystemBlobs) -> None:
        for upload, data in self.uploads.items():
            assert store.offset(upload) >= len(data), "an acknowledged offset is lost"
            row = append(store, upload, len(data), b"")
            location = commit(store, upload, Digest.of(data), Appended(row.offset, None))
            assert content(store, location) == data

    def check_objects(self, objects: FilesystemObjects) -> None:
        for key, versions in self.objects.items():
            assert objects.get(key) in versions, "an object that was answered is lost or torn"
        for key in objects.list(""):
            assert objects.get(key) in (OLD, FIRST, SECOND)


@dataclass
class Machine:
    """A store and an object store on one disk, and what they promised."""

    root: Path
    disk: FileSystem
    locate: Callable[[Digest], Location] = unique_location
    promises: Promises = field(default_factory=Promises)
    open_blobs: type[FilesystemBlobs] = FilesystemBlobs

    def start(self) -> None:
        self.blobs = self.open_blobs(self.root, locate=self.locate, disk=self.disk)
        self.objects = FilesystemObjects(self.root, self.disk)


def push_at_once(machine: Machine) -> None:
    store = machine.blobs
    upload = store.begin()
    with store.claim(upload):
        with closing(store.append(upload, 0)) as writer:
            writer.write(FIRST)
            writer.write(SECOND)
        location = store.commit(upload, DIGEST, None)
    machine.promises.blobs[location] = DATA


def push_in_chunks(machine: Machine) -> None:
    store, promised = machine.blobs, machine.promises
    upload = store.begin("sha512")
    row = append(store, upload, 0, FIRST)
    promised.uploads[upload] = FIRST
    row = append(store, upload, row.offset, SECOND, row.digest)
    promised.uploads[upload] = DATA
    # Between the names of rename the strictest disk has neither: then it is 404 and sent again.
    del promised.uploads[upload]
    promised.blobs[commit(store, upload, Digest.of(DATA, "sha512"), row)] = DATA


def push_with_bytes_cut_off(machine: Machine) -> None:
    store, promised = machine.blobs, machine.promises
    upload = store.begin()
    append(store, upload, 0, FIRST)
    promised.uploads[upload] = FIRST
    with store.claim(upload), closing(store.append(upload, len(FIRST))) as writer:
        writer.write(b"never acknowledged" * 100)
    row = append(store, upload, len(FIRST), SECOND)
    promised.uploads[upload] = DATA
    del promised.uploads[upload]
    promised.blobs[commit(store, upload, DIGEST, row)] = DATA


def push_again(machine: Machine) -> None:
    push_at_once(machine)
    push_at_once(machine)


def refuse_a_digest(machine: Machine) -> None:
    store = machine.blobs
    upload = store.begin()
    row = append(store, upload, 0, FIRST)
    machine.promises.uploads[upload] = FIRST
    with store.claim(upload):
        try:
            store.commit(upload, DIGEST, row)
        except RegistryError:
            machine.promises.uploads.pop(upload)
            store.abort(upload)
            return
    pytest.fail("committed a wrong digest")


def delete(machine: Machine) -> None:
    push_at_once(machine)
    location = next(iter(machine.promises.blobs))
    del machine.promises.blobs[location]
    machine.blobs.delete(location)


def list_all(machine: Machine) -> None:
    push_at_once(machine)
    assert len(list(machine.blobs.locations())) == len(machine.promises.blobs)
    list(machine.blobs.uploads())
    list(machine.objects.list(""))
    assert machine.blobs.free_bytes() > 0


def put_objects(machine: Machine) -> None:
    promised = machine.promises.objects
    machine.objects.put("journal/1", FIRST)
    promised["journal/1"] = [FIRST, SECOND]  # the next put may be there or not
    machine.objects.put("journal/1", SECOND)
    promised["journal/1"] = [SECOND]
    del promised["journal/1"]
    machine.objects.delete("journal/1")
    machine.objects.put("journal/2", FIRST)
    promised["journal/2"] = [FIRST]


SCENARIOS = [
    push_at_once,
    push_in_chunks,
    push_with_bytes_cut_off,
    push_again,
    refuse_a_digest,
    delete,
    list_all,
    put_objects,
]
scenarios = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize(
    "error",
    [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE],
    ids=lambda error: errno.errorcode[error].lower(),
)
@scenarios
def test_crash_09_survives_a_fault_at_any_call(
    tmp_path: Path, scenario: Callable[[Machine], None], error: int, lasting: bool
) -> None:
    for operation in FailNth.OPERATIONS:
        nth, fired = 1, True
        while fired:
            root = tmp_path / f"{operation}{nth}"
            fired = _fail(root, scenario, FailNth(operation, nth, error, lasting=lasting))
            shutil.rmtree(root)
            nth += 1


def _fail(root: Path, scenario: Callable[[Machine], None], disk: FailNth) -> bool:
    machine = Machine(root, disk)
    open_before = len(os.listdir("/proc/self/fd"))
    failed = False
    try:
        machine.start()
        scenario(machine)
    except RegistryError:
        failed = True
    assert disk.fired or not failed
    assert len(os.listdir("/proc/self/fd")) == open_before
    disk.heal()
    _check_after_fault(machine, failed=failed)
    return disk.fired


def _check_after_fault(machine: Machine, *, failed: bool) -> None:
    """What was promised holds; leftovers are listed and can be dropped; the next push is fine."""
    after = FilesystemBlobs(machine.root, disk=Unsynced())
    machine.promises.check_blobs(after)
    for upload in list(machine.promises.uploads):
        if failed and upload not in list(after.uploads()):
            del machine.promises.uploads[upload]  # a failed fsync: 404, and the client starts again
    machine.promises.check_uploads(after)
    for upload in list(after.uploads()):
        after.abort(upload)
    assert list(after.uploads()) == []
    objects = FilesystemObjects(machine.root, Unsynced())
    machine.promises.check_objects(objects)

    if not hasattr(machine, "objects"):
        machine.start()
    assert content(machine.blobs, push(machine.blobs, OLD)) == OLD
    machine.objects.put("journal/3", OLD)
    assert objects.get("journal/3") == OLD


@pytest.mark.parametrize("locate", [unique_location, oci_layout_location], ids=["unique", "oci-layout"])
@scenarios
def test_crash_03_survives_a_power_loss_between_any_two_calls(
    tmp_path: Path, scenario: Callable[[Machine], None], locate: Callable[[Digest], Location]
) -> None:
    assert _lose_power(tmp_path, scenario, locate, SimFS(_new(tmp_path))) > 20


@pytest.mark.parametrize("forgets", ["file", "directory"])
@pytest.mark.parametrize("scenario", [push_at_once, push_in_chunks, put_objects])
def test_crash_03_would_notice_a_missing_fsync(
    tmp_path: Path, scenario: Callable[[Machine], None], forgets: str
) -> None:
    """The simulation finds what it is there to find."""
    with pytest.raises((AssertionError, BlobUnknown, BlobUploadUnknown)):
        _lose_power(tmp_path, scenario, unique_location, SimFS(_new(tmp_path), forgets=[forgets]))


@pytest.mark.parametrize(
    "scenario",
    [push_at_once, push_in_chunks, push_with_bytes_cut_off, put_objects],
    ids=lambda scenario: scenario.__name__,
)
def test_crash_10_never_believes_a_second_fsync(tmp_path: Path, scenario: Callable[[Machine], None]) -> None:
    assert _lose_every_sync(tmp_path, scenario, FilesystemBlobs) > 8


def test_crash_10_would_notice_who_believes_it(tmp_path: Path) -> None:
    class Believing(FilesystemBlobs):
        def _spoil(self, upload: object) -> None:
            pass

    with pytest.raises(AssertionError, match="INV-02"):
        _lose_every_sync(tmp_path, push_at_once, Believing)


def _lose_every_sync(path: Path, scenario: Callable[[Machine], None], blobs: type[FilesystemBlobs]) -> int:
    """Lose each fsync of a scenario in turn; return how many there were."""
    nth, fired = 0, True
    while fired:
        nth += 1
        disk = SimFS(path / f"live{nth}", loses_at=nth)
        disk.root.mkdir()
        fired = _lose_a_sync(path, scenario, disk, blobs)
        shutil.rmtree(disk.root)
    return nth - 1


def _lose_a_sync(
    path: Path, scenario: Callable[[Machine], None], disk: SimFS, blobs: type[FilesystemBlobs]
) -> bool:
    """Run a scenario; if it failed, insist and run it again; lose power then. Says whether it did fail."""
    machine = Machine(disk.root, disk, open_blobs=blobs)
    failed = False
    try:
        machine.start()
        scenario(machine)
    except RegistryError:
        failed = True
        _insist(machine)
        scenario(machine)
    for kept in disk.images(random.Random(0)):
        disk.write_image(kept, path / "image")
        _check_image(path / "image", machine.promises, unique_location)
        shutil.rmtree(path / "image")
    return failed


def _insist(machine: Machine) -> None:
    """Commit what the failed uploads seem to hold, as a client does that repeats its last request."""
    if not hasattr(machine, "objects"):
        machine.start()
    machine.promises.uploads.clear()
    for upload in list(machine.blobs.uploads()):
        (file,) = machine.root.glob(f"uploads/{upload}.*")
        data = file.read_bytes()
        location = commit(machine.blobs, upload, Digest.of(data, file.suffix[1:]))
        machine.promises.blobs[location] = data


def _new(path: Path) -> Path:
    (path / "live").mkdir()
    return path / "live"


def _lose_power(
    path: Path, scenario: Callable[[Machine], None], locate: Callable[[Digest], Location], disk: SimFS
) -> int:
    """Run the scenario, look at the images of every moment, and return how many there were."""
    chance = random.Random(0)  # a seed, so that a failure comes again
    machine = Machine(disk.root, disk, locate)
    count = 0

    def look() -> None:
        nonlocal count
        for kept in disk.images(chance):
            count += 1
            disk.write_image(kept, path / "image")
            _check_image(path / "image", machine.promises, locate)
            shutil.rmtree(path / "image")

    machine.start()
    disk.on_operation = look
    scenario(machine)
    look()
    return count


def _check_image(root: Path, promises: Promises, locate: Callable[[Digest], Location]) -> None:
    store = FilesystemBlobs(root, locate=locate, disk=Unsynced())
    objects = FilesystemObjects(root, Unsynced())
    promises.check_blobs(store)
    promises.check_objects(objects)
    promises.check_uploads(store)
    for upload in list(store.uploads()):
        store.abort(upload)
    assert content(store, push(store, DATA)) == DATA
    promises.check_blobs(store)
