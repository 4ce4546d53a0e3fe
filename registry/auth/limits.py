"""What a scoped credential is good for: it grants nothing, the policy's grant is cut down to it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from registry.auth.access import Action
from registry.auth.globs import GlobInvalid, RepositoryGlob
from registry.metadata.api_tokens import StoredLimit
from storage.oci.errors import RequestInvalid
from storage.oci.names import RepositoryName

_NOTHING: frozenset[Action] = frozenset()
# The admin API takes no scoped credential.
_ACTIONS = {action.value: action for action in Action if action is not Action.ADMIN}


class LimitInvalid(RequestInvalid):
    """A limit that cannot be kept; the message says why."""


@dataclass(frozen=True, slots=True)
class RepositoryLimit:
    """Actions in the repositories that a pattern means; `user` is what `{user}` in it stands for."""

    glob: RepositoryGlob
    allowed: frozenset[Action]
    user: str = ""

    @classmethod
    def parse(cls, repository: str, actions: Iterable[str], user: str = "") -> Self:
        """Read a pattern and the words of actions. Raises LimitInvalid."""
        try:
            glob = RepositoryGlob.parse(repository)
        except GlobInvalid as error:
            raise LimitInvalid(str(error)) from error
        words = tuple(actions)
        if unknown := [word for word in words if word not in _ACTIONS]:
            raise LimitInvalid(f"{unknown[0][:50]!r} is no action; there are {', '.join(_ACTIONS)}")
        if not words:
            raise LimitInvalid("a limit without an action is good for nothing")
        return cls(glob, frozenset(_ACTIONS[word] for word in words), user)

    @classmethod
    def load(cls, stored: StoredLimit, user: str) -> Self:
        return cls.parse(stored.repository, stored.actions, user)

    def store(self) -> StoredLimit:
        ordered = (action.value for action in Action if action in self.allowed)
        return StoredLimit(self.glob.text, tuple(ordered))

    def actions(self, name: RepositoryName) -> frozenset[Action]:
        return self.allowed if self.glob.matches(name, self.user) else _NOTHING


PULL_ONLY = (RepositoryLimit.parse("**", [Action.PULL.value]),)
