"""What of an image is copied: chosen platforms, foreign layers, and nothing without an end."""

import json
from pathlib import Path

import pytest

from client import copy
from client.copy import Options
from client.places.oci_layout import OciLayout
from storage.oci.errors import ManifestInvalid, ManifestUnknown
from storage.oci.names import Tag
from storage.oci.platform import Platform
from tests.client.places.samples import Everything, Sample, blobs_of, everything

V1 = Tag("v1")


@pytest.fixture
def sample(tmp_path: Path) -> Everything:
    return everything(tmp_path / "sample")


def test_sparse_copy_into_a_layout_keeps_the_index(sample: Everything, tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "copy")
    wanted = Options(platforms=(Platform.parse("linux/amd64"),))
    result = copy.copy(OciLayout(sample.root), V1, layout, V1, wanted)

    index = layout.resolve(V1)
    held = [(layout.root / "blobs/sha256" / child.digest.hex).exists() for child in index.manifests]
    assert result.digest == sample.index == index.digest
    # The image, and the attestation about it.
    assert held == [True, False, False, True]


def test_sparse_copy_is_made_whole_by_a_later_one(sample: Everything, tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "copy")
    copy.copy(OciLayout(sample.root), V1, layout, V1, Options(platforms=(Platform.parse("linux/s390x"),)))
    copy.copy(OciLayout(sample.root), V1, layout, V1)

    assert blobs_of(layout.root) == list(sample.digests)


@pytest.mark.parametrize("wanted", ["linux/riscv64", "windows/amd64"])
@pytest.mark.parametrize("name", ["v1", "single"])
def test_refuses_a_platform_that_is_not_offered(
    name: str, wanted: str, sample: Everything, tmp_path: Path
) -> None:
    single = Sample(tmp_path / "single")
    single.name(single.image(architecture="amd64"), "single")
    source = OciLayout(sample.root if name == "v1" else single.root)

    with pytest.raises(ManifestUnknown, match="linux/amd64"):
        copy.copy(
            source, Tag(name), OciLayout(tmp_path / "copy"), V1, Options(platforms=(Platform.parse(wanted),))
        )


def test_refuses_indexes_nested_without_end(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "deep")
    descriptor = sample.image()
    for _ in range(10):
        descriptor = sample.index(descriptor)
    sample.name(descriptor, "v1")

    with pytest.raises(ManifestInvalid, match="deep"):
        copy.copy(OciLayout(sample.root), V1, OciLayout(tmp_path / "copy"), V1)


def test_copies_nested_indexes(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "nested")
    digest = sample.name(sample.index(sample.index(), sample.image("more")), "v1")
    layout = OciLayout(tmp_path / "copy")

    assert copy.copy(OciLayout(sample.root), V1, layout, V1).digest == digest
    assert blobs_of(layout.root) == blobs_of(sample.root)


def test_refuses_more_bytes_of_manifests_than_any_image_has(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "large")
    child = {**sample.image(), "size": 3 * 1024 * 1024}
    children = [{**child, "digest": f"sha256:{number:064x}"} for number in range(30)]
    sample.name(sample.index(*children), "v1")

    with pytest.raises(ManifestInvalid, match="bytes"):
        copy.copy(OciLayout(sample.root), V1, OciLayout(tmp_path / "copy"), V1)


@pytest.mark.parametrize("foreign", [False, True])
def test_takes_foreign_layers_only_when_asked(foreign: bool, tmp_path: Path) -> None:
    sample = Sample(tmp_path / "foreign")
    descriptor = sample.image()
    path = sample.root / "blobs" / descriptor["digest"].replace(":", "/")
    document = json.loads(path.read_bytes())
    document["layers"][1]["urls"] = ["http://127.0.0.1:1/layer"]
    sample.name(sample.add(descriptor["mediaType"], json.dumps(document).encode()), "v1")
    layout = OciLayout(tmp_path / "copy")
    copy.copy(OciLayout(sample.root), V1, layout, V1)

    copy.copy(OciLayout(sample.root), V1, layout, V1, Options(foreign=foreign))
    assert (document["layers"][1]["digest"] in blobs_of(layout.root)) is foreign


def test_refuses_referrers_of_referrers_without_end(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "sample")
    subject = sample.image()
    sample.name(subject, "v1")
    for number in range(10):
        subject = sample.artifact(str(number), subject)
        sample.name(subject)

    with pytest.raises(ManifestInvalid, match="deep"):
        copy.copy(OciLayout(sample.root), V1, OciLayout(tmp_path / "copy"), V1)
