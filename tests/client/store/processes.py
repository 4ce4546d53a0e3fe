"""What other processes do in a store under test, and what has to hold when they were killed at it."""

import json
import multiprocessing
import os
import random
import shutil
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as Stop
from pathlib import Path
from typing import Any

from client.api import Client
from client.places.oci_layout import OciLayout
from client.places.place import RefName
from client.progress import Event, Progress, Unpacked, silent
from client.pull import Pull, PullOptions
from client.remove import remove, sweep
from client.repair import repair
from client.store import collection, flat
from client.store.check import Check
from client.store.errors import StoreBusy
from client.store.store import Store
from client.store.trees import difference
from client.store.unpacking import default_options
from storage.oci.digest import Digest
from storage.oci.names import ImageReference
from tests.client.store.layouts import Layout, layer
from tests.client.unpack.archives import directory, file, link, symlink

NAME = "registry.example/team/app:v1"
OTHER = "registry.example/team/other:v1"

# A server from which processes are forked that have imported all this already.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def started(work: Any, *arguments: object) -> BaseProcess:
    process = _CONTEXT.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def telling(work: Any, *arguments: object) -> tuple[BaseProcess, Connection]:
    """Start a process that sends what it found when it ends well."""
    ours, theirs = _CONTEXT.Pipe()
    process = started(work, *arguments, theirs)
    theirs.close()
    return process, ours


def pipe() -> tuple[Connection, Connection]:
    return _CONTEXT.Pipe()


def stop_event() -> Stop:
    return _CONTEXT.Event()


def waiting(work: Any, *arguments: object) -> tuple[BaseProcess, Connection]:
    """Start a process that begins its work when it is sent something: there is time to trace it."""
    ours, theirs = _CONTEXT.Pipe()
    process = started(_when_told, theirs, work, *arguments)
    theirs.close()
    ours.recv()
    return process, ours


def _when_told(begin: Connection, work: Any, *arguments: object) -> None:
    begin.send(None)
    begin.recv()
    work(*arguments)
    # At once: calls that fail or kill are the work's own, not those of what measures coverage at an end.
    os._exit(0)


def done(process: BaseProcess, seconds: float = 30) -> int | None:
    """Wait for a process; None for one that is stuck, which is ended."""
    process.join(seconds)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code


# What the processes do.


def make_stores(root: Path, count: int) -> None:
    for number in range(count):
        Store(root / str(number)).close()


def pull_layout(root: Path, layout: Path, name: str = NAME, ref: str = "latest") -> None:
    with Store(root) as store:
        take(store, layout, name, ref)


def take(store: Store, layout: Path, name: str = NAME, ref: str = "latest", told: Progress = silent) -> None:
    Pull(store, OciLayout(layout), PullOptions(), told).run(RefName(ref), [ImageReference.parse(name)])


def pull_from(root: Path, reference: str) -> None:
    with Client(root) as client:
        client.pull(reference)


def try_to_pull(root: Path, layout: Path, ours: Connection) -> None:
    """Pull, and send the error, if there is one."""
    try:
        pull_layout(root, layout)
    except Exception as error:
        ours.send(error)
    else:
        ours.send(None)


def pull_and_tell(root: Path, reference: str, ours: Connection) -> None:
    """Pull, and send which layers this process unpacked itself."""
    unpacked: list[str] = []

    def tell(event: Event) -> None:
        if isinstance(event, Unpacked):
            unpacked.append(str(event.digest))

    with Client(root, progress=tell) as client:
        client.pull(reference)
    ours.send(unpacked)


def prune_until(root: Path, stop: Stop, ours: Connection) -> None:
    """Prune again and again, and send how often nobody else was at work."""
    pruned = 0
    while not stop.is_set():
        with Store(root) as store, suppress(StoreBusy):
            collection.collect(store, choose=collection.unwanted, wait=pruned % 2 == 1)
            pruned += 1
    ours.send(pruned)


def name_until(root: Path, layout: Path, stop: Stop, ours: Connection) -> None:
    """Pull an image of our own, name it, and take the names away, again and again; send how often."""
    rounds = 0
    while not stop.is_set():
        with Store(root) as store:
            take(store, layout, "own.example/a:v1")
            with store.directory.shared():
                store.tag(store.find("own.example/a:v1"), ImageReference.parse("own.example/b:v1"))
            remove(store, "own.example/a:v1")
            remove(store, "own.example/b:v1")
            sweep(store)
            rounds += 1
    ours.send(rounds)


def collect(root: Path) -> None:
    with Store(root) as store:
        collection.collect(store, choose=collection.unwanted, partial_seconds=0)


def remove_and_collect(root: Path, name: str) -> None:
    with Store(root) as store:
        remove(store, name)
        collection.collect(store, wait=True)


def tag(root: Path, source: str, name: str) -> None:
    with Store(root) as store, store.directory.shared():
        store.tag(store.find(source), ImageReference.parse(name))


def check_and_repair(root: Path, layout: Path) -> None:
    with Store(root) as store:
        repair(store, Check(store).problems(), lambda _name: OciLayout(layout))


def unpack_flat(root: Path, name: str, target: Path) -> None:
    with Store(root) as store, store.directory.shared():
        flat.unpack(store, store.image(name), target, default_options())


# What they work on.


def busy_layer(seed: int, below: int | None = None, files: int = 30) -> bytes:
    """A layer with something of everything, and with some bytes that do not compress."""
    chance = random.Random(seed)
    entries = [directory(f"d{seed}/", mode=0o1775), symlink(f"d{seed}/link", "0")]
    entries += [
        file(f"d{seed}/{number}", chance.randbytes(chance.randrange(3000)), mode=0o640)
        for number in range(files)
    ]
    entries += [link(f"d{seed}/hard", f"d{seed}/1"), file(f"d{seed}/big", chance.randbytes(200_000))]
    if below is not None:
        # In a directory of the layer below, which this one only passes through.
        entries += [file(f"d{below}/from-above", b"1"), file(f"d{below}/.wh.0")]
    return layer(*entries)


class Original:
    """Two images over one base, as a layout and as a store that nobody disturbed."""

    name = ImageReference.parse(NAME)
    other = ImageReference.parse(OTHER)

    def __init__(self, directory: Path) -> None:
        self.layout = Layout(directory / "original-layout")
        base = [busy_layer(1), busy_layer(2, 1)]
        self.layout.tag(self.layout.image(*base, busy_layer(3, 2)))
        self.layout.tag(self.layout.image(*base, busy_layer(4, 2), busy_layer(5, 4)), "other")
        self.root = directory / "original-store"
        with Store(self.root) as store:
            take(store, self.layout.root)
            take(store, self.layout.root, OTHER, "other")

    def copied(self, target: Path) -> Path:
        """Make a store that has both images."""
        shutil.rmtree(target, ignore_errors=True)
        with Store(target) as store:
            take(store, self.layout.root)
            take(store, self.layout.root, OTHER, "other")
        return target

    # What has to hold.

    def assert_sound(self, root: Path) -> None:
        """Hold a store that somebody was killed in against what it promises, before anything mends it."""
        with Store(root) as store:
            assert Check(store).problems() == []
            self._assert_whole(store)
            assert_index_is_whole(store)

    def assert_works(self, root: Path) -> None:
        """Pull into it, look at what came, and collect: nothing is left that somebody made halfway."""
        with Store(root) as store:
            take(store, self.layout.root)
            assert len(store.stack(store.image(NAME))) == 3
            self._assert_whole(store)
            assert_index_is_whole(store)
            collection.collect(store, partial_seconds=0)
            assert leftovers(store) == []
            assert Check(store).problems() == []
            assert collection.plan(store, partial_seconds=0).pieces == ()

    def _assert_whole(self, store: Store) -> None:
        """All that has a name is what its name says, whether an image needs it or not."""
        for path in store.directory.blobs.glob("*/*"):
            assert Digest.of(path.read_bytes()).hex == path.name
        for name in store.layers.all():
            ours, theirs = self.root / "layers" / name, store.directory.layers / name
            assert difference(ours / "diff", theirs / "diff") is None, name
            assert (ours / "layer.json").read_bytes() == (theirs / "layer.json").read_bytes()


def assert_index_is_whole(store: Store) -> None:
    """What index.json names is there, down to the last blob."""
    if not store.directory.index_file.exists():
        return
    for entry in json.loads(store.directory.index_file.read_bytes())["manifests"]:
        _assert_is_there(store, entry)


def _assert_is_there(store: Store, descriptor: dict[str, Any]) -> None:
    data = store.directory.blob(Digest.parse(descriptor["digest"])).read_bytes()
    assert len(data) == descriptor["size"]
    document = json.loads(data) if descriptor["mediaType"].endswith("json") else {}
    for part in [*document.get("layers", []), *([document["config"]] if "layers" in document else [])]:
        _assert_is_there(store, part)


def leftovers(store: Store) -> list[str]:
    root = store.directory.root
    return [
        str(path.relative_to(root))
        for name in ("tmp", "trash", "partial")
        for path in (root / name).iterdir()
    ]
