"""dockerd's daemon.json, and the certs.d directories. Source: dockerd(8); containers-certs.d(5)."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx

from client.configuration.documents import Source, read_json
from client.errors import ConfigurationInvalid
from client.tls import Tls


@dataclass(frozen=True, slots=True)
class DockerDaemon:
    """Mirrors of Docker Hub, and hosts or networks with bad certificates or without any."""

    mirrors: tuple[tuple[httpx.URL, Source], ...] = ()
    insecure: tuple[tuple[str, Source], ...] = ()

    def find_insecure(self, address: str) -> Source | None:
        """Say where a host[:port] is called insecure: by just that name, or by the network it is in."""
        host = address.rpartition(":")[0] if _has_port(address) else address
        for entry, source in self.insecure:
            if entry.rstrip("/") == address or _covers(entry, host):
                return source
        return None


def read(paths: Iterable[Path]) -> DockerDaemon:
    """Read the first daemon.json that there is. Raises ConfigurationInvalid."""
    for path in paths:
        document = read_json(path)
        if document is None:
            continue
        mirrors = [
            (
                _mirror(text, document.source("registry-mirrors", index)),
                document.source("registry-mirrors", index),
            )
            for index, text in enumerate(document.texts("registry-mirrors"))
        ]
        insecure = [
            (text.partition("://")[2] or text, document.source("insecure-registries", index))
            for index, text in enumerate(document.texts("insecure-registries"))
        ]
        return DockerDaemon(tuple(mirrors), tuple(insecure))
    return DockerDaemon()


def read_certificates(directories: Iterable[Path], address: str) -> tuple[Tls, Source] | None:
    """Read what the first certs.d directory with an entry for host[:port] has: CAs, client certificates.

    Raises ConfigurationInvalid for a certificate without its key.
    """
    for directory in directories:
        entry = directory / address
        try:
            names = sorted(path.name for path in entry.iterdir())
        except OSError:
            continue  # not there, or closed to this user
        pairs = []
        for name in names:
            if name.endswith(".cert"):
                key = f"{name.removesuffix('.cert')}.key"
                if key not in names:
                    raise ConfigurationInvalid(f"{entry / name}: there is no {key} beside it")
                pairs.append((entry / name, entry / key))
        authorities = tuple(entry / name for name in names if name.endswith(".crt"))
        return Tls(ca_files=authorities, client_certificates=tuple(pairs)), Source(str(entry))
    return None


def _mirror(text: str, source: Source) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ConfigurationInvalid(f"{source}: not a URL: {text!r}") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise ConfigurationInvalid(f"{source}: not an http or https URL: {url.scheme}://{url.host}")
    return url


def _has_port(address: str) -> bool:
    return address.rpartition(":")[2].isdigit() and (not address.startswith("[") or "]:" in address)


def _covers(network: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")) in ipaddress.ip_network(network)
    except ValueError:
        return False
