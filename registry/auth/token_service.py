"""The token service: a login becomes a short-lived access token, and if asked a refresh token.

Source: distribution's docs/spec/auth/token.md and oauth.md.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from registry.auth import tokens
from registry.auth.access import ANONYMOUS, Identity
from registry.auth.guard import HANDLE_CLAIM, Deciders
from registry.auth.keys import KeyRing
from registry.auth.logins import Logins
from registry.auth.rights import grant
from registry.auth.scopes import CATALOG, Scope
from registry.auth.tokens import IssuedToken
from registry.metadata import refresh_tokens
from registry.metadata.refresh_tokens import NewRefreshToken
from registry.offload import Offload
from storage.database import Connection
from storage.oci.errors import RequestInvalid, Unauthorized

_RANDOM_BYTES = 32
# Scanners for leaked secrets know a token by how it begins.
_PREFIX = "cargohold_refresh_"
_TEXT_LIMIT = 200
# Tokens that ended stay for so long, for whoever asks what they were.
_REMEMBERED_SECONDS = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How tokens are made: their issuer and audience, and for how many seconds they are good."""

    issuer: str
    service: str
    token_seconds: int
    refresh_seconds: float


@dataclass(frozen=True, slots=True)
class Granted:
    """An access token, and what it was granted of what was asked."""

    token: IssuedToken
    scopes: tuple[Scope, ...]


class TokenService:
    """Grants tokens to identities; what they may do is the policy's word alone (AUTH-13)."""

    def __init__(
        self, terms: Terms, keys: KeyRing, deciders: Deciders, logins: Logins, offload: Offload
    ) -> None:
        self._terms = terms
        self.keys = keys
        self._deciders = deciders
        self._logins = logins
        self._offload = offload

    @property
    def terms(self) -> Terms:
        return self._terms

    def check_service(self, service: str) -> None:
        """Raises RequestInvalid for a service that is not ours; a client may leave it out."""
        if service not in ("", self._terms.service):
            raise RequestInvalid(f"this token service serves {self._terms.service!r}", service=service[:200])

    async def login(self, username: str, password: str, client: str) -> Identity:
        """Raises Unauthorized, TooManyRequests: wrong credentials are never anonymous (AUTH-22)."""
        return await self._logins.login(username, password, client)

    async def exchange(self, id_token: str, client: str) -> Identity:
        """Raises Unauthorized, TooManyRequests."""
        return await self._deciders.identities.exchange(id_token, client)

    async def refresh(self, text: str) -> Identity:
        """Return whom a refresh token stands for now. Raises Unauthorized (AUTH-21, TOK-03)."""
        find = partial(refresh_tokens.find, hash_=_hash(text), service=self._terms.service)
        found = await self._offload.point_read(find)
        if found is None:
            raise Unauthorized("the refresh token is not valid; log in again")
        identity = await self._deciders.identities.renew(found.handle, found.created_at)
        await self._offload.transaction(
            partial(refresh_tokens.touch, token_id=found.id, seconds=self._terms.refresh_seconds)
        )
        return identity

    async def issue(self, identity: Identity | None, wanted: Sequence[Scope]) -> Granted:
        """Make an access token; None is the anonymous, who gets what everybody may do."""
        whose = identity or Identity(ANONYMOUS)
        found = (grant(self._deciders.policy, whose, scope) for scope in wanted)
        scopes = tuple(scope for scope in found if scope is not None)
        claims: dict[str, object] = {
            "iss": self._terms.issuer,
            "sub": whose.principal.name,
            "aud": self._terms.service,
        }
        if CATALOG in scopes:
            claims[HANDLE_CLAIM] = whose.handle
        await self.keys.refresh()
        token = tokens.issue(self.keys.signer, claims, scopes, self._terms.token_seconds, time.time())
        return Granted(token, scopes)

    async def remember(self, identity: Identity, client_id: str) -> str | None:
        """Make a refresh token and return it, the only time that it is seen; None where there is none."""
        if not identity.handle:
            return None
        text = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        new = NewRefreshToken(
            hash=_hash(text),
            id=secrets.token_hex(8),
            principal=identity.principal.name,
            handle=identity.handle,
            service=self._terms.service,
            client_id=client_id[:_TEXT_LIMIT],
        )
        await self._offload.transaction(partial(self._keep, new=new))
        return text

    def _keep(self, db: Connection, new: NewRefreshToken) -> None:
        refresh_tokens.add(db, new, self._terms.refresh_seconds)
        refresh_tokens.remove_ended(db, _REMEMBERED_SECONDS)


def _hash(text: str) -> bytes:
    # Of 256 random bits a plain hash gives nothing away.
    return hashlib.sha256(text.encode()).digest()
