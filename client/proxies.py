"""Proxies from the environment, as Go programs read it: docker, podman and skopeo share one set-up.

Source: golang.org/x/net/http/httpproxy.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from client.destinations import is_loopback
from client.errors import ConfigurationInvalid


@dataclass(frozen=True, slots=True)
class Proxies:
    http: str | None = None
    https: str | None = None
    exceptions: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Proxies":
        """Read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, or their lower-case forms."""

        def get(name: str) -> str | None:
            return environment.get(name) or environment.get(name.lower()) or None

        every = get("ALL_PROXY")
        # In a CGI program HTTP_PROXY would be a request's `Proxy` header (CVE-2016-5385).
        http = None if "REQUEST_METHOD" in environment else get("HTTP_PROXY")
        exceptions = (get("NO_PROXY") or "").replace(",", " ").lower().split()
        return cls(http or every, get("HTTPS_PROXY") or every, tuple(exceptions))

    def of(self, url: httpx.URL) -> httpx.URL | None:
        """Return the proxy for a URL. Raises ConfigurationInvalid for one that is no http or https URL."""
        text = self.https if url.scheme == "https" else self.http
        if text is None or is_loopback(url.host) or any(_covers(each, url) for each in self.exceptions):
            return None
        try:
            proxy = httpx.URL(text if "://" in text else f"http://{text}")
        except httpx.InvalidURL as error:
            raise ConfigurationInvalid(f"the proxy in the environment is not a URL: {error}") from error
        if proxy.scheme not in ("http", "https") or not proxy.host:
            raise ConfigurationInvalid(
                f"the proxy in the environment is neither http nor https: {proxy.scheme}://{proxy.host}"
            )
        return proxy


DIRECT = Proxies()


def _covers(exception: str, url: httpx.URL) -> bool:
    """Tell whether an entry of NO_PROXY means this host: `*`, a network, an address or a domain."""
    if exception == "*":
        return True
    host, port = _split_port(exception)
    if port is not None and port != (url.port or (443 if url.scheme == "https" else 80)):
        return False
    if _covers_address(host, url.host):
        return True
    name = url.host.lower().rstrip(".")
    if host.startswith(("*.", ".")):
        return name.endswith(host.removeprefix("*"))
    return name == host or name.endswith(f".{host}")


def _covers_address(network: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _split_port(exception: str) -> tuple[str, int | None]:
    host, colon, port = exception.rpartition(":")
    if colon and port.isascii() and port.isdigit() and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(port)
    return exception.strip("[]"), None
