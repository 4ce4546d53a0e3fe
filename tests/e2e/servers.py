"""The registry under test, and the small independent reader that checks what it serves."""

import contextlib
import http.client
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.contents import Contents, of_blobs
from tests.e2e.images import INDEX_TYPE, MANIFEST_TYPE, digest_of
from tests.e2e.sandbox import Sandbox, program, wait_until

_DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (MANIFEST_TYPE, INDEX_TYPE, _DOCKER_MANIFEST_TYPE, _DOCKER_LIST_TYPE)

# Ports need no search: the namespace is the tests' own.
REGISTRY_PORT = 5000
TAP_PORT = 5001

_COMPLAINT = re.compile(r'"level": ?"(warning|error|critical)"|"status": ?5\d\d|^Traceback|^\w*Error')

_DOCKER_REGISTRY_CONFIGURATION = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: false}}}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry as programs in the sandbox reach it."""

    sandbox: Sandbox
    port: int
    speaks_oci_1_1: bool
    log: Path = field(default=Path("/dev/null"))

    @property
    def host(self) -> str:
        """The registry's part of an image reference."""
        return f"127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""

        def send() -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            with contextlib.closing(connection):
                connection.request(method, path, body=body, headers=dict(headers or {}))
                response = connection.getresponse()
                return Answer(response.status, response.headers, response.read())

        return self.sandbox.call(send)

    def manifest(self, repository: str, reference: str) -> Answer:
        """Get a manifest of any type; its digest is checked against the header."""
        path = f"/v2/{repository}/manifests/{reference}"
        answer = self.request("GET", path, {"Accept": ", ".join(MANIFEST_TYPES)})
        if answer.status == 200:
            assert answer.headers["Docker-Content-Digest"] == digest_of(answer.body)
        return answer

    def blob(self, repository: str, digest: str) -> bytes:
        """Get a blob, which must be there and be what its digest says."""
        answer = self.request("GET", f"/v2/{repository}/blobs/{digest}")
        assert answer.status == 200
        assert digest_of(answer.body) == digest
        return answer.body

    def contents(self, repository: str, reference: str) -> Contents:
        """Compute an image's digests from every byte that the registry serves for it."""
        answer = self.manifest(repository, reference)
        assert answer.status == 200
        return of_blobs(answer.body, lambda digest: io.BytesIO(self.blob(repository, digest)))


@contextlib.contextmanager
def cargohold(sandbox: Sandbox, directory: Path) -> Iterator[Registry]:
    """Run the server of this project; two workers, for clients finish an upload on another connection."""
    command = [
        str(Path(sys.executable).with_name("cargohold")), "serve", "--host", "127.0.0.1",
        "--port", str(REGISTRY_PORT), "--data", str(directory / "data"), "--workers", "2",
    ]  # fmt: skip
    # Coverage measures the server too, and finds its configuration in the environment.
    environment = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    registry = Registry(sandbox, REGISTRY_PORT, speaks_oci_1_1=True, log=directory / "log")
    with _serving(registry, command, environment):
        yield registry
    # No client here does anything that an operator should read of, nor meets a bug of ours.
    lines = registry.log.read_text().splitlines()
    assert not [line for line in lines if _COMPLAINT.search(line)]


@contextlib.contextmanager
def docker_registry(
    sandbox: Sandbox, directory: Path, port: int = REGISTRY_PORT, more: str = ""
) -> Iterator[Registry]:
    """Run Debian's docker-registry, which shows whether a failure is the test's or the server's.

    `more` is YAML for its configuration.
    """
    configuration = directory / "registry.yml"
    configuration.write_text(_DOCKER_REGISTRY_CONFIGURATION.format(data=directory / "data", port=port) + more)
    command = [program("docker-registry"), "serve", str(configuration)]
    registry = Registry(sandbox, port, speaks_oci_1_1=False, log=directory / "log")
    with _serving(registry, command, {"OTEL_TRACES_EXPORTER": "none"}):
        yield registry


@contextlib.contextmanager
def _serving(registry: Registry, command: list[str], environment: Mapping[str, str]) -> Iterator[None]:
    def answers() -> bool:
        try:
            return registry.request("GET", "/v2/").status in (200, 401)
        except OSError:
            return False

    running = registry.sandbox.running(*command, log=registry.log, environment=environment)
    with running as process:
        wait_until(answers, process, registry.log)
        yield
