"""Many processes in one store: nothing is lost, fetched or unpacked twice, or waited for ever (CLI-04)."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from client.api import Client
from client.clock import Deadline
from client.progress import Event, Unpacked
from client.store import collection
from client.store.check import Check
from client.store.directory import Directory
from client.store.store import Store
from client.store.unpacking import LayerToUnpack, Unpacker, default_options, layers_of
from registry.app import create_app
from registry.settings import Settings
from storage.oci.digest import Digest
from storage.oci.errors import ManifestUnknown
from storage.oci.image_config import ImageConfig
from storage.oci.manifest import Manifest
from storage.oci.names import ImageReference
from tests.client.store.layouts import BASE, TOP, Layout, layer
from tests.client.store.processes import (
    OTHER,
    busy_layer,
    done,
    leftovers,
    make_stores,
    name_until,
    prune_until,
    pull_and_tell,
    started,
    stop_event,
    telling,
)
from tests.client.store.pulling import NAME, pull
from tests.client.unpack.archives import file
from tests.registry.conftest import serving
from tests.storage.small_disk import small_disk

PATIENCE = 20


def layers(store: Store, layout: Layout, *tars: bytes) -> list[LayerToUnpack]:
    """Fetch an image without unpacking it; return its layers."""
    made = layout.image(*tars)
    for digest in (layout.root / "blobs/sha256").iterdir():
        store.write_blob(digest.read_bytes(), Digest("sha256", digest.name))
    manifest = Manifest.parse(made.media_type, store.directory.blob(made.digest).read_bytes(), "sha256")
    assert manifest.config is not None
    return layers_of(manifest, ImageConfig.parse(store.read_blob(manifest.config.digest)))


def unpack_at_once(
    store: Store, *wanted: tuple[Sequence[LayerToUnpack], LayerToUnpack]
) -> tuple[list[BaseException | None], list[Digest]]:
    """Want layers in several processes, each of which has one of them before any goes on to the rest.

    They are threads: the locks are of open files, not of processes. Returns how each ended, and what was
    unpacked.
    """
    deadline = Deadline.after(PATIENCE)
    begun = threading.Barrier(len(wanted))
    unpacked: list[Digest] = []

    def run(layers: Sequence[LayerToUnpack], first: LayerToUnpack) -> None:
        is_there = threading.Event()

        def tell(event: Event) -> None:
            if isinstance(event, Unpacked):
                unpacked.append(event.digest)
                is_there.set()

        directory = Directory(store.directory.root)
        with Unpacker(directory, default_options(), tell, deadline) as unpacker:
            unpacker.add(layers)
            unpacker.blob_is_there(first.blob.digest)
            assert is_there.wait(PATIENCE)
            begun.wait(PATIENCE)
            unpacker.finish()

    with ThreadPoolExecutor(len(wanted)) as pool:
        futures = [pool.submit(run, *each) for each in wanted]
        return [future.exception() for future in futures], unpacked


def test_cli_04_two_images_over_one_base_whose_layers_come_in_opposite_orders(
    store: Store, layout: Layout
) -> None:
    middle = layer(file("middle", b"1"))
    first = layers(store, layout, BASE, middle, TOP)
    second = layers(store, layout, BASE, middle, layer(file("other", b"2")))

    errors, unpacked = unpack_at_once(store, (first, first[0]), (second, second[1]))

    assert errors == [None, None]
    assert len(store.layers.all()) == len(unpacked) == 4


def test_cli_04_three_processes_each_have_what_another_needs(store: Store, layout: Layout) -> None:
    chain = layers(store, layout, *(layer(file(f"{number}", b"1")) for number in range(6)))

    errors, unpacked = unpack_at_once(store, (chain, chain[1]), (chain, chain[4]), (chain, chain[2]))

    assert errors == [None, None, None]
    assert len(store.layers.all()) == len(unpacked) == 6


def test_cli_04_two_platforms_that_are_wanted_in_opposite_orders(store: Store, layout: Layout) -> None:
    one, two = layers(store, layout, BASE), layers(store, layout, layer(file("two", b"2")))

    errors, unpacked = unpack_at_once(store, ([*one, *two], two[0]), ([*two, *one], one[0]))

    assert errors == [None, None]
    assert len(unpacked) == 2


def test_cli_04_an_image_that_got_a_name_while_a_prune_waited_stays(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE))
    made = pull(store, layout)
    store.untag(NAME)
    with ThreadPoolExecutor(1) as pool:
        with store.directory.shared():
            pruning = pool.submit(prune_waiting, store.directory.root)
            store.tag(made.digest, ImageReference.parse(OTHER))

        assert pruning.result(PATIENCE).images == ()
    assert store.find(OTHER) == made.digest


def prune_waiting(root: Path) -> collection.Garbage:
    with Store(root) as store:
        return collection.collect(store, choose=collection.unwanted, wait=True)


def test_cli_04_a_store_is_made_by_several_at_once() -> None:
    """Of several one in a hundred failed to turn the database to WAL."""
    with small_disk(192) as disk:
        makers = [started(make_stores, disk, 100) for _ in range(4)]

        assert [done(maker) for maker in makers] == [0] * 4


@pytest.mark.parametrize("change", ["tag", "lease"])
def test_a_name_for_an_image_that_was_collected_is_refused(store: Store, layout: Layout, change: str) -> None:
    digest = layout.image(BASE).digest
    changes: dict[str, Callable[[], None]] = {
        "tag": lambda: store.tag(digest, NAME),
        "lease": lambda: store.lease(digest, "mounted"),
    }

    with pytest.raises(ManifestUnknown, match="no manifest"):
        changes[change]()


class Counting:
    """Counts the GETs of blobs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.gets: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and "/blobs/" in scope["path"]:
            self.gets[scope["path"].rpartition("/")[2]] += 1
        await self._app(scope, receive, send)


def crowd(disk: Path) -> None:
    """Let six processes pull three images over one base, beside others that prune and name."""
    layout, own = Layout(disk / "layout"), Layout(disk / "own")
    base = [busy_layer(1), busy_layer(2, 1)]
    tops = {"one": [busy_layer(3, 2)], "two": [busy_layer(4, 2), busy_layer(5, 4)], "three": [busy_layer(6)]}
    for name, top in tops.items():
        layout.tag(layout.image(*base, *top), name)
    own.tag(own.image(busy_layer(7), busy_layer(8, 7)))
    settings = Settings(data=disk / "registry", access_log=False, collect_every_seconds=0, free_space_floor=0)
    counting = Counting(create_app(settings))
    root = disk / "store"
    with serving(settings, counting) as url:
        repository = f"{url.removeprefix('http://')}/team/app"
        with Client(disk / "unused") as client:
            for name in tops:
                client.copy(f"oci:{layout.root}:{name}", f"{repository}:{name}")
        stop = stop_event()
        beside = [telling(prune_until, root, stop), telling(name_until, root, own.root, stop)]
        pulls = [telling(pull_and_tell, root, f"{repository}:{name}") for name in [*tops, *tops]]
        codes = [done(process) for process, _ in pulls]
        stop.set()
        codes += [done(process) for process, _ in beside]
    assert codes == [0] * 8
    pruned, named = (told.recv() for _, told in beside)
    assert named > 0
    assert pruned >= 0
    # The configurations too.
    assert set(counting.gets.values()) == {1}
    assert len(counting.gets) == 6 + 3
    unpacked = [digest for _, told in pulls for digest in told.recv()]
    assert sorted(unpacked) == sorted(set(unpacked))
    assert len(unpacked) == 6
    with Store(root) as store:
        assert Check(store).problems() == []
        collection.collect(store, choose=collection.unwanted, partial_seconds=0)
        assert leftovers(store) == []
        assert len(store.layers.all()) == 6
        assert collection.plan(store, partial_seconds=0).pieces == ()


def test_cli_04_six_pulls_beside_prune_and_names(tmp_path: Path) -> None:
    with small_disk(192) as disk:
        crowd(disk)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_cli_04_six_pulls_beside_prune_and_names_50_times() -> None:
    for _ in range(50):
        with small_disk(192) as disk:
            crowd(disk)
