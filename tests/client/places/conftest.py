"""Sessions, and registries of both kinds."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.sessions import Sessions
from storage.oci.names import RepositoryName
from tests.client.conftest import docker_registry
from tests.client.places.samples import Counted, counted


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with Sessions() as created:
        yield created


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    with counted(tmp_path_factory.mktemp("ours")) as running:
        yield running


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(tmp_path_factory.mktemp("docker")) as address:
        yield address


@pytest.fixture
def name() -> RepositoryName:
    return RepositoryName(f"test/{uuid.uuid4().hex[:12]}")


@pytest.fixture
def other_name() -> RepositoryName:
    return RepositoryName(f"other/{uuid.uuid4().hex[:12]}")


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return tmp_path / "layout"
