"""What this project's client writes others read, and the reverse: registries, layouts and archives."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.clients import (
    Buildah,
    Cargohold,
    Client,
    Ctr,
    Daemon,
    Docker,
    Podman,
    Skopeo,
    contents_of_directory,
)
from tests.e2e.contents import Contents
from tests.e2e.images import INDEX_TYPE, ZSTD_TYPE, Image, ImageCache, json_object
from tests.e2e.sandbox import Sandbox, program
from tests.e2e.servers import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

NAME = "registry.example/team/app:1.4"


@pytest.fixture(scope="module")
def stocked(lab: Sandbox, shared_workshop: Path, images: ImageCache) -> Cargohold:
    """Our client, whose store has the layered image under NAME."""
    cargohold = Cargohold(lab, shared_workshop)
    cargohold.run("tag", cargohold.load(images.layered()), NAME)
    return cargohold


@pytest.fixture(scope="module")
def saved(stocked: Cargohold) -> dict[str, Path]:
    """What our client saves of it, by the kind of archive."""
    archives = {kind: stocked.directory / f"{kind}.tar" for kind in ("docker-archive", "oci-archive")}
    for kind, archive in archives.items():
        stocked.run("save", "--format", kind, "--output", str(archive), NAME)
    return archives


def _contents(image: Image) -> Contents:
    return Contents(image.digest, image.manifest()["config"]["digest"], image.diff_ids())


# Through a registry


def test_pulls_what_others_push(
    cargohold: Cargohold, other: Client, registry: Registry, repository: str, images: ImageCache
) -> None:
    target = f"{registry.host}/{repository}:v1"
    pushed = other.push(other.load(images.layered()), target)

    contents = cargohold.pull(target).contents

    assert contents.manifest == pushed
    assert contents.diff_ids == images.layered().diff_ids()


def test_others_pull_what_we_push(
    cargohold: Cargohold, other: Client, registry: Registry, repository: str, images: ImageCache
) -> None:
    target = f"{registry.host}/{repository}:v1"
    cargohold.push(cargohold.load(images.layered()), target)

    assert other.pull(target).contents == _contents(images.layered())


def test_pulls_what_buildah_compresses_with_zstd(
    cargohold: Cargohold, lab: Sandbox, registry: Registry, repository: str, images: ImageCache
) -> None:
    buildah, target = Buildah(lab, cargohold.directory), f"{registry.host}/{repository}:v1"
    # A layer of its own making. Of a tar that ends in more than 1024 zeros its zstd:chunked leaves some
    # out, so that the diffID is wrong, and we refuse what podman does not look at.
    container = buildah.run("from", buildah.load(images.layered())).strip()
    built = buildah.run("commit", "--quiet", "--squash", container).strip()
    options = ["--quiet", "--tls-verify=false", "--compression-format", "zstd:chunked"]
    buildah.run("push", *options, built, f"docker://{target}")
    layers = json_object(registry.manifest(repository, "v1").body)["layers"]
    assert {layer["mediaType"] for layer in layers} == {ZSTD_TYPE}

    cargohold.run("pull", target)

    # Each layer was unpacked, and has the diffID that the configuration says.
    assert cargohold.run("cat", target, "opaque/new") == "new\n"
    assert cargohold.run("store", "check") == ""


# Layouts


def test_others_read_the_store_as_a_layout(
    stocked: Cargohold, skopeo: Skopeo, lab: Sandbox, images: ImageCache
) -> None:
    target = skopeo.directory / "copied"

    skopeo.copy(f"oci:{stocked.store}:{NAME}", f"dir:{target}", "--preserve-digests")

    assert contents_of_directory(target) == _contents(images.layered())
    assert lab.run(program("umoci"), "list", "--layout", str(stocked.store)) == f"{NAME}\n"


def test_copies_an_index_whole(
    cargohold: Cargohold, registry: Registry, repository: str, images: ImageCache
) -> None:
    image, layout = images.index(), cargohold.directory / "layout"
    first, second = f"{registry.host}/{repository}:v1", f"{registry.host}/{repository}/second:v2"

    said = [
        cargohold.run("copy", "--quiet", image.reference, first),
        cargohold.run("copy", "--quiet", first, second),
        cargohold.run("copy", "--quiet", second, f"oci:{layout}:here"),
    ]

    assert said == [f"{image.digest}\n"] * 3
    answer = registry.manifest(f"{repository}/second", "v2")
    assert (answer.headers["Content-Type"], answer.body) == (INDEX_TYPE, image.body)
    for child in image.manifest()["manifests"]:
        contents = registry.contents(f"{repository}/second", child["digest"])
        assert contents.manifest == child["digest"]
    assert _blobs(layout) == _blobs(image.layout)


def test_copies_an_artifact_along(
    cargohold: Cargohold, skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache
) -> None:
    """Where the registry does not list referrers, by the tag that stands in for the list."""
    subject, artifact = images.busybox(), images.artifact()
    first, second = f"{registry.host}/{repository}:v1", f"{registry.host}/{repository}/second:v2"
    layout = cargohold.directory / "layout"
    for image, tag in ((subject, "v1"), (artifact, "sbom")):
        cargohold.run("copy", image.reference, f"{registry.host}/{repository}:{tag}")
    cargohold.run("copy", first, second)
    cargohold.run("copy", second, f"oci:{layout}:here")

    if registry.speaks_oci_1_1:
        answer = registry.request("GET", f"/v2/{repository}/second/referrers/{subject.digest}")
    else:
        answer = registry.manifest(f"{repository}/second", subject.digest.replace(":", "-"))

    (found,) = json_object(answer.body)["manifests"]
    assert found["digest"] == artifact.digest
    assert registry.manifest(f"{repository}/second", artifact.digest).body == artifact.body
    assert _blobs(layout) >= _blobs(subject.layout) | _blobs(artifact.layout)


# Archives


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_we_save(
    saved: dict[str, Path], skopeo: Skopeo, images: ImageCache, kind: str
) -> None:
    target = skopeo.directory / "copied"

    skopeo.copy(f"{kind}:{saved[kind]}:{NAME}", f"dir:{target}")

    contents = contents_of_directory(target)
    assert contents.diff_ids == images.layered().diff_ids()
    if kind == "oci-archive":
        assert contents == _contents(images.layered())


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_podman_loads_what_we_save(
    saved: dict[str, Path], lab: Sandbox, workshop: Path, images: ImageCache, kind: str
) -> None:
    podman = Podman(lab, workshop)

    podman.run("load", "--quiet", "--input", str(saved[kind]))

    (loaded,) = json.loads(podman.run("image", "inspect", NAME))
    expected = _contents(images.layered())
    assert loaded["RootFS"]["Layers"] == list(expected.diff_ids)
    assert f"sha256:{loaded['Id']}" == expected.config
    if kind == "oci-archive":
        assert loaded["Digest"] == expected.manifest


def test_docker_loads_what_we_save(
    saved: dict[str, Path], lab: Sandbox, workshop: Path, dockerd: Daemon, images: ImageCache
) -> None:
    docker = Docker(lab, workshop, dockerd)
    docker.empty()

    said = docker.run("load", "--quiet", "--input", str(saved["docker-archive"]))

    assert said == f"Loaded image: {NAME}\n"
    (loaded,) = json.loads(docker.run("image", "inspect", NAME))
    expected = _contents(images.layered())
    assert (loaded["Id"], tuple(loaded["RootFS"]["Layers"])) == (expected.config, expected.diff_ids)


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_ctr_imports_what_we_save(
    saved: dict[str, Path], lab: Sandbox, workshop: Path, containerd: Daemon, images: ImageCache, kind: str
) -> None:
    ctr = Ctr(lab, workshop, containerd)

    ctr.run("images", "import", "--snapshotter", "native", str(saved[kind]))

    assert ctr.digest(NAME) == images.layered().digest


@dataclass(frozen=True)
class Writer:
    """A program that writes an image into a file or directory, under NAME."""

    client: str
    form: str
    is_exact: bool

    def write(self, client: Client, image: Image, target: Path) -> None:
        name = client.load(image)
        match client:
            case Skopeo():
                client.copy(name, f"{self.form}:{target}:{NAME}")
            case Podman():
                client.run("tag", name, NAME)
                client.run("save", "--quiet", "--format", self.form, "--output", str(target), NAME)
            case Docker():
                client.run("tag", name, NAME)
                client.run("save", "--output", str(target), NAME)
            case Ctr():
                client.run("images", "tag", name, NAME)
                client.run("images", "export", str(target), NAME)


WRITERS = [
    Writer("skopeo", "oci", is_exact=True),
    Writer("skopeo", "oci-archive", is_exact=True),
    Writer("skopeo", "docker-archive", is_exact=False),
    Writer("podman", "oci-dir", is_exact=False),
    Writer("podman", "oci-archive", is_exact=False),
    Writer("podman", "docker-archive", is_exact=False),
    Writer("docker", "docker-archive", is_exact=False),
    Writer("ctr", "oci-archive", is_exact=True),
]


@pytest.mark.parametrize(
    ("other", "writer"),
    [pytest.param(each.client, each, id=f"{each.client}-{each.form}") for each in WRITERS],
    indirect=["other"],
)
def test_loads_what_others_write(
    cargohold: Cargohold, other: Client, workshop: Path, images: ImageCache, writer: Writer
) -> None:
    image, written = images.layered(), workshop / "written"
    writer.write(other, image, written)

    said = cargohold.run("load", "--input", str(written))

    assert said == f"Loaded image: {NAME}\n"
    contents = cargohold.contents()
    assert contents.diff_ids == image.diff_ids()
    assert contents.config == _contents(image).config
    assert not writer.is_exact or contents.manifest == image.digest
    assert cargohold.run("cat", NAME, "opaque/new") == "new\n"


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_copies_between_forms_that_skopeo_reads_and_writes(
    cargohold: Cargohold, skopeo: Skopeo, workshop: Path, images: ImageCache, form: str
) -> None:
    image = images.layered()
    theirs, ours, again = (workshop / name for name in ("theirs", "ours", "again"))
    skopeo.copy(image.reference, f"{form}:{theirs}:{NAME}")
    source = f"{form}:{theirs}:{NAME}"

    cargohold.run("copy", source, f"{form}:{ours}:{NAME}")

    skopeo.copy(f"{form}:{ours}:{NAME}", f"dir:{again}")
    contents = contents_of_directory(again)
    assert contents.diff_ids == image.diff_ids()
    assert form == "docker-archive" or contents == _contents(image)


def test_saves_and_loads_several_images(cargohold: Cargohold, images: ImageCache) -> None:
    archive = cargohold.directory / "saved.tar"
    cargohold.run("tag", cargohold.load(images.layered()), NAME)
    cargohold.run("tag", cargohold.load(images.busybox()), "busybox:static")

    cargohold.run("save", "--output", str(archive), NAME, "busybox:static")

    fresh = Cargohold(cargohold.sandbox, cargohold.directory / "fresh")
    said = fresh.run("load", "--input", str(archive))
    assert set(said.splitlines()) == {
        f"Loaded image: {NAME}",
        "Loaded image: docker.io/library/busybox:static",
    }
    assert _blobs(fresh.store) == _blobs(images.layered().layout) | _blobs(images.busybox().layout)


def _blobs(layout: Path) -> set[str]:
    return {path.name for path in layout.glob("blobs/sha256/*")}
