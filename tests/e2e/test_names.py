"""Clients list, inspect, search and delete what is in the registry."""

import json

import pytest

from tests.e2e import clients
from tests.e2e.clients import Skopeo
from tests.e2e.images import ImageCache, host_architecture
from tests.e2e.sandbox import CommandFailed, Sandbox
from tests.e2e.servers import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def pushed(skopeo: Skopeo, registry: Registry, repository: str, images: ImageCache) -> str:
    """A reference of skopeo's to an image in the test's repository, under the tag v1."""
    target = f"{registry.host}/{repository}:v1"
    skopeo.push(images.busybox().reference, target)
    return f"docker://{target}"


def test_skopeo_lists_tags_in_order(skopeo: Skopeo, registry: Registry, repository: str, pushed: str) -> None:
    manifest = registry.manifest(repository, "v1")
    tags = ["v1", *(f"t{number}" for number in range(120)), "V1", "latest"]
    for tag in tags[1:]:
        path = f"/v2/{repository}/manifests/{tag}"
        media_type = {"Content-Type": manifest.headers["Content-Type"]}
        assert registry.request("PUT", path, media_type, manifest.body).status == 201

    listed = json.loads(skopeo.run("list-tags", "--tls-verify=false", pushed.rpartition(":")[0]))

    if not registry.speaks_oci_1_1:
        listed["Tags"].sort()  # docker-registry lists them as its directory does.
    assert listed["Tags"] == sorted(tags)


def test_skopeo_inspects(skopeo: Skopeo, pushed: str, images: ImageCache) -> None:
    inspected = json.loads(skopeo.run("inspect", "--tls-verify=false", pushed))

    assert inspected["Digest"] == images.busybox().digest
    assert inspected["Architecture"] == host_architecture()
    assert inspected["RepoTags"] == ["v1"]


def test_skopeo_deletes(skopeo: Skopeo, registry: Registry, repository: str, pushed: str) -> None:
    digest = registry.manifest(repository, "v1").headers["Docker-Content-Digest"]

    skopeo.run("delete", "--tls-verify=false", pushed)

    assert registry.manifest(repository, "v1").status == 404
    assert registry.manifest(repository, digest).status == 404
    with pytest.raises(CommandFailed, match="manifest unknown"):
        skopeo.run("inspect", "--tls-verify=false", pushed)


def test_skopeo_pushes_again_what_was_deleted(
    skopeo: Skopeo, registry: Registry, repository: str, pushed: str, images: ImageCache
) -> None:
    skopeo.run("delete", "--tls-verify=false", pushed)

    skopeo.push(images.busybox().reference, pushed.removeprefix("docker://"))

    assert registry.contents(repository, "v1").manifest == images.busybox().digest


@pytest.mark.usefixtures("pushed")
def test_podman_searches_the_catalog(lab: Sandbox, registry: Registry, repository: str) -> None:
    podman = clients.Podman(lab, lab.directory)
    term = repository.rpartition("/")[2]

    found = podman.run("search", "--tls-verify=false", "--format", "{{.Name}}", f"{registry.host}/{term}")

    assert found.split() == [f"{registry.host}/{repository}"]
