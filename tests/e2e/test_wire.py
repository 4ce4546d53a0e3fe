"""Clients spare what is there already, and go on after a cut; a relay sees what they send."""

import pytest

from tests.e2e.clients import Client, Skopeo
from tests.e2e.images import ImageCache
from tests.e2e.servers import Registry
from tests.e2e.tap import Tap

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_second_push_sends_no_blob(
    client: Client, tapped: tuple[Tap, str], repository: str, images: ImageCache
) -> None:
    tap, host = tapped
    target = f"{host}/{repository}:v1"
    name = client.load(images.layered())
    first = client.push(name, target)
    assert any(request.sends_blob_data for request in tap.requests(repository))
    tap.forget()

    assert client.push(name, target) == first

    assert tap.requests(repository)
    assert not [request for request in tap.requests(repository) if request.sends_blob_data]


def test_push_to_another_repository_mounts_layers(
    client: Client, tapped: tuple[Tap, str], registry: Registry, repository: str, images: ImageCache
) -> None:
    tap, host = tapped
    source, target = f"{host}/{repository}:v1", f"{host}/{repository}/copy:v1"
    client.push(client.load(images.layered()), source)
    # A client may mount what it knows to be in the source, and a pull teaches every one of them.
    pulled = client.pull(source)
    tap.forget()

    client.push(pulled.name, target)

    requests = tap.requests(f"{repository}/copy")
    layers = {layer["digest"] for layer in images.layered().manifest()["layers"]}
    mounts = [request.mount for request in requests if request.mount is not None]
    assert {source_name for _, source_name in mounts} == {repository}
    assert len({digest for digest, _ in mounts}) >= len(layers)
    # docker and podman send the configuration anew: at most a PATCH and a PUT.
    assert len([request for request in requests if request.sends_blob_data]) <= 2
    assert registry.contents(f"{repository}/copy", "v1").diff_ids == pulled.contents.diff_ids


# skopeo, podman and buildah of Debian 12 give up; newer ones ask for a range too.
@pytest.mark.parametrize("client", ["cargohold", "docker", "ctr"], indirect=True)
def test_pull_goes_on_after_a_cut(
    client: Client, tapped: tuple[Tap, str], skopeo: Skopeo, repository: str, images: ImageCache
) -> None:
    skopeo.push(images.layered().reference, f"{tapped[1]}/{repository}:v1")

    pull_over_a_cut(client, tapped, repository, images)


def pull_over_a_cut(client: Client, tapped: tuple[Tap, str], repository: str, images: ImageCache) -> None:
    """Pull the layered image over a connection that breaks in its largest layer."""
    tap, host = tapped
    source = f"{host}/{repository}:v1"
    tap.forget()
    tap.cut_one_connection(after=2 << 20)

    assert client.pull(source).contents.manifest == images.layered().digest

    (resumed,) = [request for request in tap.requests(repository) if request.range is not None]
    assert resumed.range is not None
    start = int(resumed.range.removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 2 << 20
