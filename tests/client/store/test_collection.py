"""Collection: what goes, what stays, and who is waited for."""

import json
import os
from pathlib import Path

import pytest

from client.remove import remove
from client.store import collection
from client.store.errors import ImageUnknown, StoreBusy
from client.store.store import Store
from storage.oci.names import ImageReference
from tests.client.store.layouts import BASE, TOP, Layout, layer
from tests.client.store.pulling import NAME, pull
from tests.client.unpack.archives import file

OTHER = "registry.example/team/other:v1"


def files(store: Store) -> set[str]:
    root = store.directory.root
    found = [*root.glob("blobs/*/*"), *root.glob("layers/*"), *root.glob("partial/*"), *root.glob("trash/*")]
    return {str(path.relative_to(root)) for path in found}


def test_what_only_a_forgotten_image_had_goes(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE))
    pull(store, layout)
    before = files(store)
    layout.tag(layout.image(BASE, TOP))
    other = pull(store, layout, OTHER)

    garbage = collection.collect(store, [other.digest])

    assert files(store) == before
    assert sorted(piece.kind for piece in garbage.pieces) == ["blob", "blob", "blob", "layer"]
    assert garbage.bytes > 0
    assert store.image(str(NAME)).names
    with pytest.raises(ImageUnknown):
        store.image(OTHER)


def test_a_plan_says_the_same_and_changes_nothing(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, TOP))
    made = pull(store, layout)
    before = files(store)

    plan = collection.plan(store, [made.digest])

    assert files(store) == before
    assert store.image(str(NAME)).names
    collected = collection.collect(store, [made.digest])
    assert [piece.name for piece in collected.pieces] == [piece.name for piece in plan.pieces]
    assert files(store) == set()


def test_images_without_a_name_are_unwanted(store: Store, layout: Layout) -> None:
    old = layout.tag(layout.image(BASE))
    pull(store, layout)
    new = layout.tag(layout.image(BASE, TOP))
    pull(store, layout)

    assert collection.unwanted(store) == [old.digest]
    assert set(collection.unwanted(store, all_images=True)) == {old.digest, new.digest}
    assert collection.unwanted(store, all_images=True, before=0) == []


def test_what_is_in_use_stays(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE))
    made = pull(store, layout)
    store.lease(made.digest, "mounted at /mnt")
    store.untag(NAME)

    assert collection.unwanted(store, all_images=True) == []
    collection.collect(store, [made.digest])
    assert store.stack(store.image(str(made.digest)))

    store.end_lease("mounted at /mnt")
    collection.collect(store)
    assert files(store) == set()


def test_a_lease_ends_with_the_boot(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE))
    made = pull(store, layout)
    store.lease(made.digest, "mounted at /mnt")
    store.database.transaction(lambda connection: connection.execute("UPDATE lease SET boot = 'earlier'"))

    assert store.leases() == []
    collection.collect(store, [made.digest])
    assert files(store) == set()


def test_a_referrer_lives_as_long_as_its_subject(store: Store, layout: Layout) -> None:
    image = layout.image(BASE)
    layout.tag(image)
    made = pull(store, layout)
    document = json.loads((layout.root / f"blobs/sha256/{image.digest.hex}").read_bytes())
    document["subject"] = image.to_json()
    layout.tag(layout.blob(json.dumps(document).encode(), image.media_type))
    signature = pull(store, layout, OTHER)
    store.forget(signature.digest)

    collection.collect(store)
    assert store.has_manifest(signature.digest)

    collection.collect(store, [made.digest])
    assert files(store) == set()


def test_a_broken_pull_is_kept_for_some_days(store: Store) -> None:
    fresh, stale = store.directory.partial / "sha256-1.part", store.directory.partial / "sha256-2.part"
    fresh.write_bytes(b"1")
    stale.write_bytes(b"2")
    week = 7 * 24 * 3600
    os.utime(stale, (stale.stat().st_mtime - week,) * 2)

    collection.collect(store)
    assert files(store) == {"partial/sha256-1.part"}
    collection.collect(store, partial_seconds=0)
    assert files(store) == set()


def test_nothing_is_collected_while_somebody_is_at_work(store: Store, layout: Layout) -> None:
    with store.directory.shared(), pytest.raises(StoreBusy, match="at work"):
        collection.collect(store)


def test_what_a_dead_process_left_goes_and_what_a_live_one_makes_stays(store: Store) -> None:
    dead = store.directory.root / "tmp/dead"
    (dead / "diff/deep").mkdir(parents=True)
    (dead / "diff/deep").chmod(0)
    with store.directory.temporary() as alive:
        store.directory.recover()

        assert not dead.exists()
        assert alive.exists()


def test_a_tree_deeper_than_any_path_goes(store: Store, tmp_path: Path) -> None:
    here = os.getcwd()
    target = store.directory.root / "trash/deep"
    target.mkdir()
    try:
        os.chdir(target)
        for _ in range(1500):
            os.mkdir("directory")
            os.chdir("directory")
        Path("file").write_text("1")
    finally:
        os.chdir(here)

    store.directory.empty_trash()

    assert list((store.directory.root / "trash").iterdir()) == []


def test_removing_names_leaves_the_image_until_the_last(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, layer(file("x"))))
    made = pull(store, layout, str(NAME), OTHER)

    assert store.untag(ImageReference.parse(OTHER))
    assert not store.untag(ImageReference.parse(OTHER))
    assert store.names(made.digest) == (str(NAME),)


def test_an_image_of_an_index_is_removed_by_its_id(store: Store, layout: Layout) -> None:
    """Its ID leads to the image, and the names are of the index."""
    layout.tag(layout.index(layout.image(BASE)))
    pull(store, layout)

    removed = remove(store, store.image(str(NAME)).id.hex[:12])

    assert removed.names == (str(NAME),)
    assert store.all() == ([], [])
