"""containerd's hosts.toml. Source: containerd's docs/hosts.md."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from client.configuration.documents import Document, Place, Source, read_toml
from client.errors import ConfigurationInvalid
from client.tls import Tls

_is_header_name = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_is_header_value = re.compile(r"[\t\x20-\x7e]*").fullmatch
_CAPABILITIES = frozenset({"pull", "resolve", "push"})


@dataclass(frozen=True, slots=True)
class NamedHost:
    """One host that may answer for a registry."""

    url: httpx.URL
    source: Source
    tls: Tls
    # The path of the API on it.
    api_path: str = "/v2"
    capabilities: frozenset[str] = _CAPABILITIES
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    # Whether its file says http or https, or leaves it to us.
    has_scheme: bool = True


@dataclass(frozen=True, slots=True)
class HostsToml:
    """What one file says: the hosts to try in their order, and the registry itself if it is elsewhere."""

    hosts: tuple[NamedHost, ...]
    server: NamedHost | None


def read(directory: Path, registry: str) -> HostsToml | None:
    """Read what is said about a registry, or about those that nothing is said about (`_default`).

    Raises ConfigurationInvalid.
    """
    host, colon, port = registry.rpartition(":")
    names = [registry, *([f"{host}_{port}_"] if colon else []), "_default"]
    for name in names:
        document = read_toml(directory / name / "hosts.toml")
        if document is not None:
            return _read(document, directory / name)
    return None


def _read(document: Document, directory: Path) -> HostsToml:
    hosts = tuple(_host(document, ("host", url), url, directory) for url in document.table("host"))
    server = document.text("server")
    return HostsToml(hosts, _host(document, (), server, directory) if server else None)


def _host(document: Document, place: Place, text: str, directory: Path) -> NamedHost:
    at: Place = place or ("server",)
    document.table(*place)  # raises, unless it is one
    has_scheme = "://" in text
    try:
        url = httpx.URL(text if has_scheme else f"https://{text}")
    except httpx.InvalidURL as error:
        raise document.error(f"not a URL: {text!r}", *at) from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise document.error("not an http or https URL without a user", *at)
    path = url.path.rstrip("/")
    capabilities = frozenset(document.texts(*place, "capabilities")) or _CAPABILITIES
    if not capabilities <= _CAPABILITIES:
        raise document.error("capabilities other than pull, resolve and push", *place, "capabilities")
    return NamedHost(
        url,
        document.source(*at),
        Tls(
            verify=not document.flag(*place, "skip_verify"),
            ca_files=tuple(directory / name for name in document.texts(*place, "ca")),
            client_certificates=tuple(_certificates(document, (*place, "client"), directory)),
        ),
        path if document.flag(*place, "override_path") else f"{path}/v2",
        capabilities,
        dict(_headers(document, (*place, "header"))),
        has_scheme,
    )


def _headers(document: Document, place: Place) -> Iterator[tuple[str, str]]:
    """Read what is sent along; a value may be secret, so that a message names its header alone."""
    for name in document.table(*place):
        value = ", ".join(document.texts(*place, name))
        if not _is_header_name(name) or not _is_header_value(value):
            raise document.error(f"not a header: {name[:50]!r}", *place, name)
        yield name, value


def _certificates(document: Document, place: Place, directory: Path) -> list[tuple[Path, Path]]:
    """Read `client`: one file with certificate and key, several, or pairs of both."""
    value: object = document.members
    for step in place:
        value = value.get(step) if isinstance(value, dict) else None
    entries = value if isinstance(value, list) else [] if value is None else [value]
    pairs = []
    for entry in entries:
        names = [entry, entry] if isinstance(entry, str) else entry
        if not (isinstance(names, list) and len(names) == 2 and all(isinstance(name, str) for name in names)):
            raise ConfigurationInvalid(f"{document.source(*place)}: client is not files or pairs of files")
        certificate, key = names
        pairs.append((directory / certificate, directory / (key or certificate)))
    return pairs
