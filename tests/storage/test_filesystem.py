import gc
import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from storage.blobs import UploadId
from storage.filesystem import FilesystemBlobs, oci_layout_location, unique_location
from storage.oci.digest import Digest
from storage.oci.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    RangeInvalid,
    RegistryError,
)
from tests.storage.disks import ShortWrites, Unsynced
from tests.storage.pushing import append, commit, content, push

DATA = b"content" * 100
DIGEST = Digest.of(DATA)


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_names_a_location_after_its_digest(tmp_path: Path) -> None:
    location = push(FilesystemBlobs(tmp_path), DATA)

    head, _, unique = location.rpartition(".")
    assert head == f"blobs/sha256/{DIGEST.hex[:2]}/{DIGEST.hex}"
    assert len(unique) == 16
    assert (tmp_path / location).read_bytes() == DATA
    assert unique_location(DIGEST) != unique_location(DIGEST)


def test_names_a_location_as_an_oci_layout_does(tmp_path: Path) -> None:
    location = push(FilesystemBlobs(tmp_path, locate=oci_layout_location), DATA)

    assert location == f"blobs/sha256/{DIGEST.hex}"


def test_inv_05_heals_a_corrupt_blob_of_an_oci_layout(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path, locate=oci_layout_location)
    location = push(store, DATA)
    (tmp_path / location).write_bytes(b"corrupt")

    assert push(store, DATA) == location
    assert content(store, location) == DATA


def test_keeps_files_from_other_users_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = FilesystemBlobs(tmp_path / "store")
        push(store, DATA)
        store.begin()
    finally:
        os.umask(before)

    for path in (tmp_path / "store").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_works_below_a_root_that_is_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = FilesystemBlobs(tmp_path / "link")

    assert content(store, push(store, DATA)) == DATA


def test_follows_no_symbolic_link_in_place_of_a_blob(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    location = push(store, DATA)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / location).unlink()
    (tmp_path / location).symlink_to(tmp_path / "secret")

    with pytest.raises(BlobUnknown):
        store.open(location)
    with pytest.raises(BlobUnknown):
        store.size(location)
    assert list(store.locations()) == []


def test_takes_a_directory_in_place_of_a_blob_for_none(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    location = push(store, DATA)
    (tmp_path / location).unlink()
    (tmp_path / location).mkdir()

    with pytest.raises(BlobUnknown):
        store.open(location)
    with pytest.raises(BlobUnknown):
        store.size(location)


def test_follows_no_symbolic_link_in_place_of_an_upload(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    (tmp_path / "victim").write_bytes(b"victim")
    (tmp_path / f"uploads/{'0' * 32}.sha256").symlink_to(tmp_path / "victim")

    with pytest.raises(RegistryError):
        store.append(UploadId("0" * 32), 0)
    assert list(store.uploads()) == []
    assert (tmp_path / "victim").read_bytes() == b"victim"


def test_passes_over_files_that_are_not_its_own(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    location, upload = push(store, DATA), store.begin()
    for foreign in (
        "blobs/README",
        "blobs/sha256/README",
        "blobs/sha256/lost+found/x",
        f"blobs/sha256/{DIGEST.hex[:2]}/.nfs0001",
        f"blobs/sha256/ff/00{DIGEST.hex[2:]}.{'0' * 16}",
        "blobs/md5/" + "0" * 32,
        f"uploads/{'0' * 32}.md5",
        "uploads/x",
    ):
        (tmp_path / foreign).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / foreign).write_bytes(b"")

    assert list(store.locations()) == [location]
    assert list(store.uploads()) == [upload]


def test_lists_locations_a_directory_at_a_time(tmp_path: Path) -> None:
    class Scanned(Unsynced):
        scanned = 0

        def scan(self, path: Path):  # type: ignore[no-untyped-def]  # as the method it counts
            self.scanned += 1
            return super().scan(path)

    disk = Scanned()
    store = FilesystemBlobs(tmp_path, disk=disk)
    for number in range(30):
        push(store, b"%d" % number)
    disk.scanned = 0

    locations = store.locations()
    next(locations)

    assert disk.scanned == 2
    locations.close()  # type: ignore[attr-defined]  # a generator; the directories are closed at once


def test_keeps_an_open_blob_readable_after_its_delete(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    location = push(store, DATA)

    with closing(store.open(location)) as file:
        store.delete(location)
        assert file.read(len(DATA)) == DATA


def test_gives_the_file_number_for_zero_copy_sends(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)

    file = store.open(push(store, DATA))
    assert os.pread(file.fileno(), 3, 0) == DATA[:3]
    file.close()
    file.close()

    with pytest.raises(ValueError, match="closed"):
        file.fileno()


def test_leaves_no_file_open(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    before = open_files()

    location = push(store, DATA)
    upload = store.begin()
    for refused in (
        lambda: append(store, upload, 5, b""),
        lambda: commit(store, upload, DIGEST),
        lambda: store.open(location, 5, 4),
    ):
        with pytest.raises(RegistryError):
            refused()
    assert store.offset(upload) == 0
    next(store.locations())
    # What a request that was cancelled in between never got to see.
    store.open(location)
    store.append(upload, 0)
    store.claim(upload).__enter__()

    assert open_files() == before


def test_writes_all_when_the_kernel_takes_little(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path, disk=ShortWrites(most=7))

    assert content(store, push(store, DATA)) == DATA


def test_r12_claims_no_upload_that_ended_between_open_and_lock(tmp_path: Path) -> None:
    other = FilesystemBlobs(tmp_path)
    upload = other.begin()

    class Late(Unsynced):
        def lock(self, fd: int) -> None:
            commit(other, upload, Digest.of(b""))
            super().lock(fd)

    with pytest.raises(BlobUploadUnknown), FilesystemBlobs(tmp_path, disk=Late()).claim(upload):
        pytest.fail("claimed a committed blob")


def test_r12_claims_no_file_that_took_the_place_of_another(tmp_path: Path) -> None:
    upload = FilesystemBlobs(tmp_path).begin()

    class Swapped(Unsynced):
        def lock(self, fd: int) -> None:
            (tmp_path / "other").write_bytes(b"")
            os.rename(tmp_path / "other", tmp_path / f"uploads/{upload}.sha256")
            super().lock(fd)

    with pytest.raises(BlobUploadUnknown), FilesystemBlobs(tmp_path, disk=Swapped()).claim(upload):
        pytest.fail("claimed a file without a name")


def test_trusts_no_digest_while_another_writer_is_open(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    upload = store.begin()

    with store.claim(upload):
        with closing(store.append(upload, 0)) as writer:
            writer.write(b"evil")
        with closing(store.append(upload, 0)) as writer:
            writer.write(b"good")
            with pytest.raises(DigestInvalid):
                store.commit(upload, Digest.of(b"evil"), None)


def test_never_writes_to_content_that_kept_its_upload_name(tmp_path: Path) -> None:
    """What a crash amid the rename may leave."""
    store = FilesystemBlobs(tmp_path)
    upload = store.begin()
    file = tmp_path / f"uploads/{upload}.sha256"
    append(store, upload, 0, DATA)
    location = unique_location(DIGEST)
    (tmp_path / location).parent.mkdir(parents=True)
    os.link(file, tmp_path / location)

    with pytest.raises(BlobUploadUnknown):
        append(store, upload, 0, b"other")

    assert content(store, location) == DATA


def test_commits_again_when_its_directory_was_removed(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    location = push(store, DATA)
    store.delete(location)
    (tmp_path / location).parent.rmdir()

    with pytest.raises(RegistryError):
        push(store, DATA)
    assert content(store, push(store, DATA)) == DATA


def test_refuses_a_claim_held_elsewhere_without_waiting(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    upload = store.begin()
    held = os.open(tmp_path / f"uploads/{upload}.sha256", os.O_RDWR)
    Unsynced().lock(held)

    with pytest.raises(RangeInvalid), store.claim(upload):
        pytest.fail("claimed twice")
    os.close(held)

    with store.claim(upload):
        pass
