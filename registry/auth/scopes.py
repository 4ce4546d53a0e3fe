"""Scopes: what a client asks a token for, and what a challenge tells it to ask.

Source: distribution's docs/spec/auth/scope.md, "Resource Scope Grammar".
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from registry.auth.access import Action
from storage.oci.errors import NameInvalid
from storage.oci.names import RepositoryName

# Our verifier takes no token with more entries (AUTH-08).
MOST_SCOPES = 64

_TEXT_LIMIT = 1024
_COMPONENT = r"[a-z0-9]+(?:(?:[_.]|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOSTNAME = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?"
# The class, as in repository(plugin), is deprecated and means nothing.
_match = re.compile(
    rf"(?P<type>[a-z0-9]+)(?:\([a-z0-9]+\))?"
    rf":(?P<name>(?:{_HOSTNAME}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r":(?P<actions>(?:[a-z]*|\*)(?:,(?:[a-z]*|\*))*)",
    re.ASCII,
).fullmatch

# In the order in which they are written.
_ACTIONS = ("pull", "push", "delete", "*")


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one resource; those that no registry knows are left out."""

    type: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"

    @property
    def repository(self) -> RepositoryName | None:
        """The repository it is about, if we could have it."""
        if self.type != "repository":
            return None
        try:
            return RepositoryName.parse(self.name)
        except NameInvalid:
            return None


CATALOG = Scope("registry", "catalog", ("*",))


def of(name: RepositoryName, *actions: Action) -> Scope:
    """Name what a request needs of a repository."""
    return Scope("repository", name.value, canonical(action.value for action in actions))


def canonical(actions: Iterable[str]) -> tuple[str, ...]:
    """Put the actions that exist into their order, each once."""
    given = set(actions)
    return tuple(action for action in _ACTIONS if action in given)


def parse(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Read scope parameters, each of one or several scopes; a resource that comes twice is joined.

    What does not parse is left out, and so is what comes behind the 64th resource (AUTH-12).
    """
    actions: dict[tuple[str, str], set[str]] = {}
    for text in (scope for parameter in texts for scope in parameter.split(" ")):
        found = _match(text) if len(text) <= _TEXT_LIMIT else None
        if found is None:
            continue
        key = (found["type"], found["name"])
        if key in actions or len(actions) < MOST_SCOPES:
            actions.setdefault(key, set()).update(found["actions"].split(","))
    return tuple(Scope(type_, name, canonical(each)) for (type_, name), each in actions.items())
