"""How requests travel: limits on time, proxies, trust, and where they may go."""

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from client import destinations
from client.auth import TokenCache
from client.clock import NEVER, Deadline
from client.destinations import Destinations, origin
from client.endpoints import Host, Scheme
from client.errors import ConfigurationInvalid
from client.exchange import Exchange
from client.http import TIMEOUTS, Timeouts, TlsFailed, Transport
from client.proxies import DIRECT, Proxies
from client.retry import PATIENCE, Backoff, Patience
from client.tls import Tls
from storage.oci.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Network:
    """What all sessions of a program share.

    `strict` and `allowed` are for servers: only public addresses and these hosts (NET-02, NET-05). `tls` is
    asked for the hosts that a registry sends us to; without it they are verified, with the registry's CA too.
    """

    timeouts: Timeouts = TIMEOUTS
    patience: Patience = PATIENCE
    deadline: Deadline = NEVER
    proxies: Proxies = DIRECT
    strict: bool = False
    allowed: frozenset[str] = frozenset()
    resolve: destinations.Resolve = destinations.resolve
    tls: Callable[[str], Tls] | None = None


NETWORK = Network()


def connect(host: Host, network: Network, tokens: TokenCache | None) -> Exchange:
    """Make what sends requests to a host, which is asked first if it has TLS where that is not settled.

    Raises ConfigurationInvalid for an address that is none, DestinationRefused for one that is no registry's.
    """
    rules = _rules(host, network, "http" if host.scheme is Scheme.HTTP else "https")
    transport = _transport(host, network, rules)
    if host.scheme is Scheme.EITHER and not _has_tls(transport, rules.registry):
        rules = _rules(host, network, "http")
        transport = _transport(host, network, rules)
    backoff = Backoff(network.patience, network.deadline)
    return Exchange(rules, transport, backoff, network.deadline.clock, tokens=tokens, headers=host.headers)


def _rules(host: Host, network: Network, scheme: str) -> Destinations:
    try:
        url = httpx.URL(f"{scheme}://{host.address}")
    except httpx.InvalidURL as error:
        raise ConfigurationInvalid(f"not a registry's address: {host.address!r}") from error
    rules = Destinations(url, network.strict, network.allowed, network.resolve)
    rules.check(url, None, "the registry")
    return rules


def _transport(host: Host, network: Network, rules: Destinations) -> Transport:
    def tls(url: httpx.URL) -> Tls:
        # What was settled for this host holds for it alone (NET-08): no other goes unverified with it.
        if origin(url) == origin(rules.registry):
            return host.tls
        if network.tls is not None:
            return network.tls(url.netloc.decode("ascii"))
        return Tls(ca_files=host.tls.ca_files)

    return Transport(
        rules, tls, proxies=network.proxies, timeouts=network.timeouts, deadline=network.deadline
    )


def _has_tls(transport: Transport, url: httpx.URL) -> bool:
    """Tell whether a host speaks TLS. Any failure but the handshake's is left to the request to come."""
    try:
        transport.send(httpx.Request("GET", url.join("/v2/"))).close()
    except TlsFailed:
        transport.close()
        return False
    except RegistryError:
        return True
    return True
