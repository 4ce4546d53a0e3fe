"""The access of a registry that does not let everybody in: who is asking, and what is said to who may not."""

import base64
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from registry.auth.access import (
    ANONYMOUS,
    Action,
    Caller,
    Certificates,
    Identities,
    Identity,
    Kind,
    Policy,
    Presented,
    Principal,
)
from registry.auth.challenge import Challenger
from registry.auth.keys import Keys
from registry.auth.logins import Logins
from registry.auth.rights import NOTHING, PolicyRights, TokenRights
from registry.auth.scopes import CATALOG, Scope, of
from registry.auth.tokens import AccessToken, TokenInvalid, Verifier
from registry.settings import Settings
from storage.oci.errors import Denied, Unauthorized
from storage.oci.names import RepositoryName

# The claim of our own tokens from which the catalog's rights are found again.
HANDLE_CLAIM = "handle"

log = logging.getLogger(__name__)

_CACHED_TOKENS = 4096
# For so long a worker may not know of a retired key.
_LOOK_SECONDS = 1.0
NOBODY = Caller(ANONYMOUS, NOTHING)

ToCaller = Callable[[AccessToken], Awaitable[Caller]]


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    expires: float
    generation: int


class BearerTokens:
    """Turns access tokens into callers. What was verified once is known by its hash until it expires."""

    def __init__(
        self,
        verifier: Verifier,
        keys: Keys,
        to_caller: ToCaller,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._keys = keys
        self._to_caller = to_caller
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._looked = float("-inf")

    async def caller(self, text: str) -> Caller:
        """Raises TokenInvalid."""
        if time.monotonic() > self._looked + _LOOK_SECONDS:
            self._looked = time.monotonic()
            await self._keys.refresh()
        key = hashlib.sha256(text.encode()).digest()
        known = self._known.get(key)
        if known and known.expires >= self._clock() and known.generation == self._keys.generation:
            return known.caller
        token = await self._verifier.verify(text)
        caller = await self._to_caller(token)
        if len(self._known) >= _CACHED_TOKENS:
            del self._known[next(iter(self._known))]
        self._known[key] = _Known(caller, token.expires, self._keys.generation)
        return caller


class TokenAccess:
    """Access by tokens alone: what an external issuer's registry has."""

    def __init__(self, settings: Settings, challenger: Challenger, tokens: BearerTokens) -> None:
        self._settings = settings
        self._challenger = challenger
        self._tokens = tokens

    async def authenticate(self, presented: Presented) -> Caller:
        authorization = presented.headers.get("authorization")
        if authorization is None:
            return self._without_credentials(presented)
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return await self._other(scheme.lower(), credentials.strip(" "), presented)
        try:
            return await self._tokens.caller(credentials.strip(" "))
        except TokenInvalid as error:
            log.debug("token refused", extra={"reason": str(error)})
            raise self._unauthorized(presented, "the token is not valid") from error

    def _without_credentials(self, presented: Presented) -> Caller:
        return NOBODY

    async def _other(self, scheme: str, credentials: str, presented: Presented) -> Caller:
        raise self._unauthorized(presented, "this registry takes tokens of its issuer, nothing else")

    def _unauthorized(self, presented: Presented, message: str) -> Unauthorized:
        scopes = needed(presented.action, presented.name, presented.source)
        return Unauthorized(message, challenge=self._challenger.bearer(scopes, "invalid_token"))

    def require(
        self,
        caller: Caller,
        action: Action | None,
        name: RepositoryName | None,
        source: RepositoryName | None = None,
    ) -> None:
        if not _is_allowed(caller, action, name):
            raise self._refusal(caller, needed(action, name, source))
        if self._settings.read_only and action not in (None, Action.PULL):
            raise Denied("this registry is read-only")

    def may(self, caller: Caller, action: Action, name: RepositoryName) -> bool:
        return caller.rights.may(action, name)

    def _refusal(self, caller: Caller, scopes: tuple[Scope, ...]) -> Unauthorized | Denied:
        """Say no in the one way that is the same for what is private and what is not there (AUTH-23)."""
        if caller.has_token:
            challenge = self._challenger.bearer(scopes, "insufficient_scope")
            return Unauthorized("the token does not allow this", challenge=challenge)
        if caller.principal.kind is Kind.ANONYMOUS:
            return Unauthorized("authentication required", challenge=self._challenger.bearer(scopes))
        return Denied("no rule allows this")


def _is_allowed(caller: Caller, action: Action | None, name: RepositoryName | None) -> bool:
    if action is None:
        return caller.has_token or caller.principal.kind is not Kind.ANONYMOUS
    if name is None:
        return caller.rights.may_list()
    if action is Action.PUSH and not caller.rights.may(Action.PULL, name):
        return False
    return caller.rights.may(action, name)


def needed(
    action: Action | None, name: RepositoryName | None, source: RepositoryName | None
) -> tuple[Scope, ...]:
    """Say what a token for a request has to list (AUTH-14, AUTH-16)."""
    if action is None:
        return ()
    if name is None:
        return (CATALOG,)
    actions = (Action.PULL, Action.PUSH) if action is Action.PUSH else (action,)
    target = of(name, *actions)
    return (target,) if source in (None, name) else (target, of(source, Action.PULL))


async def external_caller(token: AccessToken) -> Caller:
    """Take an issuer's token at its word; a token that may list sees the whole catalog, as elsewhere."""
    kind = Kind.EXTERNAL if token.subject else Kind.ANONYMOUS
    principal = Principal(token.subject, kind)
    return Caller(principal, TokenRights(token.scopes, None), has_token=True)


@dataclass(frozen=True, slots=True)
class Deciders:
    """Who knows people, and who knows the rules."""

    identities: Identities
    policy: Policy
    certificates: Certificates | None = None


class LocalAccess(TokenAccess):
    """Access by our own tokens, by Basic, by client certificates, and for the anonymous by the policy."""

    def __init__(
        self,
        settings: Settings,
        challenger: Challenger,
        tokens: BearerTokens,
        deciders: Deciders,
        logins: Logins,
    ) -> None:
        super().__init__(settings, challenger, tokens)
        self._deciders = deciders
        self._logins = logins
        self._anonymous = Caller(ANONYMOUS, PolicyRights(deciders.policy, Identity(ANONYMOUS)))

    def _without_credentials(self, presented: Presented) -> Caller:
        certificates = self._deciders.certificates
        if certificates is not None and presented.certificate is not None:
            principal = certificates.principal(presented.certificate)
            if principal is not None:
                return self._of(Identity(principal))
        return self._anonymous

    async def _other(self, scheme: str, credentials: str, presented: Presented) -> Caller:
        if scheme != "basic":
            raise self._unauthorized(presented, "this registry knows Bearer and Basic authentication")
        try:
            username, password = read_basic(credentials)
            return self._of(await self._logins.login(username, password, presented.client))
        except Unauthorized as error:
            raise self._unauthorized(presented, error.message) from error

    def _of(self, identity: Identity) -> Caller:
        return Caller(
            identity.principal, PolicyRights(self._deciders.policy, identity), is_admin=identity.is_admin
        )


def read_basic(credentials: str) -> tuple[str, str]:
    """Read the name and password of a Basic Authorization. Raises Unauthorized. Source: RFC 7617, 2."""
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except ValueError:  # of Base 64, of UTF-8, and of characters that no header has
        raise Unauthorized("the Basic credentials cannot be read") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise Unauthorized("the Basic credentials have no password")
    return username, password


def local_caller(deciders: Deciders) -> ToCaller:
    """Read our own tokens; what the catalog shows comes from the rules, not from the token's list."""

    async def to_caller(token: AccessToken) -> Caller:
        catalog = await _catalog_rights(deciders, token) if CATALOG in token.scopes else NOTHING
        return Caller(Principal.named(token.subject), TokenRights(token.scopes, catalog), has_token=True)

    return to_caller


async def _catalog_rights(deciders: Deciders, token: AccessToken) -> "PolicyRights":
    handle = token.claims.get(HANDLE_CLAIM)
    if not isinstance(handle, str):
        raise TokenInvalid("it may list, and does not say for whom")
    try:
        identity = await deciders.identities.renew(handle, token.claims["iat"])
    except Unauthorized as error:
        raise TokenInvalid(f"its owner: {error.message}") from error
    return PolicyRights(deciders.policy, identity)
