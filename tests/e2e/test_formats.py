"""Indexes, zstd layers and artifacts pass through the registry unchanged."""

from pathlib import Path

import pytest

from tests.e2e.clients import Client, Ctr, Daemon, Podman, Skopeo
from tests.e2e.images import (
    ARTIFACT_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    ZSTD_TYPE,
    Image,
    ImageCache,
    child_of_this_machine,
    digest_of,
    json_object,
)
from tests.e2e.sandbox import CommandFailed, Sandbox
from tests.e2e.servers import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def _push_all(skopeo: Skopeo, image: Image, target: str) -> None:
    """Push an index with all its children and every byte kept."""
    options = ["--all", "--preserve-digests", "--dest-tls-verify=false"]
    assert skopeo.copy(image.reference, f"docker://{target}", *options) == image.digest


def test_index_is_stored_whole(
    skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache
) -> None:
    image = images.index()
    _push_all(skopeo, image, f"{registry.host}/{repository}:v1")

    answer = registry.manifest(repository, "v1")
    assert (answer.headers["Content-Type"], answer.body) == (INDEX_TYPE, image.body)
    children = image.manifest()["manifests"]
    assert len(children) == 4
    for child in children:
        assert registry.manifest(repository, child["digest"]).body == image.blob(child["digest"])
        assert registry.contents(repository, child["digest"]).manifest == child["digest"]


def test_index_comes_back_whole(
    skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache
) -> None:
    image = images.index()
    _push_all(skopeo, image, f"{registry.host}/{repository}:v1")

    store = skopeo.directory / "index"
    source = f"docker://{registry.host}/{repository}:v1"
    skopeo.copy(source, f"dir:{store}", "--all", "--preserve-digests", "--src-tls-verify=false")

    assert (store / "manifest.json").read_bytes() == image.body
    blobs = {path.name for path in image.layout.glob("blobs/sha256/*")}
    pulled = {digest_of(path.read_bytes()).partition(":")[2] for path in store.iterdir()}
    assert blobs <= pulled


def test_ctr_pushes_an_index(
    lab: Sandbox, workshop: Path, containerd: Daemon, registry: Registry, repository: str, images: ImageCache
) -> None:
    image = images.index()
    ctr = Ctr(lab, workshop, containerd)

    assert ctr.push(ctr.load(image), f"{registry.host}/{repository}:v1") == image.digest

    assert registry.manifest(repository, "v1").body == image.body
    for child in image.manifest()["manifests"]:
        assert registry.contents(repository, child["digest"]).manifest == child["digest"]


def test_podman_pushes_a_manifest_list(
    lab: Sandbox, workshop: Path, registry: Registry, repository: str, images: ImageCache
) -> None:
    podman = Podman(lab, workshop)
    podman.run("manifest", "create", "list")
    podman.run("manifest", "add", "--all", "list", images.index().reference)

    target = f"docker://{registry.host}/{repository}:v1"
    podman.run("manifest", "push", "--all", "--tls-verify=false", "list", target)

    pushed = json_object(registry.manifest(repository, "v1").body)
    children = images.index().manifest()["manifests"]
    assert [child["platform"] for child in pushed["manifests"]] == [child["platform"] for child in children]
    for child in pushed["manifests"]:
        assert registry.contents(repository, child["digest"]).manifest == child["digest"]


def test_index_gives_each_client_its_platform(
    client: Client, skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache
) -> None:
    image = images.index()
    _push_all(skopeo, image, f"{registry.host}/{repository}:v1")
    expected = registry.contents(repository, child_of_this_machine(image.body))

    pulled = client.pull(f"{registry.host}/{repository}:v1").contents

    assert (pulled.config, pulled.diff_ids) == (expected.config, expected.diff_ids)


def test_zstd_layers_are_unpacked(
    client: Client, skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache
) -> None:
    image = images.zstd()
    assert {layer["mediaType"] for layer in image.manifest()["layers"]} == {ZSTD_TYPE}
    source = f"{registry.host}/{repository}:v1"
    assert skopeo.push(image.reference, source) == image.digest
    assert registry.manifest(repository, "v1").body == image.body

    if not client.unpacks_zstd:
        # docker 20.10 reads the compressed bytes as a tar archive.
        with pytest.raises(CommandFailed, match="invalid tar header"):
            client.pull(source)
        return
    assert client.pull(source).contents.manifest == image.digest


def test_artifact_with_subject_comes_back_unchanged(
    skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache
) -> None:
    artifact = images.artifact()
    target = f"{registry.host}/{repository}:sbom"

    assert skopeo.push(artifact.reference, target) == artifact.digest
    assert registry.manifest(repository, "sbom").body == artifact.body

    pulled = skopeo.pull(target)
    store = Path(pulled.name.removeprefix("dir:"))
    assert (store / "manifest.json").read_bytes() == artifact.body
    for blob in (*artifact.manifest()["layers"], artifact.manifest()["config"]):
        assert digest_of((store / blob["digest"].removeprefix("sha256:")).read_bytes()) == blob["digest"]


def test_artifact_is_found_from_its_subject(
    skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache
) -> None:
    if not registry.speaks_oci_1_1:
        pytest.skip("this registry has no referrers API")
    subject, artifact = images.busybox(), images.artifact()
    # The artifact comes first: its subject may be missing still.
    skopeo.push(artifact.reference, f"{registry.host}/{repository}:sbom")
    skopeo.push(subject.reference, f"{registry.host}/{repository}:v1")

    answer = registry.request("GET", f"/v2/{repository}/referrers/{subject.digest}")

    assert (answer.status, answer.headers["Content-Type"]) == (200, INDEX_TYPE)
    assert json_object(answer.body)["manifests"] == [
        {
            "mediaType": MANIFEST_TYPE,
            "digest": artifact.digest,
            "size": len(artifact.body),
            "artifactType": ARTIFACT_TYPE,
            "annotations": artifact.manifest()["annotations"],
        }
    ]
