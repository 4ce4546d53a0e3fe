"""What is decided about a reference, by which file and line, and what happens on each step of the way."""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import httpx

from client.configuration.documents import Source
from client.credentials import Credential, Credentials
from client.endpoints import DEFAULT, Endpoint, Fact, Scheme
from client.errors import CertificateRejected, ConfigurationInvalid, Unreachable
from client.hosts import Hosts
from client.network import Network
from client.proxies import DIRECT
from client.retry import Patience
from client.session import Session
from storage.oci.errors import RegistryError
from storage.oci.names import ImageReference, Tag

_ENVIRONMENT = Source("the environment")


@dataclass(frozen=True, slots=True)
class Check:
    """One step of the way: what came of it, and its error if it failed."""

    name: str
    result: str
    error: RegistryError | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """An endpoint: what holds for it and who says so, and how far one gets there."""

    endpoint: Endpoint
    url: str
    facts: tuple[Fact, ...]
    checks: tuple[Check, ...]

    @property
    def error(self) -> RegistryError | None:
        """What keeps the image from being had here. Many registries refuse the bare API, and serve images."""
        last = self.checks[-1] if self.checks else None
        return last.error if last is not None else None


@dataclass(frozen=True, slots=True)
class Report:
    """What a reference leads to: its endpoints in the order in which they are asked."""

    reference: ImageReference
    endpoints: tuple[Examined, ...]

    @property
    def error(self) -> RegistryError | None:
        """What is wrong with the registry itself; mirrors are a help that may fail."""
        return self.endpoints[-1].error


class Doctor:
    """Follows references as a pull would, without trying anything twice."""

    def __init__(self, hosts: Hosts, credentials: Credentials, network: Network) -> None:
        self._hosts = hosts
        self._credentials = credentials
        self._network = replace(network, patience=Patience(attempts=1))

    def examine(self, text: str) -> tuple[Report, ...]:
        """Examine all that a reference may mean. Raises Blocked, ConfigurationInvalid, NameInvalid."""
        return tuple(self._report(reference) for reference in self._hosts.expand(text))

    def _report(self, reference: ImageReference) -> Report:
        route = self._hosts.route(reference)
        return Report(reference, tuple(self._examine(each, reference) for each in route.endpoints))

    def _examine(self, endpoint: Endpoint, reference: ImageReference) -> Examined:
        facts = (*endpoint.facts, *self._tls(endpoint), self._credential(endpoint), self._proxy(endpoint))
        checks = tuple(self._checks(endpoint, reference))
        return Examined(endpoint, f"{_base(endpoint)}{endpoint.host.api_path}/", facts, checks)

    def _tls(self, endpoint: Endpoint) -> Iterator[Fact]:
        """Say which files stand behind `its certificates`."""
        tls = endpoint.host.tls
        for path in tls.ca_files:
            yield Fact("trusted authority", Source(str(path)))
        for certificate, _ in tls.client_certificates:
            yield Fact("client certificate", Source(str(certificate)))
        if names := ", ".join(endpoint.host.headers):
            yield Fact(f"sent along: {names}", DEFAULT if not endpoint.facts else endpoint.facts[0].source)

    def _credential(self, endpoint: Endpoint) -> Fact:
        try:
            found = self._credentials.find(endpoint.host.name, endpoint.repository)
        except RegistryError as error:
            return Fact("a credential that cannot be used", Source(error.message))
        if found is None:
            return Fact("no credential", Source("no file has one"))
        return Fact(f"credential: {_identity(found)}", Source(found.source or "the caller"))

    def _proxy(self, endpoint: Endpoint) -> Fact:
        try:
            proxy = self._network.proxies.of(httpx.URL(_base(endpoint)))
        except ConfigurationInvalid as error:
            return Fact("a proxy that cannot be used", Source(error.message))
        if proxy is not None:
            return Fact(f"proxy: {_shown(proxy)}", _ENVIRONMENT)
        return Fact("no proxy", DEFAULT if self._network.proxies == DIRECT else _ENVIRONMENT)

    def _checks(self, endpoint: Endpoint, reference: ImageReference) -> Iterator[Check]:
        """Go one step after the other, up to the first that bars the way."""
        way = _Way(endpoint, self._network)
        for name, step in (("name", way.look_up), ("connection", way.connect)):
            check = _check(name, step)
            yield check
            if check.error is not None:
                return
        with Session(endpoint.host, self._credentials, self._network) as session:
            yield _check("access", lambda: _ping(session))
            if isinstance(reference.reference, Tag) and not endpoint.serves_tags:
                return
            yield _check("manifest", lambda: _head(session, endpoint, reference))


class _Way:
    """The way to an endpoint below HTTP: names, connections, TLS; with a proxy, the way to that."""

    def __init__(self, endpoint: Endpoint, network: Network) -> None:
        self._host = endpoint.host
        self._network = network
        self._url = httpx.URL(_base(endpoint))
        self._addresses: Sequence[str] = ()

    def look_up(self) -> str:
        target = self._target()
        self._addresses = self._network.resolve(target.host, _port(target))
        return ", ".join(self._addresses)

    def connect(self) -> str:
        target = self._target()
        with closing(self._open(_port(target))) as connection:
            where = f"{connection.getpeername()[0]}:{_port(target)}"
            if target is not self._url:
                return f"{where}, the proxy"
            if self._host.scheme is Scheme.HTTP:
                return f"{where}, plain http"
            return f"{where}, {self._shake_hands(connection)}"

    def _target(self) -> httpx.URL:
        return self._network.proxies.of(self._url) or self._url

    def _open(self, port: int) -> socket.socket:
        failures = []
        for address in self._addresses:
            seconds = self._network.deadline.limit(self._network.timeouts.connect_seconds)
            try:
                return socket.create_connection((address, port), seconds)
            except OSError as error:
                failures.append(f"{address}: {error.strerror or error}")
        raise Unreachable(f"cannot connect to port {port}: {'; '.join(failures)}")

    def _shake_hands(self, connection: socket.socket) -> str:
        context = self._host.tls.context()
        try:
            with context.wrap_socket(connection, server_hostname=self._url.host) as secured:
                return _certificate(secured)
        except ssl.SSLCertVerificationError as error:
            raise CertificateRejected(f"its certificate: {error.verify_message}") from error
        except OSError as error:
            if self._host.scheme is Scheme.EITHER:
                return "no TLS, so plain http"
            raise Unreachable(f"the TLS handshake failed: {error.strerror or error}") from error


def _check(name: str, step: Callable[[], str]) -> Check:
    try:
        return Check(name, step())
    except RegistryError as error:
        return Check(name, error.message, error)


def _ping(session: Session) -> str:
    session.ping()
    return "the registry lets us in"


def _head(session: Session, endpoint: Endpoint, reference: ImageReference) -> str:
    found = session.head_manifest(endpoint.repository, reference.reference)
    return f"{found.digest}, {found.size} bytes, {found.media_type}"


def _certificate(secured: ssl.SSLSocket) -> str:
    """Say who the server is, as far as anybody has checked it."""
    certificate = secured.getpeercert()
    if not certificate:
        return f"{secured.version()}, not verified"
    names: Any = certificate.get("issuer", ())  # typed as what OpenSSL may give, which is broader than this
    issuer = dict(pair for entry in names for pair in entry)
    name = issuer.get("organizationName") or issuer.get("commonName") or "nobody"
    return f"{secured.version()}, issued by {name} until {certificate.get('notAfter')}"


def _base(endpoint: Endpoint) -> str:
    scheme = "http" if endpoint.host.scheme is Scheme.HTTP else "https"
    return f"{scheme}://{endpoint.host.address}"


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _shown(url: httpx.URL) -> str:
    """Write a proxy without its user."""
    return f"{url.scheme}://{url.host}:{_port(url)}"


def _identity(credential: Credential) -> str:
    """Say what a credential is, never its secret."""
    if credential.registry_token:
        return "a token"
    kind = "a refresh token" if credential.identity_token else "a password"
    return f"{credential.username}, {kind}" if credential.username else kind
