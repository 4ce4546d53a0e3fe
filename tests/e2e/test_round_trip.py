"""Every client pushes and pulls, and both ends hold the same bytes."""

import pytest

from tests.e2e.clients import Client
from tests.e2e.contents import Contents
from tests.e2e.images import Image, ImageCache
from tests.e2e.servers import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def _round_trip(client: Client, registry: Registry, repository: str, image: Image) -> Contents:
    """Push, compare, pull into an emptied store, compare; return what the registry holds."""
    target = f"{registry.host}/{repository}:v1"

    pushed = client.push(client.load(image), target)
    stored = registry.contents(repository, "v1")
    assert stored.manifest == pushed
    assert stored.diff_ids == image.diff_ids()

    assert client.pull(target).contents == stored
    return stored


def test_busybox(client: Client, registry: Registry, repository: str, images: ImageCache) -> None:
    stored = _round_trip(client, registry, repository, images.busybox())

    assert client.pull(f"{registry.host}/{repository}@{stored.manifest}").contents == stored


def test_layers(client: Client, registry: Registry, repository: str, images: ImageCache) -> None:
    _round_trip(client, registry, repository, images.layered())


def test_debian(client: Client, registry: Registry, repository: str, images: ImageCache) -> None:
    _round_trip(client, registry, repository, images.debian())
