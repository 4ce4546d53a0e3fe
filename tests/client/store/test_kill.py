"""SIGKILL anywhere: what has a name is whole, the same again succeeds, nothing half made stays (CLI-03)."""

import itertools
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from client.api import Client
from client.store import collection, rows
from client.store.store import Store
from client.store.trees import difference
from registry.settings import Settings
from storage.oci.names import ImageReference
from tests.client.store.processes import (
    NAME,
    OTHER,
    Original,
    assert_index_is_whole,
    check_and_repair,
    collect,
    done,
    leftovers,
    pull_from,
    pull_layout,
    remove_and_collect,
    started,
    tag,
    take,
    unpack_flat,
    waiting,
)
from tests.faults.tracing import at_call, needs_tracer, traced
from tests.registry.conftest import serving
from tests.storage.small_disk import small_disk

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A kill leaves what was written, synced or not: so a file system whose syncs cost nothing will do."""
    with small_disk(192) as disk:
        yield disk


@pytest.fixture(scope="module")
def original(disk: Path) -> Original:
    return Original(disk)


@pytest.fixture(scope="module")
def remote(original: Original, disk: Path) -> Iterator[str]:
    """The image at our registry."""
    settings = Settings(data=disk / "registry", access_log=False, collect_every_seconds=0, free_space_floor=0)
    with serving(settings) as url:
        reference = f"{url.removeprefix('http://')}/team/app:v1"
        with Client(disk / "unused") as client:
            client.copy(f"oci:{original.layout.root}:latest", reference)
        yield reference


# Random moments.


def kill_rounds(root: Path, original: Original, rounds: int, begin: Callable[[], BaseProcess]) -> None:
    """Kill, at random moments, as many pulls as there are rounds."""
    chance = random.Random()
    seconds = undisturbed(root, begin)
    while rounds:
        process = begin()
        # The moment is the point: there is no event to wait for.
        threading.Event().wait(chance.uniform(0, seconds))
        process.kill()
        rounds -= done(process) == KILLED
        original.assert_sound(root)
        begin_from(chance.choice(["nothing", "garbage", "whole", "what-is-there"]), root, original)


def undisturbed(root: Path, begin: Callable[[], BaseProcess]) -> float:
    """Return in how many seconds it is done from nothing, the processes' server having started."""
    seconds = []
    for _ in range(4):
        shutil.rmtree(root, ignore_errors=True)
        before = time.monotonic()
        assert done(begin()) == 0
        seconds.append(time.monotonic() - before)
    return min(seconds)


def begin_from(what: str, root: Path, original: Original) -> None:
    """See that the store works; but for `what-is-there`, which the next kill finds as it is."""
    if what == "what-is-there":
        return
    original.assert_works(root)
    if what == "garbage":
        with Store(root) as store:
            store.forget(store.find(NAME))
    elif what == "nothing":
        shutil.rmtree(root)


def kills_of_pulls(root: Path, original: Original, rounds: int) -> None:
    kill_rounds(root, original, rounds, lambda: started(pull_layout, root, original.layout.root))
    original.assert_works(root)


def kills_of_remote_pulls(root: Path, original: Original, reference: str, rounds: int) -> None:
    kill_rounds(root, original, rounds, lambda: started(pull_from, root, reference))
    assert done(started(pull_from, root, reference)) == 0
    original.assert_works(root)


def test_cli_03_pulls_from_a_layout_survive_20_kills(disk: Path, original: Original) -> None:
    kills_of_pulls(disk / "killed", original, 20)


def test_cli_03_pulls_from_a_registry_survive_20_kills(disk: Path, original: Original, remote: str) -> None:
    kills_of_remote_pulls(disk / "killed-remote", original, remote, 20)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_cli_03_pulls_survive_200_kills(disk: Path, original: Original, remote: str) -> None:
    kills_of_pulls(disk / "killed", original, 200)
    kills_of_remote_pulls(disk / "killed-remote", original, remote, 200)


# Every call.

# The nth is counted for each thread.
CALLS = {
    "names": "rename,renameat,renameat2,mkdir,mkdirat,link,linkat",
    "removals": "unlink,unlinkat,rmdir",
    "syncs": "fsync,syncfs",
    # Its thread has few calls of its own: this needs a path beside it.
    "database": "pwrite64,fsync,ftruncate",
    "locks": "flock",
}


@dataclass(frozen=True)
class Scene:
    """Something that happens in a store with two images, after `prepare`."""

    work: Any
    arguments: Callable[[Path, Original], tuple[object, ...]] = lambda root, original: ()
    prepare: Callable[[Store], object] = lambda store: None
    after: Callable[[Path, Original], None] = lambda root, original: original.assert_sound(root)

    def kill_at_every(self, calls: str, step: int, stage: Path, original: Original) -> int:
        """Kill it at the nth of these calls of a thread, until it lives; return how often."""
        root = stage / "store"
        before = self._stored(stage, original)
        for kills in itertools.count():
            shutil.rmtree(root, ignore_errors=True)
            shutil.rmtree(stage / "flat", ignore_errors=True)
            subprocess.run(["cp", "-a", before, root], check=True)
            process, begin = waiting(self.work, root, *self.arguments(root, original))
            assert process.pid is not None
            only = ["-P", str(root / "state.db-wal")] if calls == CALLS["database"] else []
            fault = at_call(calls, 1 + kills * step, "signal=KILL")
            with traced(process.pid, stage / "trace", *only, *fault):
                begin.send(None)
                code = done(process)
            self.after(root, original)
            original.assert_works(root)
            if code == 0:
                return kills
            assert code == KILLED
        raise AssertionError

    def _stored(self, stage: Path, original: Original) -> Path:
        before = stage / "before"
        shutil.rmtree(before, ignore_errors=True)
        with Store(before) as store:
            if self.work is not pull_layout:
                take(store, original.layout.root)
                take(store, original.layout.root, OTHER, "other")
            self.prepare(store)
        return before


def damage(store: Store) -> None:
    """Change a layer of one image, and a blob that only the other has."""
    (store.stack(store.image(NAME))[0] / "d3/big").write_bytes(b"changed")
    store.directory.blob(store.image(OTHER).manifest.layers[-1].digest).write_bytes(b"changed")


def assert_repairable(root: Path, original: Original) -> None:
    check_and_repair(root, original.layout.root)
    original.assert_sound(root)


def assert_flat_or_none(root: Path, original: Original) -> None:
    original.assert_sound(root)
    target = root.parent / "flat"
    if target.exists():
        expected = root.parent / "expected"
        unpack_flat(original.root, NAME, expected)
        assert difference(expected, target) is None
        shutil.rmtree(expected)


SCENES = {
    "pull": Scene(pull_layout, lambda _, original: (original.layout.root,)),
    "collect": Scene(collect, prepare=lambda store: store.untag(ImageReference.parse(OTHER))),
    "remove": Scene(remove_and_collect, lambda *_: (OTHER,)),
    "tag": Scene(tag, lambda *_: (NAME, "registry.example/new:v1")),
    "repair": Scene(
        check_and_repair, lambda _, original: (original.layout.root,), damage, after=assert_repairable
    ),
    "flat": Scene(unpack_flat, lambda root, _: (NAME, root.parent / "flat"), after=assert_flat_or_none),
}


@needs_tracer
@pytest.mark.parametrize(
    ("scene", "calls", "step"),
    [
        ("pull", "names", 7),
        ("pull", "syncs", 7),
        ("pull", "database", 4),
        ("collect", "names", 5),
        ("collect", "removals", 17),
        ("collect", "database", 5),
        ("remove", "names", 5),
        ("tag", "names", 2),
        ("repair", "names", 9),
        ("flat", "names", 1),
    ],
)
def test_tar_102_survives_a_kill_at_a_call(
    disk: Path, original: Original, scene: str, calls: str, step: int
) -> None:
    assert SCENES[scene].kill_at_every(CALLS[calls], step, disk, original) > 0


@needs_tracer
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize("scene", SCENES)
def test_tar_102_survives_a_kill_at_any_call(disk: Path, original: Original, scene: str, calls: str) -> None:
    SCENES[scene].kill_at_every(CALLS[calls], 1, disk, original)


def test_cli_03_index_json_never_names_what_a_collection_removed(disk: Path, original: Original) -> None:
    """A process may have died after its rows, before it wrote the index."""
    with Store(original.copied(disk / "index")) as store:
        digest = store.find(OTHER)
        store.database.transaction(lambda connection: rows.remove_image(connection, digest))

        collection.collect(store)

        assert_index_is_whole(store)


def test_cli_03_a_collection_removes_what_dead_processes_left(disk: Path, original: Original) -> None:
    with Store(original.copied(disk / "leftovers")) as store:
        (store.directory.root / "tmp/dead/diff/deep").mkdir(parents=True)
        (store.directory.root / "trash/dead").write_bytes(b"1")

        collection.collect(store)

        assert leftovers(store) == []


def test_cli_03_a_pull_brings_index_json_up_to_date(disk: Path, original: Original) -> None:
    with Store(original.copied(disk / "index")) as store:
        before = store.directory.index_file.read_bytes()
        store.directory.index_file.write_bytes(b"{}")

        take(store, original.layout.root)

        assert store.directory.index_file.read_bytes() == before
