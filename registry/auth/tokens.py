"""Access tokens: short-lived JWTs that say what their bearer may do at this registry.

Source: distribution's docs/spec/auth/jwt.md; RFC 7515; RFC 7519. The limits are AUTH-01 to AUTH-09 of the
project's threat model.
"""

import base64
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from registry.auth.keys import Keys, Signer, VerificationKey
from registry.auth.scopes import MOST_SCOPES, Scope
from storage.oci import strict_json
from storage.oci.errors import ManifestInvalid

TOKEN_LIMIT = 16 * 1024
# What clocks may differ by.
LEEWAY_SECONDS = 60

_KID_LIMIT = 256
_TEXT_LIMIT = 1024
_LATEST_TIME = 2**40
_REQUIRED = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access")

_split = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII).fullmatch
_signatures = jwt.PyJWS()


class TokenInvalid(Exception):
    """A token that proves nothing; the message is for the log, not for whoever sent it."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a verified token says. `expires` is when it is refused, in seconds since the epoch."""

    subject: str
    scopes: tuple[Scope, ...]
    expires: float
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    text: str
    id: str
    issued_at: int
    expires_in: int


def issue(
    signer: Signer, claims: Mapping[str, object], scopes: Iterable[Scope], seconds: int, now: float
) -> IssuedToken:
    """Sign a token that is good for `seconds` from now; `claims` are iss, sub, aud and what is ours."""
    issued_at, token_id = int(now), uuid.uuid4().hex
    payload = {
        **claims,
        "exp": issued_at + seconds,
        "nbf": issued_at,
        "iat": issued_at,
        "jti": token_id,
        "access": [
            {"type": scope.type, "name": scope.name, "actions": list(scope.actions)} for scope in scopes
        ],
    }
    return IssuedToken(signer.sign(payload), token_id, issued_at, seconds)


class FindByChain(Protocol):
    """Finds the key of a certificate chain that ends at a configured root, for an `x5c` header."""

    def __call__(self, chain: object) -> VerificationKey: ...


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to say: whose it is, for what, and for how long at most."""

    issuer: str
    service: str
    most_seconds: int


class Verifier:
    """Takes tokens of one issuer for one service. Raises TokenInvalid for any other text."""

    def __init__(
        self,
        keys: Keys,
        expected: Expected,
        *,
        by_chain: FindByChain | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._expected = expected
        self._by_chain = by_chain
        self._clock = clock

    async def verify(self, text: str) -> AccessToken:
        """Check everything about a token; whatever needs no cryptography comes first (AUTH-08)."""
        header, payload, signature = _parts(text)
        claims = _object(payload, "payload")
        scopes = _scopes(claims.get("access"))
        key = await self._key(_check_header(header))
        if header.get("alg") != key.algorithm:
            raise TokenInvalid("its algorithm is not the key's")
        if len(signature) != key.signature_bytes:
            raise TokenInvalid("its signature has another length")
        _check_signature(text, key)
        self._check_claims(claims)
        expires = min(claims["exp"] + LEEWAY_SECONDS, key.retires_at)
        return AccessToken(claims["sub"], scopes, expires, claims)

    async def _key(self, header: Mapping[str, Any]) -> VerificationKey:
        # `jwk`, `jku` and `x5u` are not looked at: what a sender names is no reason to trust it (AUTH-02).
        if self._by_chain is not None and "x5c" in header:
            return self._by_chain(header["x5c"])
        kid = header.get("kid")
        if not isinstance(kid, str) or len(kid) > _KID_LIMIT:
            raise TokenInvalid("its header names no key")
        key = self._keys.find(kid)
        if key is None and await self._keys.refresh():
            key = self._keys.find(kid)
        if key is None:
            raise TokenInvalid("its key is unknown")
        return key

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        if missing := [name for name in _REQUIRED if name not in claims]:
            raise TokenInvalid(f"it has no {missing[0]}")
        if claims["iss"] != self._expected.issuer:
            raise TokenInvalid("it is of another issuer")
        if self._expected.service not in _audience(claims["aud"]):
            raise TokenInvalid("it is for another service")
        _check_texts(claims["sub"], claims["jti"])
        self._check_times(claims["exp"], claims["nbf"], claims["iat"])

    def _check_times(self, *times: object) -> None:
        expires, not_before, issued = (_time(value) for value in times)
        if not 0 < expires - issued <= self._expected.most_seconds:
            raise TokenInvalid(f"it lives longer than {self._expected.most_seconds} seconds")
        now = self._clock()
        if now > expires + LEEWAY_SECONDS:
            raise TokenInvalid("it has expired")
        if now < max(not_before, issued) - LEEWAY_SECONDS:
            raise TokenInvalid("it is not valid yet")


def _parts(text: str) -> tuple[dict[str, Any], bytes, bytes]:
    """Cut a token into header, payload and signature, each in the one spelling that it has."""
    if len(text) > TOKEN_LIMIT:
        raise TokenInvalid("it is too long")
    found = _split(text)
    if found is None:
        raise TokenInvalid("it is no JWT")
    header, payload, signature = (_decode(part) for part in found.groups())
    return _object(header, "header"), payload, signature


def _decode(part: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise TokenInvalid("it is not base64url") from None
    # The last character has bits that mean nothing; a changed one must not pass (AUTH-09).
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise TokenInvalid("its base64url is not canonical")
    return data


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = strict_json.loads(data)
    except ManifestInvalid as error:
        raise TokenInvalid(f"its {where}: {error}") from None
    if not isinstance(value, dict):
        raise TokenInvalid(f"its {where} is no object")
    return value


def _check_header(header: dict[str, Any]) -> dict[str, Any]:
    if header.get("typ") != "JWT":
        raise TokenInvalid("it is another type of token")
    # We know no extension, so none that is critical (RFC 7515, 4.1.11); b64 is one (RFC 7797).
    if "crit" in header or "b64" in header:
        raise TokenInvalid("its header has an extension")
    return header


def _check_signature(text: str, key: VerificationKey) -> None:
    try:
        _signatures.decode(text, key.public, [key.algorithm])
    except jwt.PyJWTError as error:
        raise TokenInvalid(f"its signature: {error}") from None


def _audience(value: object) -> Sequence[object]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise TokenInvalid("its audience is no text")


def _check_texts(subject: object, token_id: object) -> None:
    for value in (subject, token_id):
        # They go into rows and logs.
        if not isinstance(value, str) or len(value) > _TEXT_LIMIT or not value.isprintable():
            raise TokenInvalid("its sub or jti is no printable text")
    if not token_id:
        raise TokenInvalid("its jti is empty")


def _time(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LATEST_TIME:
        raise TokenInvalid("a time is no whole number of seconds")
    return value


def _scopes(access: object) -> tuple[Scope, ...]:
    if access is None:  # what Go writes for an empty list
        return ()
    if not isinstance(access, list) or len(access) > MOST_SCOPES:
        raise TokenInvalid("its access is no list of 64 entries at most")
    return tuple(_scope(entry) for entry in access)


def _scope(entry: object) -> Scope:
    if not isinstance(entry, dict):
        raise TokenInvalid("an access entry is no object")
    actions = entry.get("actions")
    texts = (entry.get("type"), entry.get("name"), *(actions if isinstance(actions, list) else (None,)))
    if not all(isinstance(text, str) for text in texts):
        raise TokenInvalid("an access entry is not type, name and actions")
    return Scope(entry["type"], entry["name"], tuple(entry["actions"]))
