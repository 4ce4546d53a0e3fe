"""What a token may do: distribution's scopes. Source: distribution's docs/spec/auth/scope.md."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from storage.oci.names import RepositoryName

# The name may hold one colon, of a host and port.
_match = re.compile(
    r"([a-z0-9]+(?:\([a-z0-9]+\))?):([^\s:]+(?::[0-9]+/[^\s:]+)?):([a-z*]+(?:,[a-z*]+)*)"
).fullmatch


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    kind: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"


Scopes = tuple[Scope, ...]


def pull(name: RepositoryName) -> Scopes:
    return (Scope("repository", name.value, ("pull",)),)


def push(name: RepositoryName) -> Scopes:
    return (Scope("repository", name.value, ("pull", "push")),)


def delete(name: RepositoryName) -> Scopes:
    return (Scope("repository", name.value, ("delete", "pull")),)


CATALOG = Scope("registry", "catalog", ("*",))


def parse(text: str) -> Scopes:
    """Read a challenge's space-separated scopes; what does not parse is left out."""
    found = (_match(part) for part in text.split()[:64])
    return merge(Scope(match[1], match[2], tuple(match[3].split(","))) for match in found if match)


def merge(*groups: Iterable[Scope]) -> Scopes:
    """Join scopes of one name, all in one order, so that equal wishes make equal keys."""
    actions: dict[tuple[str, str], set[str]] = {}
    for scope in (scope for group in groups for scope in group):
        actions.setdefault((scope.kind, scope.name), set()).update(scope.actions)
    return tuple(sorted(Scope(kind, name, tuple(sorted(each))) for (kind, name), each in actions.items()))
