"""What a caller may do: by the policy, by a token, or nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

from registry.auth.access import Action, Identity, Policy, Rights, expand, permits
from registry.auth.scopes import CATALOG, Scope
from storage.oci.names import RepositoryName

_BY_VALUE = {
    action.value: action
    for action in Action
    if action is not Action.ADMIN  # no token opens the admin API
}
_EVERYTHING = frozenset({Action.PULL, Action.PUSH, Action.DELETE})
_NOTHING: frozenset[Action] = frozenset()


class Nothing:
    """No rights at all."""

    def may(self, action: Action, name: RepositoryName) -> bool:
        return False

    def may_list(self) -> bool:
        return False

    def shows(self, name: RepositoryName) -> bool:
        return False


NOTHING = Nothing()


def effective(policy: Policy, identity: Identity, name: RepositoryName) -> frozenset[Action]:
    """Return what the rules grant, cut down to the limits of the credential."""
    granted = expand(policy.actions(identity.principal, name))
    if identity.limits is None:
        return granted
    return granted & expand(frozenset().union(*(limit.actions(name) for limit in identity.limits)))


@dataclass(frozen=True, slots=True)
class PolicyRights:
    """What the rules grant at the moment of asking."""

    policy: Policy
    identity: Identity

    def may(self, action: Action, name: RepositoryName) -> bool:
        return permits(effective(self.policy, self.identity, name), action)

    def may_list(self) -> bool:
        return bool(self.identity.principal.name)

    def shows(self, name: RepositoryName) -> bool:
        return self.may(Action.PULL, name)


class TokenRights:
    """What a token lists: names are equal or not, nothing in them is a pattern (AUTH-11)."""

    __slots__ = ("_by_name", "_catalog")

    def __init__(self, scopes: Iterable[Scope], catalog: Rights | None) -> None:
        """`catalog` says what the catalog shows to a token that may list; None is all of it."""
        by_name: dict[str, frozenset[Action]] = {}
        self._catalog: Rights | None = NOTHING
        for scope in scopes:
            if scope.type == "repository":
                by_name[scope.name] = by_name.get(scope.name, _NOTHING) | _read(scope.actions)
            elif (scope.type, scope.name) == (CATALOG.type, CATALOG.name) and "*" in scope.actions:
                self._catalog = catalog
        self._by_name = by_name

    def may(self, action: Action, name: RepositoryName) -> bool:
        return permits(self._by_name.get(name.value, _NOTHING), action)

    def may_list(self) -> bool:
        return self._catalog is not NOTHING

    def shows(self, name: RepositoryName) -> bool:
        return self._catalog is None or self._catalog.shows(name)


def _read(actions: Iterable[str]) -> frozenset[Action]:
    if "*" in actions:
        return _EVERYTHING
    return frozenset(_BY_VALUE[action] for action in actions if action in _BY_VALUE)


def grant(policy: Policy, identity: Identity, wanted: Scope) -> Scope | None:
    """Return the part of a wish that is granted; None when that is nothing (AUTH-13).

    Who may only make tags, or only move them, gets these two words in place of push: any other registry
    that reads the token knows neither and refuses.
    """
    if wanted.type == CATALOG.type:
        is_catalog = wanted.name == CATALOG.name and "*" in wanted.actions
        # The handle finds again what the catalog may show.
        return CATALOG if is_catalog and identity.handle else None
    name = wanted.repository
    if name is None:
        return None
    granted = effective(policy, identity, name)
    actions = [word for action in wanted.actions for word in _words(action, granted)]
    return Scope(wanted.type, wanted.name, tuple(dict.fromkeys(actions))) if actions else None


def _words(wanted: str, granted: frozenset[Action]) -> Iterable[str]:
    if wanted == "*":
        return [word for each in ("pull", "push", "delete") for word in _words(each, granted)]
    action = _BY_VALUE[wanted]
    if action in granted:
        return (wanted,)
    if action is Action.PUSH:
        return [each.value for each in (Action.TAG_CREATE, Action.TAG_OVERWRITE) if each in granted]
    return ()
