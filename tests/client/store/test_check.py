"""Check and repair: every kind of damage is found, and healed from where it can be."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from client.places.place import Place
from client.repair import repair
from client.store.check import Check, Problem
from client.store.errors import ImageInUse
from client.store.image import Image
from client.store.store import Store
from storage.oci.errors import ManifestUnknown
from storage.oci.names import ImageReference
from tests.client.store.layouts import BASE, TOP, Layout, layer
from tests.client.store.pulling import NAME, pulled
from tests.client.unpack.archives import directory, file, link


@pytest.fixture
def image(store: Store, layout: Layout) -> Image:
    passing = layer(directory("var/", mode=0o1777), file("var/a", b"1"), link("var/b", "var/a"))
    layout.tag(layout.image(BASE, passing, layer(file("var/c", b"3")), TOP))
    return pulled(store, layout)


def nowhere(_name: ImageReference) -> Place:
    raise ManifestUnknown("nothing is there any more")


def problems(store: Store) -> list[Problem]:
    return Check(store).problems()


def blob(store: Store, image: Image) -> Path:
    return store.directory.blob(image.manifest.layers[0].digest)


def test_a_whole_store_has_no_problems(store: Store, image: Image) -> None:
    assert problems(store) == []
    assert Check(store, quick=True).problems() == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    before = path.stat().st_mtime_ns
    path.write_bytes(data)
    os.utime(path, ns=(before, before))


DAMAGES: dict[str, tuple[str, Callable[[Store, Image], object]]] = {
    "a-blob-is-lost": ("is missing", lambda store, image: blob(store, image).unlink()),
    "a-blob-is-cut": ("bytes instead of", lambda store, image: os.truncate(blob(store, image), 7)),
    "a-blob-has-another-bit": ("other bytes", lambda store, image: flip(blob(store, image))),
    "the-manifest-is-lost": (
        "is missing",
        lambda store, image: store.directory.blob(image.manifest.digest).unlink(),
    ),
    "the-configuration-is-empty": (
        "instead of",
        lambda store, image: os.truncate(store.directory.blob(image.id), 0),
    ),
}

CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "content": ("other content: 'etc/hostname'", lambda diff: flip(diff / "etc/hostname")),
    "mode": ("another mode: 'etc/passwd'", lambda diff: (diff / "etc/passwd").chmod(0o777)),
    "time": ("another mtime: 'etc/passwd'", lambda diff: os.utime(diff / "etc/passwd", (1, 1))),
    "lost": ("something is missing: 'etc/passwd'", lambda diff: (diff / "etc/passwd").unlink()),
    "added": ("another mtime: 'etc'", lambda diff: (diff / "etc/new").touch()),
    "xattr": ("other xattrs", lambda diff: os.setxattr(diff / "etc/passwd", "user.x", b"1")),
}


@pytest.mark.parametrize(("what", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_lost_is_found_and_fetched_again(
    store: Store, layout: Layout, image: Image, what: str, damage: Callable[[Store, Image], object]
) -> None:
    damage(store, image)

    (found,) = problems(store)
    assert what in found.what
    assert repair(store, [found], nowhere) != []
    assert problems(store) != []
    assert repair(store, problems(store), lambda _name: layout.place()) == []
    assert problems(store) == []
    assert store.stack(store.image(str(NAME)))


@pytest.mark.parametrize(("what", "change"), CHANGES.values(), ids=CHANGES)
def test_a_layer_that_was_changed_is_unpacked_again_from_its_blob(
    store: Store, image: Image, what: str, change: Callable[[Path], object]
) -> None:
    base = store.stack(image)[-1]
    before = (base / "etc").stat().st_mtime_ns
    change(base)
    if "mtime: 'etc'" not in what:
        os.utime(base / "etc", ns=(before, before))

    found = problems(store)
    assert (found[0].kind, what in found[0].what) == ("layer", True), found
    assert repair(store, found, nowhere) == []
    assert problems(store) == []


def test_a_lost_layer_is_found_by_a_quick_look(store: Store, image: Image) -> None:
    shutil.rmtree(store.directory.layer(image.chain[1]))

    (found,) = Check(store, quick=True).problems()
    assert str(found) == f"layer {image.chain[1]} is missing"
    assert repair(store, [found], nowhere) == []
    assert problems(store) == []


def test_a_mounted_layer_is_not_taken_away(store: Store, image: Image) -> None:
    store.lease(image.manifest.digest, "mounted at /mnt")
    flip(store.stack(image)[-1] / "etc/hostname")

    with pytest.raises(ImageInUse, match="unmount it first"):
        repair(store, problems(store), nowhere)

    assert (store.stack(image)[-1] / "etc/hostname").exists()


def test_a_mounted_layer_of_an_image_of_an_index_is_not_taken_away(store: Store, layout: Layout) -> None:
    """A lease is on what was pulled."""
    layout.tag(layout.index(layout.image(BASE)))
    image = pulled(store, layout)
    store.lease(image.root, "mounted at /mnt")
    flip(store.stack(image)[-1] / "etc/hostname")

    with pytest.raises(ImageInUse, match="unmount it first"):
        repair(store, problems(store), nowhere)
