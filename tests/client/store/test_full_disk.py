"""A disk that fills at any moment: work fails cleanly, and succeeds when there is room (CLI-04, CRASH-20)."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import client.store
from client.cli.errors import NO_SPACE, exit_code
from client.store import collection, flat
from client.store.check import Check
from client.store.store import Store
from client.store.unpacking import default_options
from client.store.usage import disk_bytes
from client.unpack.errors import NoSpace, UnpackError
from storage.oci.errors import InsufficientStorage, RegistryError
from storage.oci.names import ImageReference
from tests.client.store.processes import (
    NAME,
    OTHER,
    Original,
    done,
    leftovers,
    pipe,
    take,
    try_to_pull,
    waiting,
)
from tests.faults.tracing import at_call, needs_tracer, traced
from tests.storage.small_disk import small_disk

KIB = 1024


@pytest.fixture(scope="module")
def original() -> Iterator[Original]:
    with small_disk(64) as disk:
        yield Original(disk)


def free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def taken(store: Store) -> int:
    """What the store takes, but for the database, whose log grows as it is used."""
    root = store.directory.root
    return sum(disk_bytes(path) for path in root.iterdir() if not path.name.startswith("state.db"))


def leave(disk: Path, size: int) -> None:
    """Take all of the room but `size` bytes."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free(disk) - size)


@contextmanager
def refusals(found: list[bool]) -> Iterator[None]:
    """Note whether the block was refused for want of space; anything else is a fault."""
    before = len(found)
    with suppress(RegistryError, UnpackError), raising_for_space():
        found.append(True)
        yield
        found[before] = False


@contextmanager
def raising_for_space() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if exit_code(error) != NO_SPACE or isinstance(error, OSError):
            raise AssertionError(repr(error)) from error
        raise


def test_crash_20_a_pull_on_a_disk_that_fills_at_any_moment(original: Original) -> None:
    refused: list[bool] = []
    with small_disk(16) as disk, Store(disk / "store") as store:
        take(store, original.layout.root, OTHER, "other")
        before = taken(store)
        for room in range(4 * KIB, 2000 * KIB, 90 * KIB):
            leave(disk, room)
            with refusals(refused):
                take(store, original.layout.root)
            assert (store.find_name(original.name) is None) == refused[-1]
            # The blobs that came are kept for the next time.
            assert [path for path in leftovers(store) if not path.startswith("partial")] == []
            (disk / "ballast").unlink()
            original.assert_sound(store.directory.root)
            original.assert_works(store.directory.root)
            collection.collect(store, [store.find(NAME)], partial_seconds=0)
            assert taken(store) == before
    assert sum(refused) > 6
    assert not refused[-1]


def test_crash_20_a_prune_gives_back_what_a_refused_pull_took(original: Original) -> None:
    with small_disk(16) as disk, Store(disk / "store") as store:
        before = taken(store)
        leave(disk, 1000 * KIB)
        with pytest.raises((InsufficientStorage, NoSpace)):
            take(store, original.layout.root)
        assert taken(store) > before + 400 * KIB

        collection.collect(store, partial_seconds=0)

        assert taken(store) <= before + 4 * KIB, "but for index.json"


def test_crash_20_a_store_opens_and_prunes_with_very_little_room(original: Original) -> None:
    with small_disk(16) as disk:
        with Store(disk / "store") as store:
            take(store, original.layout.root, OTHER, "other")
            take(store, original.layout.root)
            store.untag(original.other)
        leave(disk, 128 * KIB)
        with Store(disk / "store") as store:
            collection.collect(store, choose=collection.unwanted)

            assert free(disk) > 400 * KIB
        original.assert_works(disk / "store")


def test_crash_20_a_full_disk_under_an_open_store_says_so(original: Original) -> None:
    refused: list[bool] = []
    with small_disk(8) as disk:
        with Store(disk / "store") as store:
            take(store, original.layout.root)
        for room in range(0, 120 * KIB, 4 * KIB):
            leave(disk, room)
            with refusals(refused), Store(disk / "store") as store:
                store.tag(store.find(NAME), ImageReference.parse(f"registry.example/{room}:v1"))
        assert True in refused
        assert not refused[-1]
        (disk / "ballast").unlink()
        original.assert_works(disk / "store")


def test_crash_20_a_check_on_a_full_disk_takes_no_layer_for_damaged(original: Original) -> None:
    with small_disk(16) as disk, Store(disk / "store") as store:
        take(store, original.layout.root)
        leave(disk, 60 * KIB)

        with pytest.raises((InsufficientStorage, NoSpace)):
            Check(store).problems()


def test_crash_20_a_tree_is_whole_or_not_there(original: Original) -> None:
    refused: list[bool] = []
    with small_disk(16) as disk, Store(disk / "store") as store:
        take(store, original.layout.root)
        for room in range(4 * KIB, 1000 * KIB, 60 * KIB):
            leave(disk, room)
            with refusals(refused):
                flat.unpack(store, store.image(NAME), disk / "tree", default_options())
            if refused[-1]:
                assert sorted(os.listdir(disk)) == ["ballast", "store"]
            else:
                shutil.rmtree(disk / "tree")
    assert True in refused
    assert not refused[-1]


# What a failing disk says, and of which calls.
FAILURES = [
    pytest.param("syncfs", "EIO", 1, id="syncfs"),
    pytest.param("fsync", "EIO", 6, id="fsync"),
    pytest.param("pwrite64", "EIO", 3, id="write"),
    pytest.param("rename,renameat,renameat2", "EIO", 2, id="rename"),
    pytest.param("mkdir,mkdirat", "EDQUOT", 5, id="quota"),
    pytest.param("openat", "EMFILE", 9, id="files"),
]


@needs_tracer
@pytest.mark.parametrize(("calls", "error", "step"), FAILURES)
def test_crash_10_a_disk_that_fails_once_fails_one_pull(
    original: Original, calls: str, error: str, step: int
) -> None:
    failures = failed_at(original, calls, error, step)
    assert failures
    assert [each for each in failures if not is_ours(each)] == []
    if error == "EDQUOT":
        assert {exit_code(each) for each in failures} == {NO_SPACE}


@needs_tracer
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("calls", "error", "step"), FAILURES)
def test_crash_10_a_disk_that_fails_anywhere_fails_one_pull(
    original: Original, calls: str, error: str, step: int
) -> None:
    failures = failed_at(original, calls, error, 1)
    assert [each for each in failures if not is_ours(each)] == []


def is_ours(error: Exception) -> bool:
    """Whether an error is one of ours, or not of the store but of a file of the program or the system."""
    others = (str(Path(client.store.__file__).parent), "/proc/")
    is_others = isinstance(error, OSError) and str(error.filename).startswith(others)
    return is_others or isinstance(error, RegistryError | UnpackError)


def failed_at(original: Original, calls: str, error: str, step: int) -> list[Exception]:
    """Let a call of each thread fail, in new stores, until a pull makes too few of them."""
    failures: list[Exception] = []
    with small_disk(32) as disk:
        for nth in itertools.count(1, step):
            root = disk / str(nth)
            Store(root).close()
            ours, theirs = pipe()
            process, begin = waiting(try_to_pull, root, original.layout.root, theirs)
            assert process.pid is not None
            with traced(process.pid, disk / "trace", *at_call(calls, nth, f"error={error}")):
                begin.send(None)
                assert done(process) == 0
            original.assert_sound(root)
            original.assert_works(root)
            shutil.rmtree(root)
            if "(INJECTED)" not in (disk / "trace").read_text():
                return failures
            if (failure := ours.recv()) is not None:
                failures.append(failure)
    raise AssertionError
