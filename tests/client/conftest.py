"""Real registries a module, sessions to them and to lying servers, and a clock that does not wait."""

import collections
import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from client.credentials import ANONYMOUS, Credentials
from client.endpoints import Host, Scheme
from client.network import Network
from client.retry import Patience
from client.session import Session
from client.sources import RepositorySource, Source
from registry.settings import Settings
from storage.oci.names import RepositoryName
from tests.client.clocks import FakeClock
from tests.client.homes import Home
from tests.client.machines import Machine
from tests.client.moving import NAME, Mover
from tests.registry.conftest import serving

_DOCKER_REGISTRY = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""

Open = Callable[..., Session]


@contextmanager
def docker_registry(directory: Path, more: str = "") -> Iterator[str]:
    """Run Debian's docker-registry; it has started when it says so. `more` is YAML for its configuration."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = directory / "registry.yml"
    configuration.write_text(_DOCKER_REGISTRY.format(data=directory / "data", port=port) + more)
    # It takes REGISTRY_* for configuration, and stumbles over AWS_CA_BUNDLE.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "AWS_"))
    }
    process = subprocess.Popen(
        ["docker-registry", "serve", configuration],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**environment, "OTEL_TRACES_EXPORTER": "none"},
    )
    with process:
        log = process.stderr
        assert log is not None
        try:
            assert any(b"listening on" in line for line in log)
            # What nobody reads would stop it when the pipe is full.
            threading.Thread(target=lambda: collections.deque(log, maxlen=0)).start()
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def our_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(data=tmp_path_factory.mktemp("ours"), access_log=False, collect_every_seconds=0)
    with serving(settings) as url:
        yield url.removeprefix("http://")


@pytest.fixture(scope="module", params=["cargohold", "docker-registry"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry: ours, and the one that most clients were made for."""
    if request.param == "cargohold":
        yield request.getfixturevalue("our_registry")
    elif shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    else:
        with docker_registry(tmp_path_factory.mktemp("docker")) as address:
            yield address


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def name() -> RepositoryName:
    return RepositoryName(f"test/{uuid.uuid4().hex[:12]}")


@pytest.fixture
def open_session(clock: FakeClock) -> Iterator[Open]:
    """Make sessions that are closed when the test ends."""
    with ExitStack() as stack:

        def make(
            address: str,
            credentials: Credentials = ANONYMOUS,
            network: Network | None = None,
            host: Host | None = None,
        ) -> Session:
            host = host or Host(address, address, Scheme.HTTP)
            session = Session(host, credentials, network or Network(deadline=clock.deadline()))
            return stack.enter_context(session)

        yield make


@pytest.fixture
def mover(tmp_path: Path, clock: FakeClock) -> Mover:
    return Mover(tmp_path, clock)


@pytest.fixture
def source(open_session: Open, clock: FakeClock) -> Callable[[str], Source]:
    """Make sources whose sessions do not repeat much by themselves."""

    def make(address: str) -> Source:
        network = Network(deadline=clock.deadline(), patience=Patience(attempts=2))
        return RepositorySource(open_session(address, network=network), NAME)

    return make


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return Home(tmp_path, monkeypatch)
