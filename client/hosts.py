"""Registries as they are reached: which host answers for a name, how, and who says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from client.tls import Tls


class Scheme(Enum):
    HTTPS = "https"
    HTTP = "http"
    # What docker and podman do with loopback and insecure hosts: TLS, and plain http if there is none.
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Host:
    """One registry host. `name` is how references call it, `address` the host[:port] to connect to."""

    name: str
    address: str
    scheme: Scheme = Scheme.HTTPS
    api_path: str = "/v2"
    tls: Tls = field(default_factory=Tls)
    # Sent to this host only: they may be secret.
    headers: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    # Tells a mirror of many registries which one is meant, as containerd does with `?ns=`.
    namespace: str | None = None
