"""Jobs of GitHub Actions, GitLab and other CI systems log in with the ID token of their provider.

Either the job exchanges it at POST /token, or it is the password of the user `oidc`:

    skopeo login -u oidc -p "$ID_TOKEN" registry.example

What the job may do is the policy's word (`oidc:github repository_id=123 ref=refs/heads/main`). An exchanged
token is used up. As a password it is taken again until it expires, because clients send a password with every
token call, but only from the address that showed it first.
"""

import logging
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from client.destinations import is_loopback
from registry.auth import id_tokens, names, oidc_keys
from registry.auth.access import Identity, Kind, Principal
from registry.auth.id_tokens import IdToken, IdTokenInvalid
from registry.auth.limits import PULL_ONLY
from registry.auth.oidc_keys import Load, ProviderKeys
from registry.auth.throttle import network
from registry.metadata import oidc_tokens
from registry.offload import Offload
from storage.oci.errors import Unauthorized

log = logging.getLogger(__name__)

_ALGORITHMS = frozenset({"RS256", "ES256"})
_GITHUB = "https://token.actions.githubusercontent.com"
_GITLAB = "https://gitlab.com"
_JWKS_PATHS = {"github": "/.well-known/jwks", "gitlab": "/oauth/discovery/keys"}
_ISSUERS = {"github": _GITHUB, "gitlab": _GITLAB}
# GitHub's own default audience is the URL of the job's owner, which every other service gets too.
_FOREIGN_AUDIENCES = ("https://github.com/", "https://gitlab.com")
_KEYS = frozenset(
    {
        "name", "kind", "issuer", "audience", "jwks_url", "jwks_file", "ca_file", "private", "algorithms",
        "require",
    }
)  # fmt: skip


class ProviderInvalid(ValueError):
    """A provider's configuration that is not taken; the message names provider and key."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One CI system. `require` are claims that every token must have, exactly, to log in at all."""

    name: str
    issuer: str
    audience: str
    jwks_url: str = ""
    jwks_file: Path | None = None
    ca_file: Path | None = None
    private: bool = False
    algorithms: frozenset[str] = frozenset({"RS256"})
    require: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Self:
        """Read one table of the providers' file. Raises ProviderInvalid."""
        name = table.get("name")
        if not isinstance(name, str) or not names.is_name(name):
            raise ProviderInvalid('an OIDC provider needs a name, as in name = "github"')
        try:
            return cls._parse(name, table)
        except (ValueError, TypeError) as error:
            raise ProviderInvalid(f"OIDC provider {name}: {error}") from error

    @classmethod
    def _parse(cls, name: str, table: Mapping[str, Any]) -> Self:
        if unknown := sorted(set(table) - _KEYS):
            raise ValueError(f"{unknown[0]!r} is no setting of it")
        kind = _text(table, "kind")
        if kind not in ("", *_ISSUERS):
            raise ValueError("kind is github or gitlab, or left out")
        issuer = _text(table, "issuer") or _ISSUERS.get(kind, "")
        jwks_file = _text(table, "jwks_file")
        jwks_url = _text(table, "jwks_url")
        if not jwks_file and not jwks_url and kind:
            jwks_url = issuer.rstrip("/") + _JWKS_PATHS[kind]
        ca_file = _text(table, "ca_file")
        provider = cls(
            name=name,
            issuer=issuer,
            audience=_text(table, "audience"),
            jwks_url=jwks_url,
            jwks_file=Path(jwks_file) if jwks_file else None,
            ca_file=Path(ca_file) if ca_file else None,
            private=_flag(table, "private"),
            algorithms=frozenset(_texts(table.get("algorithms", ["RS256"]), "algorithms")),
            require=_require(table.get("require", {})),
        )
        provider._check()
        return provider

    def _check(self) -> None:
        if not self.issuer:
            raise ValueError("it needs an issuer, exactly as its tokens have it")
        if not self.audience or self.audience.startswith(_FOREIGN_AUDIENCES):
            raise ValueError(
                "it needs an audience of this registry's own, as https://registry.example: a token for "
                "GitHub's or GitLab's default one is shown to other services too"
            )
        if bool(self.jwks_url) == (self.jwks_file is not None):
            raise ValueError("it needs either a jwks_url or a jwks_file")
        if self.jwks_url:
            _check_url(self.jwks_url, self.private)
        if not self.algorithms or not self.algorithms <= _ALGORITHMS:
            raise ValueError("algorithms are RS256 and ES256")

    @property
    def terms(self) -> id_tokens.Terms:
        return id_tokens.Terms(self.issuer, self.audience, self.algorithms)

    def load(self) -> Load:
        """Return how to get the keys."""
        if self.jwks_file is not None:
            return self.jwks_file.read_bytes
        return oidc_keys.from_url(self.jwks_url, private=self.private, ca_file=self.ca_file)


def read(path: Path) -> list[Provider]:
    """Read a file of `[[provider]]` tables. Raises ProviderInvalid, OSError."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ProviderInvalid(f"{path} is not TOML: {error}") from error
    tables = document.get("provider")
    if not isinstance(tables, list) or set(document) != {"provider"}:
        raise ProviderInvalid(f"{path} has [[provider]] tables, and nothing else")
    providers = [Provider.parse(table) for table in tables]
    for what in ("name", "issuer"):
        values = [getattr(provider, what) for provider in providers]
        if len(set(values)) < len(values):
            raise ProviderInvalid(f"{path}: two providers have the same {what}")
    return providers


class Federation:
    """Turns ID tokens of configured providers into identities."""

    def __init__(
        self, providers: Sequence[Provider], offload: Offload, clock: Callable[[], float] = time.time
    ) -> None:
        self._offload = offload
        self._clock = clock
        self._by_issuer = {
            provider.issuer: (provider, ProviderKeys(provider.name, provider.load(), offload))
            for provider in providers
        }

    async def login(self, id_token: str, client: str, *, exchange: bool = False) -> Identity:
        """Take an ID token; with `exchange` for the only time.

        Raises Unauthorized for one that is not valid or was used, Unavailable without its provider's keys.
        """
        try:
            provider, token = await self._verify(id_token)
            await self._use(provider, token, "" if exchange else network(client) or "-")
        except IdTokenInvalid as error:
            log.info("ID token refused", extra={"reason": str(error), "client": client})
            raise Unauthorized("the ID token is not valid here; the registry's log says why") from error
        principal = Principal(f"oidc:{provider.name}:{token.subject}", Kind.OIDC, frozenset(), token.claims)
        # Without a handle: a job is over when its token is, and leaves no refresh token.
        return Identity(principal, PULL_ONLY if token.is_of_strangers else None)

    async def _verify(self, text: str) -> tuple[Provider, IdToken]:
        found = self._by_issuer.get(id_tokens.issuer_of(text))
        if found is None:
            raise IdTokenInvalid("its issuer is not configured")
        provider, keys = found
        token = await id_tokens.verify(text, provider.terms, keys.find, self._clock())
        for claim, values in provider.require.items():
            if token.claims.get(claim) not in values:
                raise IdTokenInvalid(f"its {claim} is none that {provider.name} requires")
        return provider, token

    async def _use(self, provider: Provider, token: IdToken, source: str) -> None:
        until = token.expires + id_tokens.LEEWAY_SECONDS
        take = partial(
            oidc_tokens.take, provider=provider.name, jti=token.jti, source=source, expires_at=until
        )
        if not await self._offload.transaction(take):
            raise IdTokenInvalid("it was used before")


def _check_url(url: str, private: bool) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not (parts.scheme == "http" and private and is_loopback(host)):
        raise ValueError("jwks_url is an https URL")
    if not host or parts.username or parts.fragment or not parts.path.startswith("/"):
        raise ValueError("jwks_url is a whole URL without user and fragment")


def _require(value: object) -> dict[str, frozenset[str]]:
    if not isinstance(value, dict):
        raise TypeError('require is a table of claims, as require = { repository_owner_id = "123" }')
    return {claim: frozenset(_texts(values, claim)) for claim, values in value.items()}


def _texts(value: object, what: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(each, str) for each in values):
        raise TypeError(f"{what} is a text or a list of texts")
    return values


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise TypeError(f"{key} is a text")
    return value


def _flag(table: Mapping[str, Any], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise TypeError(f"{key} is true or false")
    return value
