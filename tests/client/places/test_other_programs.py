"""Layouts and archives that other programs read from us, and theirs that we read."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import copy
from client.copy import Options
from client.places import archive, archive_target, docker_archive
from client.places.archive import OciArchive
from client.places.archive_target import ArchiveTarget, DockerArchiveTarget
from client.places.oci_layout import OciLayout
from client.places.place import RefName
from storage.oci.digest import Digest
from storage.oci.names import Tag
from storage.oci.platform import Platform
from tests.client.places.samples import Sample, blobs_of, everything
from tests.e2e import sandbox
from tests.e2e.images import host_architecture
from tests.e2e.sandbox import Sandbox, program

V1 = Tag("v1")
APP = RefName("docker.io/library/app:v1")

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def lab() -> Iterator[Sandbox]:
    # A short path: podman refuses a run root of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="hold-") as directory, sandbox.create(Path(directory)) as created:
        yield created


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "sample")


@pytest.fixture
def image(sample: Sample) -> Digest:
    return sample.name(sample.image(architecture=host_architecture()), "v1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "image.tar"


def write(source: Path, file: Path, kind: type[ArchiveTarget], name: Tag | RefName) -> None:
    with archive_target.written(file, kind) as target:
        copy.copy(OciLayout(source), V1, target, name)


def skopeo(lab: Sandbox, tmp_path: Path, *arguments: str) -> str:
    return lab.run(program("skopeo"), *arguments, cache=tmp_path / "cache")


def manifest_of(directory: Path) -> Digest:
    """Return the digest of the manifest in a `dir:` of skopeo's."""
    return Digest.of((directory / "manifest.json").read_bytes())


@pytest.mark.parametrize("name", ["oci", "oci-archive"])
def test_skopeo_reads_ours_with_the_digest(
    name: str, lab: Sandbox, sample: Sample, image: Digest, file: Path, tmp_path: Path
) -> None:
    if name == "oci":
        copy.copy(OciLayout(sample.root), V1, OciLayout(file), V1)
    else:
        write(sample.root, file, ArchiveTarget, V1)
    skopeo(lab, tmp_path, "copy", "--preserve-digests", f"{name}:{file}:v1", f"dir:{tmp_path / 'dir'}")

    assert manifest_of(tmp_path / "dir") == image


def test_skopeo_reads_a_whole_index_of_ours(lab: Sandbox, sample: Sample, file: Path, tmp_path: Path) -> None:
    # Of images only: this skopeo cannot keep an index with attestations, wherever it comes from.
    index = sample.name(sample.index(sample.image(), sample.image(architecture="arm64")), "v1")
    copy.copy(OciLayout(sample.root), V1, OciLayout(file), V1)
    target = tmp_path / "read"
    skopeo(lab, tmp_path, "copy", "--all", "--preserve-digests", f"oci:{file}:v1", f"oci:{target}:v1")

    assert OciLayout(target).resolve(V1).digest == index


@pytest.mark.parametrize("name", ["oci-archive", "docker-archive"])
def test_skopeo_reads_both_halves_of_our_docker_archive(
    name: str, lab: Sandbox, sample: Sample, image: Digest, file: Path, tmp_path: Path
) -> None:
    write(sample.root, file, DockerArchiveTarget, APP)
    reference = "v1" if name == "oci-archive" else str(APP)
    directory = tmp_path / "dir"
    skopeo(lab, tmp_path, "copy", f"{name}:{file}:{reference}", f"dir:{directory}")
    read = json.loads((directory / "manifest.json").read_bytes())
    config = OciLayout(sample.root).resolve(V1).config

    assert config is not None
    assert read["config"]["digest"] == str(config.digest)
    assert len(read["layers"]) == 2


@pytest.mark.parametrize("kind", ["index", "image"])
def test_podman_loads_our_docker_archive(
    kind: str, lab: Sandbox, sample: Sample, file: Path, tmp_path: Path
) -> None:
    sample.name(sample.index() if kind == "index" else sample.image(architecture=host_architecture()), "v1")
    write(sample.root, file, DockerArchiveTarget, APP)
    podman = [
        program("podman"), "--root", str(lab.directory / f"r{kind}"),
        "--runroot", str(lab.directory / f"n{kind}"), "--storage-driver", "vfs",
    ]  # fmt: skip
    lab.run(*podman, "load", "-i", str(file), cache=tmp_path / "cache")
    (listed,) = json.loads(lab.run(*podman, "images", "--format", "json"))

    place = OciLayout(sample.root)
    manifest = place.resolve(V1)
    if kind == "index":
        ours = [each for each in manifest.manifests if each.platform == Platform.host()]
        manifest = place.manifest(ours[0])
    assert manifest.config is not None
    assert listed["Names"] == [str(APP)]
    assert listed["Id"] == manifest.config.digest.hex


def test_umoci_unpacks_our_layout(lab: Sandbox, sample: Sample, image: Digest, file: Path) -> None:
    copy.copy(OciLayout(sample.root), V1, OciLayout(file), V1)
    bundle = file.with_name("bundle")
    lab.run(program("umoci"), "unpack", "--image", f"{file}:v1", str(bundle))

    assert sorted(path.name for path in (bundle / "rootfs/files").iterdir()) == [
        "base",
        f"image-{host_architecture()}",
    ]


def test_umoci_collects_nothing_that_we_refer_to(lab: Sandbox, file: Path, tmp_path: Path) -> None:
    source = everything(tmp_path / "everything")
    copy.copy(OciLayout(source.root), V1, OciLayout(file), V1)
    lab.run(program("umoci"), "gc", "--layout", str(file))

    assert blobs_of(file) == list(source.digests)


def test_we_read_what_skopeo_writes_as_a_layout(
    lab: Sandbox, sample: Sample, image: Digest, file: Path, tmp_path: Path
) -> None:
    skopeo(lab, tmp_path, "copy", "--preserve-digests", f"oci:{sample.root}:v1", f"oci:{file}:docker.io/x:v2")
    layout = OciLayout(tmp_path / "copy")
    result = copy.copy(OciLayout(file), RefName("docker.io/x:v2"), layout, V1)

    assert result.digest == image
    assert blobs_of(layout.root) == blobs_of(sample.root)


def test_we_read_what_skopeo_writes_as_an_oci_archive(
    lab: Sandbox, sample: Sample, image: Digest, file: Path, tmp_path: Path
) -> None:
    skopeo(lab, tmp_path, "copy", "--preserve-digests", f"oci:{sample.root}:v1", f"oci-archive:{file}:v1")
    layout = OciLayout(tmp_path / "copy")
    with archive.opened(file) as tar:
        result = copy.copy(OciArchive(tar), V1, layout, V1)

    assert result.digest == image
    assert blobs_of(layout.root) == blobs_of(sample.root)


def test_we_read_what_skopeo_writes_as_a_docker_archive(
    lab: Sandbox, sample: Sample, image: Digest, file: Path, tmp_path: Path
) -> None:
    skopeo(lab, tmp_path, "copy", f"oci:{sample.root}:v1", f"docker-archive:{file}:app:v1")
    layout = OciLayout(tmp_path / "copy")
    with archive.opened(file) as tar:
        copy.copy(docker_archive.read(tar), APP, layout, V1, Options(referrers=False))
    read, original = layout.resolve(V1), OciLayout(sample.root).resolve(V1)

    assert read.config is not None
    assert original.config is not None
    assert read.config.size == (layout.root / "blobs/sha256" / read.config.digest.hex).stat().st_size
    config = json.loads((sample.root / "blobs/sha256" / original.config.digest.hex).read_bytes())
    assert [str(each.digest) for each in read.layers] == config["rootfs"]["diff_ids"]


def test_another_writer_of_the_layout_keeps_our_names(
    lab: Sandbox, sample: Sample, image: Digest, file: Path, tmp_path: Path
) -> None:
    layout = OciLayout(file)
    copy.copy(OciLayout(sample.root), V1, layout, Tag("ours"))
    skopeo(lab, tmp_path, "copy", "--preserve-digests", f"oci:{sample.root}:v1", f"oci:{file}:theirs")
    copy.copy(OciLayout(sample.root), V1, layout, Tag("again"))

    assert sorted(name for name, _ in layout.names()) == ["again", "ours", "theirs"]
