"""Which hosts answer for a reference, in which order, how, and who says so."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import httpx

from client.configuration import containerd, docker_daemon, registries_conf
from client.configuration.containerd import HostsToml, NamedHost
from client.configuration.docker_daemon import DockerDaemon
from client.configuration.documents import Source
from client.configuration.paths import Paths
from client.configuration.registries_conf import Location, RegistriesConf, Registry
from client.destinations import is_loopback
from client.endpoints import (
    DEFAULT,
    FLAG,
    NO_OVERRIDES,
    Endpoint,
    Fact,
    Host,
    Overrides,
    Route,
    Scheme,
)
from client.errors import Blocked, ConfigurationInvalid
from client.tls import Tls
from storage.oci.errors import DigestInvalid, NameInvalid
from storage.oci.names import DOCKER_HUB, LATEST, ImageReference, RepositoryName

HUB_ADDRESS = "registry-1.docker.io"

_split = re.compile(r"([^@]*?)((?::[^/:@]*)?(?:@.*)?)", re.DOTALL).fullmatch


class Hosts:
    """What this machine's configuration says about registries, read when it is first asked for.

    Mirrors come from registries.conf, hosts.toml and daemon.json in this order, each once.
    """

    def __init__(self, paths: Paths, overrides: Overrides = NO_OVERRIDES) -> None:
        self._paths = paths
        self._overrides = overrides

    def route(self, reference: ImageReference) -> Route:
        """Return the endpoints for a reference. Raises Blocked, ConfigurationInvalid."""
        name = f"{reference.host}/{reference.repository}"
        entry = self._registries.find(name)
        if entry is not None and entry.is_blocked:
            raise Blocked(f"{reference.host} is blocked by {entry.source}")
        toml = containerd.read(self._paths.containerd, reference.host)
        mirrors = [
            *self._podman_mirrors(entry, name),
            *self._containerd_mirrors(toml, reference),
            *self._docker_mirrors(reference),
        ]
        distinct = {
            (each.host.address, each.host.api_path, each.repository): each for each in reversed(mirrors)
        }
        origin = self._origin(reference, entry, toml, name)
        return Route(reference, (*reversed(distinct.values()), origin))

    def tls(self, address: str) -> Tls:
        """Return how a host that a registry sends us to is verified: as a registry there is (NET-08)."""
        found = docker_daemon.read_certificates(self._paths.certificates, address)
        return replace(found[0] if found else Tls(), verify=self._insecure(address) is None)

    def expand(self, text: str) -> tuple[ImageReference, ...]:
        """Read a reference as a user writes it; a short one may mean several, to be tried in turn.

        Without anything configured `ubuntu` is docker.io/library/ubuntu, as docker has it.
        Raises NameInvalid, DigestInvalid, ConfigurationInvalid.
        Source: containers-registries.conf(5), "Short-Name".
        """
        reference = ImageReference.parse(text)
        first, slash, _ = text.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
            return (reference,)
        parts = _split(text)
        name, suffix = parts.groups() if parts else (text, "")
        if name in self._registries.aliases:
            target, source = self._registries.aliases[name]
            return (_parse(target + suffix, source),)
        search, source = self._registries.search, self._registries.search_source or DEFAULT
        if len(search) > 1 and self._registries.short_name_mode == "enforcing":
            raise NameInvalid(f"{text} may be in {', '.join(search)} ({source}): name the registry")
        return tuple(_parse(f"{registry}/{text}", source) for registry in search) or (reference,)

    @cached_property
    def _registries(self) -> RegistriesConf:
        return registries_conf.read(self._paths.registries)

    @cached_property
    def _docker(self) -> DockerDaemon:
        return docker_daemon.read(self._paths.docker_daemon)

    def _origin(
        self, reference: ImageReference, entry: Registry | None, toml: HostsToml | None, name: str
    ) -> Endpoint:
        if toml is not None and toml.server is not None and _address(toml.server.url) != reference.host:
            return self._named(toml.server, reference, Fact("in the registry's place", toml.server.source))
        if entry is None:
            fact = Fact("the registry itself", DEFAULT)
            return self._endpoint(reference.host, reference.repository, fact, is_named=True)
        host, repository = _located(entry, entry.origin, name)
        fact = Fact("the registry itself", DEFAULT if host == reference.host else entry.origin.source)
        return self._endpoint(host, repository, fact, is_named=True, insecure=_insecure(entry.origin))

    def _podman_mirrors(self, entry: Registry | None, name: str) -> Iterator[Endpoint]:
        if entry is None:
            return
        for mirror in entry.mirrors:
            host, repository = _located(entry, mirror, name)
            fact = Fact(f"a mirror of {entry.prefix}", mirror.source)
            endpoint = self._endpoint(host, repository, fact, insecure=_insecure(mirror))
            yield replace(
                endpoint,
                is_mirror=True,
                serves_tags=mirror.pulls != "digest-only",
                serves_digests=mirror.pulls != "tag-only",
            )

    def _containerd_mirrors(self, toml: HostsToml | None, reference: ImageReference) -> Iterator[Endpoint]:
        for named in toml.hosts if toml else ():
            endpoint = self._named(named, reference, Fact(f"a mirror of {reference.host}", named.source))
            yield replace(
                endpoint,
                is_mirror=True,
                serves_tags="resolve" in named.capabilities,
                serves_digests="pull" in named.capabilities,
            )

    def _docker_mirrors(self, reference: ImageReference) -> Iterator[Endpoint]:
        """Yield those of daemon.json, which are Docker Hub's alone."""
        for url, source in self._docker.mirrors if reference.host == DOCKER_HUB else ():
            fact = Fact(f"a mirror of {DOCKER_HUB}", source)
            endpoint = self._endpoint(_address(url), reference.repository, fact, scheme=Scheme(url.scheme))
            host = replace(endpoint.host, api_path=f"{url.path.rstrip('/')}/v2")
            yield replace(endpoint, is_mirror=True, host=host)

    def _named(self, named: NamedHost, reference: ImageReference, fact: Fact) -> Endpoint:
        address = _address(named.url)
        scheme = Scheme(named.url.scheme) if named.has_scheme else None
        insecure = None if named.tls.verify else named.source
        endpoint = self._endpoint(address, reference.repository, fact, scheme=scheme, insecure=insecure)
        tls, more = endpoint.host.tls, named.tls
        host = replace(
            endpoint.host,
            api_path=named.api_path,
            tls=replace(
                tls,
                ca_files=tls.ca_files + more.ca_files,
                client_certificates=tls.client_certificates + more.client_certificates,
            ),
            headers=named.headers,
            namespace=None if address == reference.host else reference.host,
        )
        return replace(endpoint, host=host)

    def _endpoint(
        self,
        name: str,
        repository: RepositoryName,
        fact: Fact,
        *,
        scheme: Scheme | None = None,
        insecure: Source | None = None,
        is_named: bool = False,
    ) -> Endpoint:
        """Put together what all that holds for one host; `is_named` is one that the command line means."""
        overrides = self._overrides if is_named else NO_OVERRIDES
        found = docker_daemon.read_certificates(self._paths.certificates, name)
        tls, facts = Tls(), [fact]
        if found:
            tls = found[0]
            facts.append(Fact("its certificates", found[1]))
        insecure = FLAG if not overrides.verify else insecure or self._insecure(name)
        if insecure:
            facts.append(Fact("not verified", insecure))
        if overrides.ca_files or overrides.client_certificates:
            facts.append(Fact("its certificates", FLAG))
        scheme, source = _scheme(name, scheme, insecure, overrides, fact.source)
        facts.append(Fact(_SCHEMES[scheme], source))
        tls = Tls(
            insecure is None,
            tls.ca_files + overrides.ca_files,
            tls.client_certificates + overrides.client_certificates,
        )
        address = HUB_ADDRESS if name == DOCKER_HUB else name
        return Endpoint(Host(name, address, scheme, tls=tls), repository, facts=tuple(facts))

    def _insecure(self, address: str) -> Source | None:
        """Say who calls a host insecure, in whatever place it is used."""
        entry = self._registries.find(address)
        if entry is not None and entry.origin.is_insecure and entry.origin.location in ("", address):
            return entry.origin.source
        return self._docker.find_insecure(address)


_SCHEMES = {
    Scheme.HTTPS: "https",
    Scheme.HTTP: "plain http",
    Scheme.EITHER: "https, or plain http where there is no TLS",
}


def _scheme(
    name: str, given: Scheme | None, insecure: Source | None, overrides: Overrides, source: Source
) -> tuple[Scheme, Source]:
    if overrides.plain_http:
        return Scheme.HTTP, FLAG
    if given is not None:
        return given, source
    if insecure is not None:
        return Scheme.EITHER, insecure
    host = httpx.URL(f"http://{name}").host
    return (Scheme.EITHER if is_loopback(host) else Scheme.HTTPS), DEFAULT


def _insecure(location: Location) -> Source | None:
    return location.source if location.is_insecure else None


def _located(entry: Registry, location: Location, name: str) -> tuple[str, RepositoryName]:
    """Return host and repository of a location. Raises ConfigurationInvalid when it has no such form."""
    reference = _parse(entry.rewrite(location, name), location.source)
    if reference.tag != LATEST:
        raise ConfigurationInvalid(f"{location.source}: a location has no tag: {location.location!r}")
    return reference.host, reference.repository


def _parse(text: str, source: Source) -> ImageReference:
    try:
        return ImageReference.parse(text)
    except (NameInvalid, DigestInvalid) as error:
        raise ConfigurationInvalid(f"{source}: {error.message}") from error


def _address(url: httpx.URL) -> str:
    """Return host[:port] as references write it."""
    address = url.netloc.decode("ascii")
    return DOCKER_HUB if address in (HUB_ADDRESS, "index.docker.io") else address
