"""The keys of an OIDC provider: from one fixed URL or a file, remembered, and never from what a token says.

Source: OpenID Connect Core 1.0, 10.1.1 (rotation of keys); RFC 7517.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from client.clock import Deadline
from client.endpoints import Host, Scheme
from client.errors import AnswerInvalid
from client.exchange import Request
from client.network import Network, connect
from client.proxies import Proxies
from client.retry import Patience
from client.tls import Tls
from registry.auth.external import read_jwks
from registry.auth.keys import KeyUnusable, VerificationKey
from registry.offload import Offload
from storage.oci.errors import RegistryError, Unavailable

log = logging.getLogger(__name__)

# Keys are asked for again after an hour, and in between for a kid that is unknown, once a minute at most.
_FRESH_SECONDS = 3600.0
_RETRY_SECONDS = 60.0
# A provider that does not answer is believed by its last keys for so long (TOK-08).
_STALE_SECONDS = 24 * 3600.0
_FETCH_SECONDS = 15.0
_LIMIT = 1024 * 1024

Load = Callable[[], bytes]


def from_url(url: str, *, private: bool = False, ca_file: Path | None = None) -> Load:
    """Return how to fetch a JWKS. `private` lets its host have an address that is not public (NET-02)."""
    parts = urlsplit(url)
    host = Host(
        name=parts.netloc,
        address=parts.netloc,
        scheme=Scheme.HTTP if parts.scheme == "http" else Scheme.HTTPS,
        tls=Tls(ca_files=(ca_file,) if ca_file else ()),
    )
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path

    def load() -> bytes:
        network = Network(
            strict=True,
            allowed=frozenset({parts.hostname or ""} if private else ()),
            patience=Patience(attempts=2),
            deadline=Deadline.after(_FETCH_SECONDS),
            proxies=Proxies.from_environment(os.environ),
        )
        exchange = connect(host, network, None)
        try:
            request = Request("GET", exchange.registry.join(target), headers={"Accept": "application/json"})
            with exchange.open_anonymous(request) as answer:
                if not answer.is_home:
                    raise AnswerInvalid(f"the keys at {parts.netloc} were redirected to another host")
                return answer.read(_LIMIT)
        finally:
            exchange.close()

    return load


class ProviderKeys:
    """Finds keys by `kid`. Raises Unavailable when there are none that may still be believed."""

    def __init__(
        self, name: str, load: Load, offload: Offload, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._load = load
        self._offload = offload
        self._clock = clock
        self._lock = asyncio.Lock()
        self._by_kid: Mapping[str, VerificationKey] = {}
        self._loaded_at = float("-inf")
        self._tried_at = float("-inf")

    async def find(self, kid: str) -> VerificationKey | None:
        """Return a key; one that is unknown is looked for at the provider, once a minute at most."""
        # Who has what they need does not wait while somebody else asks.
        if self._is_due(kid) and not (kid in self._by_kid and self._lock.locked()):
            async with self._lock:
                if self._is_due(kid):  # whoever was before us did not find it
                    await self._refresh()
        if self._clock() - self._loaded_at > _STALE_SECONDS:
            raise Unavailable(f"the keys of {self._name} cannot be had", retry_after_seconds=_RETRY_SECONDS)
        return self._by_kid.get(kid)

    def _is_due(self, kid: str) -> bool:
        now = self._clock()
        is_wanted = kid not in self._by_kid or now - self._loaded_at > _FRESH_SECONDS
        return is_wanted and now - self._tried_at >= _RETRY_SECONDS

    async def _refresh(self) -> None:
        try:
            by_kid = read_jwks(await self._offload.blobs(self._load))
        except (RegistryError, KeyUnusable, OSError) as error:
            log.warning(
                "keys of an OIDC provider not refreshed, the last ones stay",
                extra={"provider": self._name, "reason": str(error)},
            )
        else:
            self._by_kid, self._loaded_at = by_kid, self._clock()
        finally:
            # At its end: until then whoever needs the keys waits for this try.
            self._tried_at = self._clock()
