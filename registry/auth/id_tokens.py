"""ID tokens of CI systems: what must be true of one before a job is believed to be what it says.

Source: OpenID Connect Core 1.0, 3.1.3.7; docs.github.com, "OpenID Connect reference"; docs.gitlab.com,
"OpenID Connect (OIDC) Authentication Using ID Tokens".
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from registry.auth.keys import VerificationKey
from storage.oci import strict_json
from storage.oci.errors import ManifestInvalid

LEEWAY_SECONDS = 60

_TOKEN_LIMIT = 16 * 1024
_LONGEST_SECONDS = 24 * 3600
_LATEST_TIME = 2**40
_MOST_CLAIMS = 100
_TEXT_LIMIT = 512
_REQUIRED = ("iss", "sub", "aud", "exp", "iat", "jti")
# Workflows that strangers can start: what they build must not be pushed.
_STRANGERS = {
    "event_name": frozenset({"pull_request", "pull_request_target"}),
    "pipeline_source": frozenset({"merge_request_event", "external_pull_request_event"}),
}

_name = r"[A-Za-z0-9._-]{1,100}"
_numbered_subject = re.compile(rf"repo:({_name})@([0-9]+)/({_name})@([0-9]+):(.+)", re.ASCII).fullmatch
_signatures = jwt.PyJWS()

FindKey = Callable[[str], Awaitable[VerificationKey | None]]


class IdTokenInvalid(Exception):
    """A token that proves nothing; the message is for the log, not for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a provider's tokens must say: exactly this issuer, our own audience, one of these algorithms."""

    issuer: str
    audience: str
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class IdToken:
    """A verified token. `claims` are those that are texts, numbers or truth values, as texts."""

    subject: str
    jti: str
    expires: int
    claims: Mapping[str, str]

    @property
    def is_of_strangers(self) -> bool:
        """Whether the job runs for a pull request, which anybody may open."""
        return any(self.claims.get(name) in values for name, values in _STRANGERS.items())


def issuer_of(text: str) -> str:
    """Read, unverified, whose token a text says it is: to choose the provider, nothing else.

    Raises IdTokenInvalid.
    """
    return str(_payload(_decode(text)).get("iss", ""))


async def verify(text: str, terms: Terms, find_key: FindKey, now: float) -> IdToken:
    """Check everything about a token. Raises IdTokenInvalid, and what `find_key` raises."""
    header = _header(_decode(text))
    key = await find_key(header["kid"])
    if key is None:
        raise IdTokenInvalid("its key is unknown")
    if key.algorithm not in terms.algorithms:
        raise IdTokenInvalid("its key is for an algorithm that is not configured")
    try:
        signed = _signatures.decode_complete(text, key.public, [key.algorithm])
    except jwt.PyJWTError as error:
        raise IdTokenInvalid(f"its signature: {error}") from None
    return _checked(_payload(signed), terms, now)


def _decode(text: str) -> dict[str, Any]:
    if len(text) > _TOKEN_LIMIT or not text.isascii():
        raise IdTokenInvalid("it is too long, or not ASCII")
    try:
        return _signatures.decode_complete(text, options={"verify_signature": False})
    except (jwt.PyJWTError, RecursionError, ValueError) as error:
        raise IdTokenInvalid(f"it is no JWT: {error}") from None


def _header(decoded: Mapping[str, Any]) -> Mapping[str, Any]:
    header: Mapping[str, Any] = decoded["header"]
    if header.get("typ", "JWT") != "JWT" or "crit" in header or "b64" in header:
        raise IdTokenInvalid("its header is that of another type of token")
    if not isinstance(header.get("kid"), str):
        raise IdTokenInvalid("its header names no key")
    return header


def _payload(decoded: Mapping[str, Any]) -> dict[str, Any]:
    try:
        value = strict_json.loads(decoded["payload"])
    except ManifestInvalid as error:
        raise IdTokenInvalid(f"its payload: {error}") from None
    if not isinstance(value, dict) or len(value) > _MOST_CLAIMS:
        raise IdTokenInvalid("its payload is no object of 100 members at most")
    return value


def _checked(claims: dict[str, Any], terms: Terms, now: float) -> IdToken:
    if missing := [name for name in _REQUIRED if name not in claims]:
        raise IdTokenInvalid(f"it has no {missing[0]}")
    if claims["iss"] != terms.issuer:
        raise IdTokenInvalid("it is of another issuer")
    # Alone: a token that is for others too could be shown to us by one of them.
    if claims["aud"] not in (terms.audience, [terms.audience]):
        raise IdTokenInvalid("it is for another audience")
    expires = _check_times(claims, now)
    jti, subject = claims["jti"], claims["sub"]
    if not _is_text(jti) or not _is_text(subject):
        raise IdTokenInvalid("its jti or sub is no printable text")
    return IdToken(_subject(subject, claims), jti, expires, dict(_texts(claims)))


def _check_times(claims: Mapping[str, Any], now: float) -> int:
    expires, issued, not_before = (_time(claims.get(name, claims["iat"])) for name in ("exp", "iat", "nbf"))
    if not 0 < expires - issued <= _LONGEST_SECONDS:
        raise IdTokenInvalid("it lives longer than a day")
    if now > expires + LEEWAY_SECONDS:
        raise IdTokenInvalid("it has expired")
    if now < max(issued, not_before) - LEEWAY_SECONDS:
        raise IdTokenInvalid("it is not valid yet")
    return expires


def _time(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LATEST_TIME:
        raise IdTokenInvalid("a time is no whole number of seconds")
    return value


def _subject(text: str, claims: Mapping[str, Any]) -> str:
    """Write a subject in its one form: GitHub has two, the newer with ids, which must be the token's own.

    A subject that a provider or an organisation made up in another way stays as it is.
    """
    numbered = _numbered_subject(text)
    if numbered is None:
        return text
    owner, owner_id, repository, repository_id, context = numbered.groups()
    if (owner_id, repository_id) != (claims.get("repository_owner_id"), claims.get("repository_id")):
        raise IdTokenInvalid("its sub and its claims name different repositories")
    return f"repo:{owner}/{repository}:{context}"


def _texts(claims: Mapping[str, Any]) -> list[tuple[str, str]]:
    texts = []
    for name, value in claims.items():
        text = {True: "true", False: "false"}[value] if isinstance(value, bool) else value
        if isinstance(text, int):
            text = str(text)
        if _is_text(text):
            texts.append((name, text))
    return texts


def _is_text(value: object) -> bool:
    """Say whether a value may go into rows, rules and logs."""
    return isinstance(value, str) and 0 < len(value) <= _TEXT_LIMIT and value.isprintable()
