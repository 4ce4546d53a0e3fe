"""Allow-only rules: who may do what to which repositories. What no rule allows is denied."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from registry.auth.access import Action, Kind, Principal
from registry.auth.globs import GlobInvalid, RepositoryGlob
from registry.auth.names import is_name
from storage.oci.names import RepositoryName

EVERYBODY = ("anonymous", "authenticated")

_ACTIONS = {action.value: action for action in Action}
_is_claim = re.compile(r"[A-Za-z0-9_:./-]{1,256}").fullmatch
# A name can be given up and taken by somebody else; the id beside it cannot (TOK-08).
_RENAMED = {
    "repository": "repository_id",
    "repository_owner": "repository_owner_id",
    "actor": "actor_id",
    "project_path": "project_id",
    "namespace_path": "namespace_id",
    "user_login": "user_id",
}
_KINDS = {
    "user": Kind.USER,
    "robot": Kind.ROBOT,
    "cert": Kind.CERTIFICATE,
    "external": Kind.EXTERNAL,
}


class RuleInvalid(ValueError):
    """A rule outside the grammar; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Who:
    """Whom a rule means. `kind` None is a group, or nobody in particular when `name` is empty."""

    text: str
    kind: Kind | None
    name: str = ""
    claims: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `anonymous`, `authenticated`, `group:ops`, `user:…`, `robot:…`, `cert:…` or `external:…`,
        or `oidc:github repository_id=123 ref=refs/heads/main`. Raises RuleInvalid.
        """
        if text in EVERYBODY:
            return cls(text, Kind.ANONYMOUS if text == "anonymous" else None)
        prefix, _, name = text.partition(":")
        if prefix == "oidc":
            return cls(text, Kind.OIDC, *_provider(name))
        if prefix == "group":
            return cls(text, None, _checked(text, name))
        if prefix not in _KINDS:
            raise RuleInvalid(
                f"not a who: {text[:80]!r}; it is anonymous, authenticated, or user:, group:, robot:, cert:, "
                "external: or oidc: with a name"
            )
        is_foreign = prefix in ("cert", "external")  # their names are others' to choose
        return cls(text, _KINDS[prefix], _printable(text, name) if is_foreign else _checked(text, name))

    def means(self, principal: Principal) -> bool:
        """Say whether the principal is meant. Everybody is whom `anonymous` means."""
        match self.kind:
            case Kind.ANONYMOUS:
                return True
            case None if self.name:
                return self.name in principal.groups
            case None:
                # A job of anybody's at a public provider has logged in too: only its claims tell it apart.
                return principal.kind not in (Kind.ANONYMOUS, Kind.OIDC)
            case Kind.OIDC:
                return self._means_job(principal)
        return principal.kind is self.kind and principal.name == self._principal_name()

    def _means_job(self, principal: Principal) -> bool:
        return (
            principal.kind is Kind.OIDC
            and principal.name.startswith(f"oidc:{self.name}:")
            and all(principal.claims.get(claim) == value for claim, value in self.claims.items())
        )

    def _principal_name(self) -> str:
        return self.name if self.kind in (Kind.USER, Kind.EXTERNAL) else self.text


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `origin` says where it stands."""

    who: Who
    repository: RepositoryGlob
    actions: frozenset[Action]
    origin: str

    @classmethod
    def parse(cls, who: str, repository: str, allow: Sequence[str], origin: str) -> Self:
        """Read a rule's three parts. Raises RuleInvalid."""
        try:
            glob = RepositoryGlob.parse(repository)
        except GlobInvalid as error:
            raise RuleInvalid(str(error)) from error
        parsed = Who.parse(who)
        if glob.names_user and parsed.kind not in (None, Kind.USER):
            raise RuleInvalid(f"{{user}} is the name of a user, and {who!r} is none")
        return cls(parsed, glob, parse_actions(allow), origin)

    def allows(self, principal: Principal, action: Action, name: RepositoryName) -> bool:
        return action in self.actions and self.who.means(principal) and self.covers(principal, name)

    def covers(self, principal: Principal, name: RepositoryName) -> bool:
        """Say whether the rule's pattern means a repository when this principal asks."""
        # Other kinds may have any text for a name: only users own what is named after them.
        return self.repository.matches(name, principal.name if principal.kind is Kind.USER else "")

    def __str__(self) -> str:
        actions = ", ".join(action.value for action in Action if action in self.actions)
        return f"{self.who.text} may {actions} on {self.repository}"


def parse_actions(words: Iterable[str]) -> frozenset[Action]:
    """Read what a rule allows; `admin` is all there is. Raises RuleInvalid."""
    listed = list(words)
    unknown = [word for word in listed if word not in _ACTIONS]
    if unknown or not listed:
        raise RuleInvalid(f"not an action: {unknown[0][:40]!r}" if unknown else "it allows nothing")
    actions = frozenset(_ACTIONS[word] for word in listed)
    return frozenset(Action) if Action.ADMIN in actions else actions


def _provider(text: str) -> tuple[str, dict[str, str]]:
    """Read `github repository_id=123 environment="the first"`."""
    try:
        provider, *pairs = shlex.split(text) or [""]
    except ValueError as error:
        raise RuleInvalid(f"claims that cannot be read: {error}") from error
    _checked(text, provider)
    claims = dict(_claim(pair) for pair in pairs)
    if len(claims) != len(pairs):
        raise RuleInvalid("a claim is named twice")
    if not any(claim in ("sub", "iss") or claim.endswith("_id") for claim in claims):
        # `ref=refs/heads/main` alone would be everybody's main branch.
        raise RuleInvalid(
            f"oidc:{provider} needs a claim that says whose jobs, as repository_id=123, "
            "or iss=… for all jobs of a provider of your own"
        )
    return provider, claims


def _claim(pair: str) -> tuple[str, str]:
    claim, equals, value = pair.partition("=")
    if not equals or not value or not _is_claim(claim):
        raise RuleInvalid(f"not a claim: {pair[:80]!r}; it is name=value")
    if claim in _RENAMED:
        raise RuleInvalid(f"{claim} can come to mean somebody else; use {_RENAMED[claim]}")
    return claim, value


def _checked(text: str, name: str) -> str:
    if not is_name(name):
        raise RuleInvalid(f"not a name: {text[:80]!r}")
    return name


def _printable(text: str, name: str) -> str:
    if not name or not name.isprintable() or len(name) > 255:
        raise RuleInvalid(f"not a name: {text[:80]!r}")
    return name
