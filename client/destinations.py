"""Where an answer may send us: redirects, token realms, upload locations, next pages, foreign layers.

One rule for all of them (NET-01..NET-05), because a rule a source forgot is the whole attack.
"""

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import httpx

from client.errors import DestinationRefused, Unreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], tuple[str, ...]]

_networks = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
_SHARED = ipaddress.ip_network("100.64.0.0/10")
# Where clouds answer with the machine's own credentials; some lie in ranges that are otherwise in use.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")))
_is_numeric = re.compile(
    r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}\.?", re.IGNORECASE
).fullmatch
# Below these, strangers own the next label: only the very same host is the same owner.
_SHARED_SUFFIXES = (
    "amazonaws.com", "azurecr.io", "azurewebsites.net", "cloudfront.net", "github.io", "gitlab.io",
    "googleapis.com", "pages.dev", "run.app", "vercel.app", "web.app", "workers.dev",
)  # fmt: skip
_SECOND_LEVELS = frozenset({"ac", "co", "com", "edu", "gov", "net", "or", "org"})


class Reach(IntEnum):
    """From where an address can be reached; an answer may not send us nearer than its registry is."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2


def resolve(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses of a name. Raises Unreachable when it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"cannot resolve {host}: {error}") from error
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Destinations:
    """Decides for one registry. `strict` is for servers: then only public addresses, and `allowed` hosts."""

    registry: httpx.URL
    strict: bool = False
    allowed: frozenset[str] = frozenset()
    resolve: Resolve = field(default=resolve)

    def check(self, url: httpx.URL, source: httpx.URL | None, what: str) -> None:
        """Refuse a URL that `source`, the page that named it, may not send us to; `what` names it in words.

        Raises DestinationRefused.
        """
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise DestinationRefused(f"{what} is not a plain http or https URL", url=_shown(url))
        if source is not None and source.scheme == "https" and url.scheme != "https":
            raise DestinationRefused(f"{what} leaves https for http", url=_shown(url))
        host = url.host.lower().rstrip(".")
        self._check_host(host, what)
        address = _literal(host)
        if address is not None or _is_local_name(host):
            self._check_reach(host, Reach.LOOPBACK if address is None else reach(address), what)

    def check_realm(self, realm: httpx.URL) -> None:
        """Refuse a token realm to which this registry's credentials may not go (NET-05)."""
        self.check(realm, self.registry, "the token realm")
        if not self.strict or realm.host in self.allowed or shares_owner(realm.host, self.registry.host):
            return
        raise DestinationRefused(f"the token realm {realm.host} is not of {self.registry.host}")

    def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """Resolve a name once and return what may be connected to. Raises DestinationRefused if nothing may.

        The connection must go to these addresses: a second look-up could answer otherwise.
        """
        found = self.resolve(host, port)
        for text in found:
            address = _unwrap(ipaddress.ip_address(text.partition("%")[0]))
            self._check_address(address, f"{host} resolves to an address that")
            if self.strict and host not in self.allowed and reach(address) is not Reach.PUBLIC:
                raise DestinationRefused(f"{host} resolves to {address}, which is not public")
        return found

    def _check_host(self, host: str, what: str) -> None:
        if host.partition(".")[0] == "metadata":
            raise DestinationRefused(f"{what} names a metadata service: {host}")
        address = _literal(host)
        if address is not None:
            self._check_address(address, what)
        elif _is_numeric(host):
            raise DestinationRefused(f"{what} has an address in an unusual form: {host}")

    def _check_address(self, address: Address, what: str) -> None:
        if (
            address in _METADATA
            or address.is_link_local
            or address.is_multicast
            or address.is_unspecified
            or (isinstance(address, ipaddress.IPv4Address) and address.is_reserved)
        ):
            raise DestinationRefused(f"{what} is never a registry's: {address}")

    def _check_reach(self, host: str, wanted: Reach, what: str) -> None:
        if wanted is Reach.PUBLIC or host in self.allowed or host == self.registry.host:
            return
        if self.strict or self._own_reach() < wanted:
            raise DestinationRefused(f"{what} leads into a {wanted.name.lower()} network: {host}")

    def _own_reach(self) -> Reach:
        host = self.registry.host
        if _is_local_name(host):
            return Reach.LOOPBACK
        address = _literal(host)
        if address is not None:
            return reach(address)
        port = self.registry.port or (443 if self.registry.scheme == "https" else 80)
        return min(
            (
                reach(_unwrap(ipaddress.ip_address(text.partition("%")[0])))
                for text in self.resolve(host, port)
            ),
            default=Reach.PUBLIC,
        )


def reach(address: Address) -> Reach:
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_private or (isinstance(address, ipaddress.IPv4Address) and address in _SHARED):
        return Reach.PRIVATE
    return Reach.PUBLIC


def is_loopback(host: str) -> bool:
    """Tell whether a host can only be this machine, by its name."""
    address = _literal(host.lower())
    return _is_local_name(host) or (address is not None and address.is_loopback)


def shares_owner(host: str, other: str) -> bool:
    """Tell whether two host names are, as far as names tell, below one registered domain.

    auth.docker.io and registry-1.docker.io are; two addresses, or two tenants of a cloud, are not.
    """
    if host == other:
        return True
    if _literal(host) or _literal(other) or any(host.endswith(f".{each}") for each in _SHARED_SUFFIXES):
        return False
    domain = _registered_domain(host)
    return domain is not None and domain == _registered_domain(other)


def _registered_domain(host: str) -> str | None:
    labels = host.lower().rstrip(".").split(".")
    size = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVELS else 2
    return ".".join(labels[-size:]) if len(labels) >= size else None


def _is_local_name(host: str) -> bool:
    host = host.lower().rstrip(".")
    return host == "localhost" or host.endswith(".localhost")


def _literal(host: str) -> Address | None:
    """Read a host that is an address in its usual form."""
    try:
        return _unwrap(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
    except ValueError:
        return None


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does: mapped, NAT64, 6to4, Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.is_loopback or address.is_unspecified:
        return address
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour or address
    if address.teredo:
        return address.teredo[1]
    if any(address in network for network in _networks):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _shown(url: httpx.URL) -> str:
    """Write a URL without what may be secret: user, query and fragment."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """Return scheme, host and port: what credentials belong to. Source: RFC 6454, 4."""
    return url.scheme, url.host.lower(), url.port or (443 if url.scheme == "https" else 80)
