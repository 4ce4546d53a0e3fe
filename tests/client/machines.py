"""A machine's configuration, in a directory."""

from collections.abc import Iterable
from pathlib import Path

from client.configuration.paths import Paths
from client.endpoints import NO_OVERRIDES, Endpoint, Overrides
from client.hosts import Hosts
from storage.oci.names import ImageReference


class Machine:
    """A root with the configuration files that a test writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = Paths({"HOME": str(root / "home")}, root / "etc")

    def write(self, name: str, text: str = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def registries(self, text: str) -> Path:
        return self.write("etc/containers/registries.conf", text)

    def containerd(self, host: str, text: str) -> Path:
        return self.write(f"etc/containerd/certs.d/{host}/hosts.toml", text)

    def docker(self, text: str) -> Path:
        return self.write("etc/docker/daemon.json", text)

    def route(self, text: str, overrides: Overrides = NO_OVERRIDES) -> tuple[Endpoint, ...]:
        return Hosts(self.paths, overrides).route(ImageReference.parse(text)).endpoints

    def expand(self, text: str) -> list[str]:
        return [str(each) for each in Hosts(self.paths).expand(text)]


def urls(endpoints: Iterable[Endpoint]) -> list[str]:
    return [
        f"{each.host.scheme.value}://{each.host.address}{each.host.api_path}/{each.repository}"
        for each in endpoints
    ]


def facts(endpoint: Endpoint) -> list[tuple[str, str]]:
    return [(fact.what, str(fact.source)) for fact in endpoint.facts]
