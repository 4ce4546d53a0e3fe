"""Logins remembered for a moment: a script that sends Basic with every request pays for one hash."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from registry.auth.access import Identities, Identity

# An access token that expires in between passes for so long after its end.
_KNOWN_SECONDS = 15.0
_KNOWN_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class _Login:
    identity: Identity
    version: Hashable
    expires: float


class Logins:
    """Asks the identities, once for the same password; any change of users or tokens asks anew.

    Only what was right is remembered: every wrong guess meets the throttle.
    """

    def __init__(self, identities: Identities, clock: Callable[[], float] = time.monotonic) -> None:
        self._identities = identities
        self._clock = clock
        # Neither passwords nor what could be searched for them stay in memory.
        self._secret = secrets.token_bytes(32)
        self._known: dict[bytes, _Login] = {}
        self._asking: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def login(self, username: str, password: str, client: str) -> Identity:
        """Raises Unauthorized, TooManyRequests."""
        key = self._key(username, password)
        if (known := await self._find(key)) is not None:
            return known
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            return await self._find(key) or await self._ask(key, username, password, client)

    async def _find(self, key: bytes) -> Identity | None:
        known = self._known.get(key)
        if known is None or known.expires < self._clock():
            return None
        return known.identity if known.version == await self._identities.version() else None

    async def _ask(self, key: bytes, username: str, password: str, client: str) -> Identity:
        # Asked for before the answer: a change in between makes the answer an old one.
        version = await self._identities.version()
        identity = await self._identities.login(username, password, client)
        if not identity.handle:
            return identity  # an ID token is taken from one address only, so it is looked at every time
        if len(self._known) >= _KNOWN_LIMIT:
            del self._known[next(iter(self._known))]
        self._known[key] = _Login(identity, version, self._clock() + _KNOWN_SECONDS)
        return identity

    def _key(self, username: str, password: str) -> bytes:
        # Hashed apart: no name can run into its password.
        name, secret = (hashlib.sha256(text.encode()).digest() for text in (username, password))
        return hmac.digest(self._secret, name + secret, "sha256")
