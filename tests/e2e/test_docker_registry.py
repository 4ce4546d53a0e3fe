"""The client of this project does at Debian's docker-registry all that it does at ours."""

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e import servers, tap
from tests.e2e.clients import Cargohold, Skopeo
from tests.e2e.images import ImageCache
from tests.e2e.sandbox import Sandbox
from tests.e2e.servers import Registry
from tests.e2e.tap import Tap
from tests.e2e.test_exchange import test_copies_an_artifact_along, test_copies_an_index_whole
from tests.e2e.test_formats import test_index_gives_each_client_its_platform, test_zstd_layers_are_unpacked
from tests.e2e.test_round_trip import test_busybox, test_debian, test_layers
from tests.e2e.test_wire import (
    pull_over_a_cut,
    test_push_to_another_repository_mounts_layers,
    test_second_push_sends_no_blob,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

# pytest finds them under their names here too, and gives them the fixtures of this module.
__all__ = [
    "test_busybox",
    "test_copies_an_artifact_along",
    "test_copies_an_index_whole",
    "test_debian",
    "test_index_gives_each_client_its_platform",
    "test_layers",
    "test_push_to_another_repository_mounts_layers",
    "test_second_push_sends_no_blob",
    "test_zstd_layers_are_unpacked",
]

PORT = 5002
TAP_PORT = 5003


@pytest.fixture
def client(cargohold: Cargohold) -> Cargohold:
    return cargohold


@pytest.fixture(scope="module")
def registry(lab: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("docker-registry")
    with servers.docker_registry(lab, directory, PORT) as running:
        yield running
    shutil.rmtree(directory / "data", ignore_errors=True)


@pytest.fixture(scope="module")
def session_tap(lab: Sandbox) -> Iterator[Tap]:
    with tap.tapping(lab, port=TAP_PORT, upstream_port=PORT) as running:
        yield running


@pytest.fixture
def tapped(session_tap: Tap, registry: Registry) -> tuple[Tap, str]:
    session_tap.forget()
    return session_tap, f"127.0.0.1:{TAP_PORT}"


def test_pull_goes_on_after_a_cut(
    client: Cargohold, tapped: tuple[Tap, str], skopeo: Skopeo, repository: str, images: ImageCache
) -> None:
    skopeo.push(images.layered().reference, f"{tapped[1]}/{repository}:v1")

    pull_over_a_cut(client, tapped, repository, images)
