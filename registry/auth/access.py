"""The seam between the API and whoever decides about it: a principal, an action, a repository."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from registry.settings import Settings
from storage.oci.errors import Denied
from storage.oci.names import RepositoryName


class Action(Enum):
    """What a request wants of a repository. Source: the token scope grammar of the docker registry."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for; the empty name is anonymous."""

    name: str


ANONYMOUS = Principal("")


class Access(Protocol):
    """Decides. Every request asks before its body is read."""

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Name who is asking. Raises Unauthorized for credentials that are wrong."""
        ...

    def require(self, principal: Principal, action: Action, name: RepositoryName | None) -> None:
        """Raise Unauthorized or Denied unless the principal may do this. `None` is the catalog."""
        ...

    def may(self, principal: Principal, action: Action, name: RepositoryName) -> bool:
        """Say the same without raising, for lists and mounts."""
        ...


class OpenAccess:
    """Everybody may do everything, or only pull: for a loopback listener or behind other walls."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        return ANONYMOUS

    def require(self, principal: Principal, action: Action, name: RepositoryName | None) -> None:
        if self._settings.read_only and action is not Action.PULL:
            raise Denied("this registry is read-only")

    def may(self, principal: Principal, action: Action, name: RepositoryName) -> bool:
        return action is Action.PULL or not self._settings.read_only
