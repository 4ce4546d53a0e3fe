"""Fixtures: a sandbox, a registry and the daemons for a session; a store and a repository name a test."""

import contextlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import clients, sandbox, servers, tap
from tests.e2e.clients import Client, Ctr, Daemon, Docker
from tests.e2e.images import ImageCache
from tests.e2e.sandbox import Sandbox
from tests.e2e.servers import REGISTRY_PORT, TAP_PORT, Registry
from tests.e2e.tap import Tap

# `CARGOHOLD_E2E_REGISTRY=docker-registry` runs the same tests on another server.
_SERVERS = {"cargohold": servers.cargohold, "docker-registry": servers.docker_registry}
_ROOM_FOR_STORES = 4 << 30
_PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def lab() -> Iterator[Sandbox]:
    """The network namespace of this session."""
    # A short path: podman refuses a run root of more than 50 characters, and sockets end at 107.
    directory = Path(tempfile.mkdtemp(prefix="hold-", dir=_directory_of_stores()))
    try:
        with sandbox.create(directory) as created:
            yield created
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def images(lab: Sandbox) -> ImageCache:
    """The images, kept from run to run."""
    return ImageCache(_PROJECT / ".cache/e2e", lab)


@pytest.fixture(scope="session")
def registry(lab: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The registry under test; its data is on disk, and its log stays for who looks into a failure."""
    directory = tmp_path_factory.mktemp("registry")
    serve = _SERVERS[os.environ.get("CARGOHOLD_E2E_REGISTRY", "cargohold")]
    with serve(lab, directory) as running:
        yield running
    shutil.rmtree(directory / "data", ignore_errors=True)


@pytest.fixture(scope="session")
def session_tap(lab: Sandbox) -> Iterator[Tap]:
    """The relay in front of the registry."""
    with tap.tapping(lab, port=TAP_PORT, upstream_port=REGISTRY_PORT) as running:
        yield running


@pytest.fixture
def tapped(session_tap: Tap, registry: Registry) -> tuple[Tap, str]:
    """The relay, and the host name by which a client reaches the registry through it."""
    session_tap.forget()
    return session_tap, f"127.0.0.1:{TAP_PORT}"


@pytest.fixture(scope="session")
def dockerd(lab: Sandbox) -> Iterator[Daemon]:
    """The docker daemon of this session."""
    directory = lab.directory / "docker"
    directory.mkdir()
    with clients.dockerd(lab, directory) as running:
        yield running


@pytest.fixture(scope="session")
def containerd(lab: Sandbox) -> Iterator[Daemon]:
    """The containerd of this session."""
    directory = lab.directory / "containerd"
    directory.mkdir()
    with clients.containerd(lab, directory) as running:
        yield running


@pytest.fixture
def workshop(lab: Sandbox) -> Iterator[Path]:
    """A directory for one client's store, gone after the test: the stores are large."""
    with _directory(lab) as directory:
        yield directory


@pytest.fixture(scope="module")
def shared_workshop(lab: Sandbox) -> Iterator[Path]:
    """A directory for what the tests of a module look at together."""
    with _directory(lab) as directory:
        yield directory


@contextlib.contextmanager
def _directory(lab: Sandbox) -> Iterator[Path]:
    directory = lab.directory / uuid.uuid4().hex[:8]
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def skopeo(lab: Sandbox, workshop: Path) -> clients.Skopeo:
    """skopeo, to look and to prepare with."""
    return clients.Skopeo(lab, workshop)


@pytest.fixture
def cargohold(lab: Sandbox, workshop: Path) -> clients.Cargohold:
    """This project's client."""
    return clients.Cargohold(lab, workshop)


@pytest.fixture(params=["cargohold", "skopeo", "podman", "buildah", "docker", "ctr"])
def client(request: pytest.FixtureRequest, lab: Sandbox, workshop: Path) -> Client:
    """Each client in turn."""
    return _client(request, lab, workshop)


@pytest.fixture(params=["skopeo", "podman", "buildah", "docker", "ctr"])
def other(request: pytest.FixtureRequest, lab: Sandbox, workshop: Path) -> Client:
    """Each client that others wrote."""
    return _client(request, lab, workshop)


def _client(request: pytest.FixtureRequest, lab: Sandbox, workshop: Path) -> Client:
    if request.param == "cargohold":
        return clients.Cargohold(lab, workshop)
    sandbox.program(request.param)
    match request.param:
        case "skopeo":
            return clients.Skopeo(lab, workshop)
        case "podman":
            return clients.Podman(lab, workshop)
        case "buildah":
            return clients.Buildah(lab, workshop)
        case "docker":
            return _emptied(Docker(lab, workshop, request.getfixturevalue("dockerd")))
        case _:
            return Ctr(lab, workshop, request.getfixturevalue("containerd"))


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository name that no other test uses."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"e2e/{name}-{uuid.uuid4().hex[:8]}"


def _directory_of_stores() -> Path | None:
    """Choose memory for the clients' stores where there is enough: unpacking on disk triples the time."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > _ROOM_FOR_STORES
    return memory if roomy else None


def _emptied(docker: Docker) -> Docker:
    docker.empty()
    return docker
