"""Pulling into the store: what is there afterwards, and what is not after a failure."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from client.errors import ContentMismatch
from client.progress import Done, Event, Finished, Pulling, Unpacked
from client.pull import PullOptions
from client.store.errors import ImageIncomplete, ImageUnknown
from client.store.store import Store
from client.unpack.errors import UnpackError, VerificationFailed
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown, ManifestInvalid, ManifestUnknown
from tests.client.store.layouts import AMD64, ARM64, BASE, TOP, Layout, layer
from tests.client.store.pulling import NAME, pull, pulled
from tests.client.unpack.archives import directory, file, link, symlink


def test_an_image_is_there_by_name_digest_and_id(store: Store, layout: Layout) -> None:
    made = layout.tag(layout.image(BASE, TOP))

    result = pull(store, layout)

    assert (result.digest, result.is_new) == (made.digest, True)
    image = store.image(str(NAME))
    for text in (
        "registry.example/team/app:v1",
        f"registry.example/team/app@{made.digest}",
        str(made.digest),
        made.digest.hex[:12],
        str(image.id),
        image.id.hex[:12],
    ):
        assert store.image(text) == image, text
    assert image.names == (str(NAME),)
    assert image.content == len(b"base\nroot:x:0:0::/:/bin/sh\n#!/bin/sh\n")


def test_its_layers_are_in_overlay_form_uppermost_first(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, TOP))

    top, base = store.stack(pulled(store, layout))

    assert (base / "etc/hostname").read_bytes() == b"base\n"
    assert (top / "app/run").stat().st_mode & 0o777 == 0o755
    assert (top / "etc/hostname").is_char_device()


def test_a_directory_that_a_layer_only_passes_through_keeps_its_attributes(
    store: Store, layout: Layout
) -> None:
    base = layer(directory("tmp/", mode=0o1777))
    layout.tag(layout.image(base, layer(file("tmp/x"))))

    top, _ = store.stack(pulled(store, layout))

    assert (top / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_a_hard_link_may_lead_to_a_lower_layer(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, TOP, layer(link("app/hosts", "etc/passwd"))))

    top, *_ = store.stack(pulled(store, layout))

    assert (top / "app/hosts").read_bytes().startswith(b"root:")


def test_nothing_below_an_opaque_root_is_mounted(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, layer(file(".wh..wh..opq"), file("new", b"1"))))

    (only,) = store.stack(pulled(store, layout))

    assert [each.name for each in only.iterdir()] == ["new"]


def test_the_same_image_again_moves_nothing(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, TOP))
    pull(store, layout)
    events: list[Event] = []

    result = pull(store, layout, events=events)

    assert not result.is_new
    assert events == [Pulling(NAME), Done(NAME, result.digest, is_new=False)]


def test_another_name_for_the_same_image_moves_nothing(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, TOP))
    pull(store, layout, "one.example/app:v1")
    events: list[Event] = []

    assert pull(store, layout, "two.example/app:v1", events=events).is_new
    assert {event.how for event in events if isinstance(event, Finished)} == {"present"}
    assert not [event for event in events if isinstance(event, Unpacked)]
    assert store.image("two.example/app:v1").names == ("one.example/app:v1", "two.example/app:v1")


def test_layers_that_two_images_share_are_unpacked_once(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE))
    pull(store, layout, "one.example/app:v1")
    layout.tag(layout.image(BASE, TOP))
    events: list[Event] = []

    pull(store, layout, "two.example/app:v1", events=events)

    assert len([event for event in events if isinstance(event, Unpacked)]) == 1
    assert len(store.layers.all()) == 2


def test_a_moved_tag_leaves_the_old_image_without_a_name(store: Store, layout: Layout) -> None:
    old = layout.tag(layout.image(BASE))
    pull(store, layout)
    new = layout.tag(layout.image(BASE, TOP))

    assert pull(store, layout).is_new
    assert store.find(str(NAME)) == new.digest
    assert store.names(old.digest) == ()
    assert store.image(str(old.digest)).names == ()


def test_one_platform_of_an_index_is_taken(store: Store, layout: Layout) -> None:
    index = layout.tag(layout.index(layout.image(BASE, platform=AMD64), layout.image(TOP, platform=ARM64)))

    pull(store, layout, options=PullOptions(platforms=(ARM64,)))

    image = store.image(str(NAME))
    assert (image.root, image.platform) == (index.digest, ARM64)
    with pytest.raises(ImageIncomplete, match=r"here for linux/arm64/v8 only.*--platform linux/amd64"):
        store.image(str(NAME), AMD64)


def test_a_second_platform_joins_the_first(store: Store, layout: Layout) -> None:
    layout.tag(layout.index(layout.image(BASE, platform=AMD64), layout.image(TOP, platform=ARM64)))
    pull(store, layout, options=PullOptions(platforms=(ARM64,)))

    assert pull(store, layout, options=PullOptions(platforms=(AMD64,))).is_new
    assert [image.platform for image in store.all()[0]] == [AMD64, ARM64]


def test_all_platforms_are_taken_and_attestations_are_not_unpacked(store: Store, layout: Layout) -> None:
    attestation = layout.blob(b"{}", "application/vnd.in-toto+json")
    plain = layout.image(BASE, platform=AMD64)
    document = json.loads((layout.root / f"blobs/sha256/{plain.digest.hex}").read_bytes())
    document["layers"] = [attestation.to_json()]
    beside = layout.blob(json.dumps(document).encode(), plain.media_type)
    layout.tag(layout.index(plain, replace(beside, platform=None)))

    pull(store, layout, options=PullOptions(all_platforms=True))

    first, second = store.all()[0]
    assert (len(first.chain), len(second.chain)) == (1, 0)
    assert store.directory.has_blob(attestation.digest)


def test_a_platform_that_is_not_offered_is_refused_with_those_that_are(store: Store, layout: Layout) -> None:
    layout.tag(layout.index(layout.image(BASE, platform=ARM64)))

    with pytest.raises(ManifestUnknown, match=r"no image for linux/amd64, but for: linux/arm64/v8"):
        pull(store, layout, options=PullOptions(platforms=(AMD64,)))


def test_an_image_of_another_platform_than_asked_for_is_refused(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, platform=ARM64))

    with pytest.raises(ManifestUnknown, match="is for linux/arm64/v8, not for linux/amd64"):
        pull(store, layout, options=PullOptions(platforms=(AMD64,)))


def test_UNP_12_a_layer_with_another_diff_id_is_not_there(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, TOP, diff_ids=[str(Digest.of(BASE)), str(Digest.of(b"other"))]))

    with pytest.raises(VerificationFailed):
        pull(store, layout)

    assert_nothing_visible(store)


def test_UNP_12_layers_and_diff_ids_must_be_as_many(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, TOP, diff_ids=[str(Digest.of(BASE))]))

    with pytest.raises(ManifestInvalid, match="has 2 layers, and its configuration 1"):
        pull(store, layout)

    assert_nothing_visible(store)


def test_CLI_01_a_blob_with_other_bytes_is_not_there(store: Store, layout: Layout) -> None:
    made = layout.tag(layout.image(BASE, TOP))
    path = layout.root / f"blobs/sha256/{top_blob(layout, made.digest).hex}"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])

    with pytest.raises(ContentMismatch):
        pull(store, layout)

    assert_nothing_visible(store)


def test_a_pull_that_failed_goes_on_when_the_rest_is_there(store: Store, layout: Layout) -> None:
    made = layout.tag(layout.image(BASE, TOP))
    top = top_blob(layout, made.digest)
    content = (layout.root / f"blobs/sha256/{top.hex}").read_bytes()
    layout.lose(top)
    with pytest.raises(BlobUnknown):
        pull(store, layout)
    layout.blob(content)
    events: list[Event] = []

    assert pull(store, layout, events=events).is_new
    assert top in {event.digest for event in events if isinstance(event, Finished) and event.how == "fetched"}


def test_an_escape_is_refused_and_leaves_nothing(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE, layer(symlink("out", "/"), link("out/etc/shadow", "../../x"))))

    with pytest.raises(UnpackError, match="layer sha256:"):
        pull(store, layout)

    assert_nothing_visible(store)


def test_an_image_that_was_not_unpacked_says_so(store: Store, layout: Layout) -> None:
    layout.tag(layout.image(BASE))
    pull(store, layout, options=PullOptions(unpack=False))

    with pytest.raises(ImageIncomplete, match="not unpacked"):
        store.stack(store.image(str(NAME)))
    assert pull(store, layout).is_new
    assert len(store.stack(store.image(str(NAME)))) == 1


def test_the_store_reads_as_an_oci_layout(store: Store, layout: Layout) -> None:
    made = layout.tag(layout.image(BASE, TOP))
    pull(store, layout, "one.example/app:v1", "two.example/app:v2")

    index = json.loads(store.directory.index_file.read_bytes())

    names = [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]]
    assert names == ["one.example/app:v1", "two.example/app:v2"]
    assert {each["digest"] for each in index["manifests"]} == {str(made.digest)}


def top_blob(layout: Layout, digest: Digest) -> Digest:
    document = json.loads((layout.root / f"blobs/sha256/{digest.hex}").read_bytes())
    return Digest.parse(document["layers"][-1]["digest"])


def assert_nothing_visible(store: Store) -> None:
    with pytest.raises(ImageUnknown):
        store.image(str(NAME))
    assert store.layers.all() == []
    assert list_all(store.directory.root / "tmp") == list_all(store.directory.root / "trash") == []


def list_all(path: Path) -> list[Path]:
    return list(path.iterdir())
