"""From a registry's challenge to an Authorization header: anonymous, Basic, Bearer by GET or OAuth2 POST.

Source: distribution's docs/spec/auth/token.md and oauth.md; RFC 6749, 5 and 6.
"""

import json
import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx

from client import challenges, scopes
from client.challenges import Challenge
from client.clock import CLOCK, Clock
from client.credentials import Credential, FindCredential
from client.destinations import Destinations
from client.errors import AnswerInvalid, DestinationRefused
from client.retry import is_transient
from client.scopes import Scope, Scopes
from storage.oci.errors import Denied, EndpointUnknown, RegistryError, Unauthorized, Unsupported

CLIENT_ID = "cargohold"
TOKEN_LIMIT = 1024 * 1024

_LEAST_SECONDS = 60.0
_MOST_SECONDS = 3600.0
_MARGIN_SECONDS = 10.0
# For how long a refusal holds for all who ask the same: many threads must not lock an account.
_REFUSED_SECONDS = 10.0
_CACHED_TOKENS = 1000
_is_token = re.compile(r"[\x21-\x7e]{1,65536}").fullmatch

log = logging.getLogger(__name__)

# Upstream, realm, service, scopes, identity: a token is good for nothing else (NET-07).
_Key = tuple[str, str, str, Scopes, Credential | None]


class Fetch(Protocol):
    """Sends a request to a token endpoint and returns the body of its 200."""

    def __call__(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], body: bytes | None
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    expires: float
    # Why there is none.
    refusal: str = ""


class TokenCache:
    """Tokens of any number of sessions. One thread fetches a token, the others that need it wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[_Key, _Token] = {}
        self._fetching: dict[_Key, threading.Lock] = {}

    def get(self, key: _Key, now: float) -> str | None:
        """Return a token that is good. Raises Unauthorized when it was just refused."""
        with self._lock:
            token = self._tokens.get(key)
        if token is None or token.expires <= now:
            return None
        if token.refusal:
            raise Unauthorized(token.refusal)
        return token.text

    def put(self, key: _Key, text: str, expires: float) -> None:
        self._keep(key, _Token(text, expires))

    def refuse(self, key: _Key, reason: str, expires: float) -> None:
        """Remember until `expires` that there is no token."""
        self._keep(key, _Token("", expires, reason))

    def _keep(self, key: _Key, token: _Token) -> None:
        with self._lock:
            if len(self._tokens) >= _CACHED_TOKENS:
                del self._tokens[min(self._tokens, key=lambda each: self._tokens[each].expires)]
            self._tokens[key] = token

    def drop(self, text: str) -> None:
        """Forget a token that was refused."""
        with self._lock:
            self._tokens = {key: token for key, token in self._tokens.items() if token.text != text}

    @contextmanager
    def fetching(self, key: _Key) -> Iterator[None]:
        with self._lock:
            lock = self._fetching.setdefault(key, threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._fetching.pop(key, None)


class Authenticator:
    """Makes the Authorization headers for one registry, whose origin they never leave (NET-04)."""

    def __init__(
        self,
        destinations: Destinations,
        fetch: Fetch,
        tokens: TokenCache | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        self._destinations = destinations
        self._fetch = fetch
        self._tokens = tokens or TokenCache()
        self._clock = clock
        self._challenge: Challenge | None = None
        # Refresh tokens that an endpoint gave in place of ours, by ours.
        self._rotated: dict[str, str] = {}

    def authorization(self, wanted: Sequence[Scope], find: FindCredential) -> str | None:
        """Return the header for a request before it is refused, as far as earlier answers tell it."""
        if self._challenge is None:
            return None
        return self._answer(self._challenge, scopes.merge(wanted), find())

    def renew(
        self,
        lines: Sequence[str],
        wanted: Sequence[Scope],
        find: FindCredential,
        refused: str | None,
    ) -> str:
        """Answer the challenges of a 401 to a request that carried `refused`.

        Raises Unauthorized when there is nothing new to answer with.
        """
        challenge, credential = self._choose(challenges.parse(lines)), find()
        if challenge.scheme == challenges.BASIC and (credential is None or refused == credential.basic()):
            raise _refused(credential)
        if refused is not None:
            self._tokens.drop(refused.removeprefix("Bearer "))
        self._challenge = _without_request(challenge)
        asked = scopes.parse(challenge.parameters.get("scope", ""))
        answer = self._answer(challenge, scopes.merge(wanted), credential, asked)
        if answer is None or answer == refused:
            raise self.refusal(lines, wanted, credential)
        return answer

    def refusal(
        self, lines: Sequence[str], wanted: Sequence[Scope], credential: Credential | None
    ) -> RegistryError:
        """Say what the challenges of a 401 mean to which we have no better answer.

        Denied when the registry knows who we are; nobody in particular should log in first.
        """
        challenge = self._choose(challenges.parse(lines))
        if credential is None or challenge.parameters.get("error") != "insufficient_scope":
            return _refused(credential)
        asked = challenge.parameters.get("scope") or " ".join(map(str, wanted))
        return Denied(f"{_described(credential)} do not allow {asked[:200]}")

    def _choose(self, offered: Sequence[Challenge]) -> Challenge:
        """Take Bearer before Basic: a token is worth less to a thief than a password."""
        error: DestinationRefused | None = None
        for scheme in (challenges.BEARER, challenges.BASIC):
            for challenge in offered:
                if challenge.scheme != scheme:
                    continue
                try:
                    self._realm(challenge)
                except DestinationRefused as refused:
                    error = error or refused
                    continue
                return challenge
        raise error or Unauthorized("the registry asks for an authentication that we do not have")

    def _realm(self, challenge: Challenge) -> httpx.URL | None:
        if challenge.scheme == challenges.BASIC:
            return None
        try:
            realm = httpx.URL(challenge.parameters.get("realm", ""))
        except httpx.InvalidURL as error:
            raise DestinationRefused(f"the token realm is not a URL: {error}") from error
        self._destinations.check_realm(realm)
        return realm

    def _answer(
        self, challenge: Challenge, wanted: Scopes, credential: Credential | None, asked: Scopes = ()
    ) -> str | None:
        """Return the header; a token is kept for what was `wanted`, even if the registry `asked` for more."""
        realm = self._realm(challenge)
        if credential is not None and credential.registry_token:
            return f"Bearer {credential.registry_token}"
        if realm is None:
            return credential.basic() if credential is not None and credential.username else None
        service = challenge.parameters.get("service", "")
        key = (str(self._destinations.registry), str(realm), service, wanted, credential)
        token = self._tokens.get(key, self._clock.monotonic())
        if token is None:
            with self._tokens.fetching(key):
                token = self._tokens.get(key, self._clock.monotonic())
                if token is None:
                    token = self._fetch_into_cache(key, realm, scopes.merge(wanted, asked))
        return f"Bearer {token}"

    def _fetch_into_cache(self, key: _Key, realm: httpx.URL, wanted: Scopes) -> str:
        _, _, service, _, credential = key
        try:
            token, seconds = self._request_token(realm, service, wanted, credential)
        except Unauthorized as error:
            if credential is not None:
                self._tokens.refuse(key, error.message, self._clock.monotonic() + _REFUSED_SECONDS)
            raise
        self._tokens.put(key, token, self._clock.monotonic() + seconds - _MARGIN_SECONDS)
        return token

    def _request_token(
        self, realm: httpx.URL, service: str, wanted: Sequence[Scope], credential: Credential | None
    ) -> tuple[str, float]:
        try:
            if credential is not None and credential.identity_token:
                return self._post(realm, service, wanted, credential)
            try:
                answer = self._get(realm, service, wanted, credential)
            except (EndpointUnknown, Unsupported):
                # Some endpoints know the OAuth2 form alone, which needs an identity.
                if credential is None:
                    raise
                return self._post(realm, service, wanted, credential)
            return _token(answer)
        except Unauthorized as error:
            raise _refused(credential, error.message) from error
        except RegistryError as error:
            if isinstance(error, Denied) or error.status >= 500 or is_transient(error):
                raise
            # Not as it is: a 404 of the token endpoint would say that there is no such image.
            raise AnswerInvalid(f"the token endpoint {realm.host} gives no token: {error.message}") from error

    def _get(
        self,
        realm: httpx.URL,
        service: str,
        wanted: Sequence[Scope],
        credential: Credential | None,
        *,
        is_login: bool = False,
    ) -> dict[str, Any]:
        query: list[tuple[str, str | int | float | bool | None]] = [("client_id", CLIENT_ID)]
        if service:
            query.append(("service", service))
        if is_login:
            query.append(("offline_token", "true"))
        query += [("scope", str(scope)) for scope in wanted]
        headers = {}
        if credential is not None and credential.username:
            query.append(("account", credential.username))
            headers["Authorization"] = credential.basic()
        url = realm.copy_merge_params(httpx.QueryParams(query))
        return _document(self._fetch("GET", url, headers, None))

    def _post(
        self, realm: httpx.URL, service: str, wanted: Sequence[Scope], credential: Credential
    ) -> tuple[str, float]:
        form = {"service": service, "client_id": CLIENT_ID, "scope": " ".join(map(str, wanted))}
        if credential.identity_token:
            known = credential.identity_token
            form |= {"grant_type": "refresh_token", "refresh_token": self._rotated.get(known, known)}
        else:
            form |= {
                "grant_type": "password",
                "username": credential.username,
                "password": credential.password,
            }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = _document(self._fetch("POST", realm, headers, urlencode(form).encode("ascii")))
        if credential.identity_token and isinstance(answer.get("refresh_token"), str):
            self._rotated[credential.identity_token] = answer["refresh_token"]
        return _token(answer)

    def login(self, credential: Credential) -> Credential:
        """Trade a password for a refresh token where the registry's endpoint gives one, as docker does.

        To be called after a request that this credential authorized; returns what is to be stored.
        """
        challenge = self._challenge
        realm = self._realm(challenge) if challenge is not None else None
        if challenge is None or realm is None or credential.identity_token:
            return credential
        service = challenge.parameters.get("service", "")
        answer = self._get(realm, service, (), credential, is_login=True)
        token = answer.get("refresh_token")
        if not isinstance(token, str) or not _is_token(token):
            return credential
        return replace(credential, password="", identity_token=token)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalid("the token endpoint's answer is not JSON") from error
    if not isinstance(document, dict):
        raise AnswerInvalid("the token endpoint's answer is not an object")
    return document


def _token(document: Mapping[str, Any]) -> tuple[str, float]:
    """Read the token and for how many seconds it is good.

    `issued_at` is not read: it is on a clock that may not agree with ours.
    """
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not _is_token(token):
        raise AnswerInvalid("the token endpoint's answer has no token")
    seconds = document.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        seconds = _LEAST_SECONDS
    return token, min(max(float(seconds), _LEAST_SECONDS), _MOST_SECONDS)


def _without_request(challenge: Challenge) -> Challenge:
    """Keep what holds for the registry as a whole: the scope and error were one request's."""
    kept = {name: challenge.parameters[name] for name in ("realm", "service") if name in challenge.parameters}
    return Challenge(challenge.scheme, kept)


def _refused(credential: Credential | None, reason: str = "") -> RegistryError:
    suffix = f": {reason}" if reason else ""
    if credential is None:
        return Unauthorized(f"the registry wants credentials and none were found for it{suffix}")
    return Unauthorized(f"the registry refused {_described(credential)}{suffix}")


def _described(credential: Credential) -> str:
    who = f" of {credential.username}" if credential.username else ""
    where = f" from {credential.source}" if credential.source else ""
    return f"the credentials{who}{where}"
