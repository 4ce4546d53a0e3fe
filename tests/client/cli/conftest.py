"""The real program in a subprocess, with a home and configuration of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.client.cli.program import Cargohold
from tests.client.conftest import docker_registry
from tests.client.homes import Home
from tests.registry.pushing import Repository

# bcrypt of "secret"
_HTPASSWD = "me:$2b$04$YqeTh46f9bAk822qS28hQOG.fweDhC4Fx9icOF058XrJ/VQstYMp2\n"


@pytest.fixture
def cargohold(home: Home) -> Cargohold:
    return Cargohold(home)


@pytest.fixture(scope="module")
def closed_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry, which lets `me` in, who has the password `secret`."""
    with closed(tmp_path_factory.mktemp("closed")) as address:
        yield address


@contextmanager
def closed(directory: Path) -> Iterator[str]:
    htpasswd = directory / "htpasswd"
    htpasswd.write_text(_HTPASSWD)
    with docker_registry(directory, f"auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}\n") as address:
        yield address


@pytest.fixture
def repository(registry: str, request: pytest.FixtureRequest) -> Iterator[Repository]:
    """A repository at each registry, with a name of the test's own."""
    name = request.getfixturevalue("name")
    with httpx.Client(base_url=f"http://{registry}") as client:
        yield Repository(client, str(name))
