"""A registry as it is reached: a host, a repository on it, and what is known about both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from client.configuration.documents import Source
from client.tls import Tls
from storage.oci.names import ImageReference, RepositoryName

DEFAULT = Source("built in")
FLAG = Source("the command line")


class Scheme(Enum):
    HTTPS = "https"
    HTTP = "http"
    # What docker and podman do with loopback and insecure hosts: TLS, and plain http if there is none.
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Host:
    """One registry host. `name` is how references and credentials call it; `address` is connected to."""

    name: str
    address: str
    scheme: Scheme = Scheme.HTTPS
    api_path: str = "/v2"
    tls: Tls = field(default_factory=Tls)
    # Sent to this host only: they may be secret.
    headers: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    # Tells a mirror of many registries which one is meant, as containerd does with `?ns=`.
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that was decided about an endpoint, and by whom."""

    what: str
    source: Source


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A repository at a host, which may serve for one reference."""

    host: Host
    repository: RepositoryName
    is_mirror: bool = False
    serves_tags: bool = True
    serves_digests: bool = True
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """Where to get what a reference names: mirrors first, the registry itself last."""

    reference: ImageReference
    endpoints: tuple[Endpoint, ...]

    @property
    def origin(self) -> Endpoint:
        """The registry itself: what is pushed goes there, and only there."""
        return self.endpoints[-1]

    def for_tags(self) -> tuple[Endpoint, ...]:
        return tuple(each for each in self.endpoints if each.serves_tags)

    def for_digests(self) -> tuple[Endpoint, ...]:
        """Return those that serve what a digest names: manifests by digest, and blobs."""
        return tuple(each for each in self.endpoints if each.serves_digests)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says of the registry that it names; mirrors and other hosts are not meant."""

    plain_http: bool = False
    verify: bool = True
    ca_files: tuple[Path, ...] = ()
    client_certificates: tuple[tuple[Path, Path], ...] = ()


NO_OVERRIDES = Overrides()
