"""What docker saved before it knew OCI layouts."""

import gzip
import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import copy
from client.errors import ContentMismatch
from client.places import archive, docker_archive
from client.places.archive import OciArchive
from client.places.errors import PlaceInvalid
from client.places.oci_layout import OciLayout
from client.places.place import RefName
from storage.oci import media_types
from storage.oci.digest import Digest
from storage.oci.errors import ManifestUnknown
from storage.oci.names import Tag
from tests.client.places.samples import Sample, blobs_of
from tests.client.places.tars import entry, pack, packed, saved

V1 = Tag("v1")


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "sample")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "image.tar"


@pytest.mark.parametrize(
    ("compress", "media_type"),
    [(bytes, media_types.LAYER), (lambda data: gzip.compress(data, mtime=0), media_types.LAYER_GZIP)],
    ids=["plain", "gzip"],
)
def test_reads_what_old_dockers_saved(
    compress: Callable[[bytes], bytes], media_type: str, file: Path, tmp_path: Path
) -> None:
    members = saved(compress)
    layout = OciLayout(tmp_path / "copy")
    with archive.opened(pack(file, members)) as tar:
        place = docker_archive.read(tar)
        manifest = place.resolve(RefName("docker.io/library/app:v1"))
        copy.copy(place, None, layout, V1)

    assert {each.media_type for each in manifest.layers} == {media_type}
    digests = {
        f"sha256:{hashlib.sha256(members[name]).hexdigest()}" for name in ("a/layer.tar", "b/layer.tar")
    }
    assert {str(each.digest) for each in manifest.layers} == digests
    assert digests < set(blobs_of(layout.root))
    assert layout.resolve(V1).digest == manifest.digest


def test_finds_an_image_by_its_id(file: Path) -> None:
    members = saved()
    (config,) = [name for name in members if name.endswith(".json") and name != "manifest.json"]
    with archive.opened(pack(file, members)) as tar:
        place = docker_archive.read(tar)

        assert place.resolve(Digest("sha256", config.removesuffix(".json"))) == place.resolve(None)
        with pytest.raises(ManifestUnknown, match="app:v1"):
            place.resolve(RefName("app:v9"))


def test_follows_the_links_of_old_dockers(file: Path) -> None:
    """Where two layers were one, the second was a symbolic link to the first."""
    members = saved()
    content = members.pop("b/layer.tar")
    members["c/layer.tar"] = content
    link = entry("b/layer.tar", tarfile.SYMTYPE, "../c/layer.tar")
    with archive.opened(pack(file, members, link)) as tar:
        manifest = docker_archive.read(tar).resolve(None)

    assert manifest.layers[1].digest == Digest.of(content)


@pytest.mark.parametrize(
    ("link", "message"),
    [("../../etc/passwd", "out of"), ("/etc/passwd", "out of"), ("layer.tar", "link to a link")],
)
def test_follows_no_other_links(link: str, message: str, file: Path) -> None:
    members = saved()
    members.pop("b/layer.tar")
    made = entry("b/layer.tar", tarfile.SYMTYPE, link)

    with archive.opened(pack(file, members, made)) as tar, pytest.raises(PlaceInvalid, match=message):
        docker_archive.read(tar).resolve(None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Layers": ["a/layer.tar"]}, "1 layers where"),
        ({"Layers": ["a/layer.tar", "none"]}, "not there"),
        ({"Layers": ["a/layer.tar", "../b/layer.tar"]}, "not there"),
        ({"Layers": 7}, "array"),
        ({"Config": "none"}, "not there"),
        ({"Config": ""}, "no Config"),
        ({"Config": "a/layer.tar"}, "a/layer.tar"),
    ],
)
def test_refuses_a_bad_list_of_images(changes: dict[str, Any], message: str, file: Path) -> None:
    with pytest.raises(PlaceInvalid, match=message), archive.opened(pack(file, saved(**changes))) as tar:
        docker_archive.read(tar).resolve(None)


@pytest.mark.parametrize("document", [b"", b"{}", b"[7]", b'[{"Config":"a","config":"b"}]'])
def test_refuses_a_list_that_is_none(document: bytes, file: Path) -> None:
    with (
        archive.opened(pack(file, {"manifest.json": document})) as tar,
        pytest.raises(PlaceInvalid, match=r"image\.tar"),
    ):
        docker_archive.read(tar)


def test_refuses_a_layer_that_is_not_its_diff_id(file: Path) -> None:
    with (
        archive.opened(pack(file, saved(Layers=["b/layer.tar", "a/layer.tar"]))) as tar,
        pytest.raises(ContentMismatch),
    ):
        docker_archive.read(tar).resolve(None)


@pytest.mark.parametrize(("kind", "hint"), [("oci", "docker-archive:"), ("docker", "oci-archive:")])
def test_says_which_kind_an_archive_is_of(kind: str, hint: str, sample: Sample, file: Path) -> None:
    sample.name(sample.image(), "v1")
    (sample.root / "oci-layout").unlink()
    path = pack(file, saved()) if kind == "oci" else packed(sample.root, file)

    with archive.opened(path) as tar, pytest.raises(PlaceInvalid, match=hint):
        OciArchive(tar) if kind == "oci" else docker_archive.read(tar)
