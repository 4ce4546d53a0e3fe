"""How often the filesystem store syncs and reads, and what it does when the disk fails."""

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest

from storage.blobs import Appended, Location, UploadId
from storage.filesystem import FilesystemBlobs
from storage.oci.digest import Digest
from storage.oci.errors import BlobUploadUnknown, InsufficientStorage, Unavailable
from tests.storage.disks import FailNth, Recording, Unsynced
from tests.storage.pushing import append, commit, content, push

DATA = b"content" * 100
DIGEST = Digest.of(DATA)


def test_syncs_a_whole_push_in_one_request_twice(tmp_path: Path) -> None:
    """The file, then the directory of its name: no fsync for the name that it has meanwhile."""
    store, disk = _recorded(tmp_path)

    upload = store.begin()
    with store.claim(upload):
        with closing(store.append(upload, 0)) as writer:
            writer.write(DATA)
        location = store.commit(upload, DIGEST, Appended(0, None))

    file, directory = f"uploads/{upload}.sha256", os.path.dirname(location)
    assert disk.calls == [("write", file), ("sync", file), ("rename", location), ("sync", directory)]


def test_syncs_a_chunked_push_in_the_order_that_survives(tmp_path: Path) -> None:
    store, disk = _recorded(tmp_path)

    upload = store.begin()
    row = append(store, upload, 0, DATA[:100])
    row = append(store, upload, 100, DATA[100:], row.digest)
    location = commit(store, upload, DIGEST, row)

    file, directory = f"uploads/{upload}.sha256", os.path.dirname(location)
    first = [("write", file), ("sync", file), ("sync", "uploads")]
    second = [("write", file), ("sync", file)]
    end = [("sync", file), ("rename", location), ("sync", directory)]
    assert disk.calls == first + second + end


def test_syncs_two_parents_more_for_the_first_push(tmp_path: Path) -> None:
    disk = Recording(tmp_path)
    store = FilesystemBlobs(tmp_path, disk=disk)
    disk.calls.clear()

    location = push(store, DATA)

    made = disk.calls[disk.calls.index(("make_directory", "blobs")) :]
    fan_out = os.path.dirname(location)
    assert made == [
        ("make_directory", "blobs"),
        ("sync", "."),
        ("make_directory", "blobs/sha256"),
        ("sync", "blobs"),
        ("make_directory", fan_out),
        ("sync", "blobs/sha256"),
        ("rename", location),
        ("sync", fan_out),
    ]


def test_reads_nothing_again_for_what_was_acknowledged_with_a_digest(tmp_path: Path) -> None:
    """PATCH, then an empty PUT at another process: docker, podman and skopeo."""
    upload = FilesystemBlobs(tmp_path).begin()
    row = append(FilesystemBlobs(tmp_path), upload, 0, DATA)
    store, disk = _recorded(tmp_path)

    with store.claim(upload):
        store.append(upload, row.offset, row.digest).close()
        store.commit(upload, DIGEST, row)

    assert disk.count("read") == 0


def test_reads_once_what_it_did_not_hash(tmp_path: Path) -> None:
    upload = FilesystemBlobs(tmp_path).begin()
    append(FilesystemBlobs(tmp_path), upload, 0, DATA)
    store, disk = _recorded(tmp_path)

    commit(store, upload, DIGEST)

    assert disk.count("read") == 2  # the bytes, and the end


def test_crash_08_never_ends_a_cut_blob_cleanly(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    location = push(store, DATA)

    with closing(store.open(location)) as file:
        os.truncate(tmp_path / location, 10)
        assert file.read(100) == DATA[:10]
        with pytest.raises(Unavailable):
            file.read(100)


def test_crash_08_reports_a_failing_read(tmp_path: Path) -> None:
    location = push(FilesystemBlobs(tmp_path), DATA)
    store = FilesystemBlobs(tmp_path, disk=FailNth("read", 2, errno.EIO))

    with closing(store.open(location)) as file:
        assert file.read(3) == DATA[:3]
        with pytest.raises(Unavailable):
            file.read(3)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_gives_a_full_disk_back_what_was_not_acknowledged(tmp_path: Path, error: int) -> None:
    disk = FailNth("write", 3, error)
    store = FilesystemBlobs(tmp_path, disk=disk)
    upload = store.begin()
    row = append(store, upload, 0, b"kept")

    with store.claim(upload), closing(store.append(upload, 4, row.digest)) as writer:
        writer.write(b"written")
        with pytest.raises(InsufficientStorage):
            writer.write(b"refused")
        with pytest.raises(Unavailable):
            writer.write(b"more")
        with pytest.raises(Unavailable):
            writer.flush()

    assert store.offset(upload) == 4
    row = append(store, upload, 4, b"!", row.digest)
    assert content(store, commit(store, upload, Digest.of(b"kept!"), row)) == b"kept!"


@pytest.mark.parametrize("nth", [1, 2], ids=["file", "directory"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_crash_10_drops_an_upload_whose_fsync_failed(tmp_path: Path, nth: int, error: int) -> None:
    FilesystemBlobs(tmp_path)
    disk = FailNth("sync", nth + 2, error)  # two are of the start
    store = FilesystemBlobs(tmp_path, disk=disk)
    upload = store.begin()

    with store.claim(upload), closing(store.append(upload, 0)) as writer:
        writer.write(DATA)
        with pytest.raises((Unavailable, InsufficientStorage)):
            writer.flush()
        with pytest.raises(Unavailable):
            writer.flush()

    assert disk.fired
    with pytest.raises(BlobUploadUnknown):
        commit(store, upload, DIGEST)
    assert list(store.uploads()) == []
    assert content(store, push(store, DATA)) == DATA


def test_crash_10_never_trusts_a_failed_upload_that_it_cannot_remove(tmp_path: Path) -> None:
    class Broken(Unsynced):
        broken = True

        def sync(self, fd: int) -> None:
            if self.broken and "uploads/" in os.readlink(f"/proc/self/fd/{fd}"):
                raise OSError(errno.EIO, "Input/output error")

        def unlink(self, path: Path) -> None:
            if self.broken:
                raise OSError(errno.EROFS, "Read-only file system")
            super().unlink(path)

    disk = Broken()
    store = FilesystemBlobs(tmp_path, disk=disk)
    upload = store.begin()
    with pytest.raises(Unavailable):
        append(store, upload, 0, DATA)
    disk.broken = False

    with pytest.raises(BlobUploadUnknown):
        commit(store, upload, DIGEST)
    assert list(store.uploads()) == [upload]
    store.abort(upload)
    assert list(store.uploads()) == []


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_crash_11_recovers_from_a_lack_of_files_or_memory(tmp_path: Path, error: int) -> None:
    location = push(FilesystemBlobs(tmp_path), DATA)
    disk = FailNth("open", 3, error, lasting=True)
    store = FilesystemBlobs(tmp_path, disk=disk)

    for refused in (store.begin, lambda: store.open(location), lambda: store.offset(UploadId("0" * 32))):
        with pytest.raises(Unavailable) as raised:
            refused()
        assert raised.value.headers["Retry-After"]

    disk.heal()
    assert content(store, location) == DATA
    assert content(store, push(store, DATA)) == DATA


def test_names_no_path_in_an_error_that_clients_read(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path, disk=FailNth("rename", 1, errno.EIO))

    with pytest.raises(Unavailable) as raised:
        push(store, DATA)

    assert str(tmp_path) not in str(raised.value)


def _recorded(root: Path) -> tuple[FilesystemBlobs, Recording]:
    """Open a store whose directories are durable already, and what it does from then on."""
    disk = Recording(root)
    store = FilesystemBlobs(root, disk=disk)
    push(store, DATA)
    for location in list(store.locations()):
        store.delete(Location(location))
    disk.calls.clear()
    return store, disk
