"""Locks of files that come and go, and directories that are no place for a store."""

import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client.errors import Cancelled, DiskFailed
from client.store import directory, locks
from client.store.directory import Directory, file_system
from client.store.errors import StoreUnusable
from client.store.store import Store
from storage.oci.digest import Digest
from storage.oci.errors import RegistryError
from tests.storage.small_disk import small_disk

CHAIN_ID = Digest.of(b"layer")


def give_up() -> None:
    raise Cancelled


def is_free(path: Path) -> bool:
    fd = locks.try_lock(path)
    if fd is not None:
        os.close(fd)
    return fd is not None


def test_one_has_it_and_who_waits_gets_it_next(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.released(locks.lock(path)), ThreadPoolExecutor(1) as pool:
        assert not is_free(path)
        with pytest.raises(Cancelled):
            locks.wait_for(path, give_up)
        waiting = threading.Event()
        next_one = pool.submit(locks.wait_for, path, waiting.set)
        assert waiting.wait(20)
        os.rename(path, tmp_path / "gone")
        # It is on the file that has the name now.
        os.close(next_one.result(20))


def test_several_share(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.released(locks.lock(path, shared=True)), locks.released(locks.lock(path, shared=True)):
        assert not is_free(path)
    assert is_free(path)


@pytest.mark.parametrize("shared", [True, False])
def test_a_lock_on_a_file_that_was_removed_meanwhile_is_taken_again(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "lock"
    first = locks.lock(path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(locks.lock, path, shared=shared)
        while not _waits_for_a_lock():
            os.sched_yield()
        path.unlink()
        os.close(first)
        with locks.released(waiting.result(20)):
            assert path.exists()
            assert not is_free(path)


def _waits_for_a_lock() -> bool:
    """Whether a flock of ours waits: no other event tells. Source: proc_locks(5), the lines with `->`."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {os.getpid()} " in line for line in lines)


def test_many_threads_and_one_who_removes_the_file_never_have_it_twice(tmp_path: Path) -> None:
    path, held, most = tmp_path / "lock", [0], [0]

    def work(_number: int) -> None:
        fd = locks.wait_for(path, lambda: None)
        held[0] += 1
        most[0] = max(most[0], held[0])
        held[0] -= 1
        # As a collection does, which has them all.
        path.unlink()
        os.close(fd)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(400)))
    assert most == [1]


def test_a_directory_is_locked_only_where_it_is(tmp_path: Path) -> None:
    assert locks.try_lock_directory(tmp_path / "none") is None
    (tmp_path / "one").mkdir()
    fd = locks.try_lock_directory(tmp_path / "one")
    assert fd is not None
    with locks.released(fd):
        assert locks.try_lock_directory(tmp_path / "one") is None


def test_a_collection_removes_the_locks_of_layers(tmp_path: Path) -> None:
    store = Directory(tmp_path / "store")
    with store.shared():
        os.close(locks.lock(store.layer_lock(CHAIN_ID)))
    with store.exclusive():
        store.remove_locks()

    assert sorted(os.listdir(store.root / "locks")) == ["collection"]


# Places that are none for a store.


def refusal(root: Path) -> str:
    with pytest.raises(RegistryError) as raised:
        Store(root).close()
    assert "\n" not in raised.value.message
    assert str(root) in raised.value.message
    assert isinstance(raised.value, StoreUnusable | DiskFailed)
    return raised.value.message


def foreign(root: Path) -> None:
    root.mkdir()
    (root / "thesis.txt").write_text("years of work")


def with_database(root: Path, change: Callable[[Path], object]) -> None:
    Store(root).close()
    change(root / "state.db")


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO migration VALUES (9999, 'from the future')")
    connection.commit()
    connection.close()


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:] = os.urandom(len(data) - 100)
    path.write_bytes(data)


UNUSABLE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a-file": ("is not a directory: choose another", lambda root: root.write_text("")),
    "a-directory-of-something-else": ("is neither empty nor a store: choose another", foreign),
    "below-a-file": ("Not a directory", lambda root: _replaced_by_file(root.parent)),
    "a-database-that-is-none": (
        "file is not a database",
        lambda root: with_database(root, lambda path: path.write_bytes(b"no database" * 1000)),
    ),
    "a-damaged-database": ("malformed", lambda root: with_database(root, corrupt)),
    "a-database-of-a-newer-version": ("has schema 9999", lambda root: with_database(root, newer)),
    "a-directory-for-a-database": (
        "state.db",
        lambda root: with_database(root, _replaced_by_directory),
    ),
}


def _replaced_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replaced_by_file(path: Path) -> None:
    path.rmdir()
    path.write_text("")


@pytest.mark.parametrize(("message", "make"), UNUSABLE.values(), ids=UNUSABLE)
def test_refuses_in_one_line(tmp_path: Path, message: str, make: Callable[[Path], object]) -> None:
    root = tmp_path / "above" / "store"
    root.parent.mkdir()
    make(root)

    assert message in refusal(root)


def test_refuses_a_directory_of_something_else_untouched(tmp_path: Path) -> None:
    foreign(tmp_path / "store")

    refusal(tmp_path / "store")

    assert os.listdir(tmp_path / "store") == ["thesis.txt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="LEFT OUT: only root may give a directory away")
def test_refuses_another_users_store(tmp_path: Path) -> None:
    Store(tmp_path / "store").close()
    os.chown(tmp_path / "store", 65534, 65534)

    assert "belongs to another user: choose another" in refusal(tmp_path / "store")


@pytest.mark.skipif(os.geteuid() != 0, reason="LEFT OUT: only root may mount")
def test_refuses_a_file_system_that_is_read_only() -> None:
    with small_disk(8) as disk:
        Store(disk / "store").close()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

        assert "Read-only" in refusal(disk / "store") or "readonly" in refusal(disk / "store")
        assert "Read-only" in refusal(disk / "new")


def test_unp_10_closes_a_store_to_others(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o755)
    (tmp_path / "store").chmod(0o755)

    with Store(tmp_path / "store") as store:
        modes = {
            path.stat().st_mode & 0o077 for path in [store.directory.root, *store.directory.root.iterdir()]
        }

    assert modes == {0}


NETWORK = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "fuse.rclone",
]
LOCAL = ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs", "fuse.fuse-overlayfs", "virtiofs", None]


@pytest.mark.parametrize("kind", [*NETWORK, *LOCAL])
def test_only_a_local_file_system_is_a_place_for_a_store(kind: str | None) -> None:
    assert directory.is_network(kind) == (kind in NETWORK)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/srv", "ext4"),
        ("/srv/data", "nfs4"),
        ("/srv/data/deep/store", "nfs4"),
        ("/srv/data/local", "xfs"),
        ("/srv/with space", "cifs"),
        ("/srv/database", "ext4"),
        ("/srv/caf\u00e9/deep", "afs"),
    ],
)
def test_knows_the_kind_of_a_file_system(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "30 22 0:5 / /srv/data rw,relatime shared:2 master:1 - ext3 /dev/vdb rw\n"
        "31 22 0:6 / /srv/data rw,relatime - nfs4 server:/export rw,vers=4.2\n"
        "32 31 0:7 / /srv/data/local rw - xfs /dev/vdc rw\n"
        "33 22 0:8 / /srv/with\\040space rw - cifs //server/share rw\n"
        "34 22 0:9 / /srv/caf\\303\\251 rw - afs cell rw\n"
    )

    assert file_system(Path(path), mounts) == kind


def test_knows_no_kind_where_the_system_does_not_say(tmp_path: Path) -> None:
    assert file_system(tmp_path, tmp_path / "none") is None
    assert file_system(Path("/proc/self")) == "proc"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mark a file immutable")
def test_what_cannot_be_removed_fails_nobody(store: Store) -> None:
    held = store.directory.root / "trash/held"
    held.mkdir()
    (held / "file").touch()
    subprocess.run(["chattr", "+i", held / "file"], check=True)
    try:
        with store.directory.shared():
            assert (held / "file").exists()
    finally:
        subprocess.run(["chattr", "-i", held / "file"], check=True)

    store.directory.empty_trash()

    assert not held.exists()
