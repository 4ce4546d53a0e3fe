"""What every request needs: the one table of resources and methods (AUTH-10, AUTH-14)."""

from collections.abc import Collection, Mapping
from enum import Enum

from registry.auth.access import Action
from registry.routes import Resource


class Need(Enum):
    """What a caller must have before a request is looked at."""

    NOTHING = "nothing"
    # To have logged in with a password or the like; what for, the admin API knows.
    ACCOUNT = "account"
    # To be somebody, if only the bearer of an anonymous token.
    LOGIN = "login"
    LIST = "list"
    PULL = "pull"
    # With it goes pull: who pushes asks what is there.
    PUSH = "push"
    DELETE = "delete"


# What `Access.require` is asked. The repository is the route's; the catalog has none.
ACTIONS: Mapping[Need, Action | None] = {
    Need.ACCOUNT: None,
    Need.LOGIN: None,
    Need.LIST: Action.PULL,
    Need.PULL: Action.PULL,
    Need.PUSH: Action.PUSH,
    Need.DELETE: Action.DELETE,
}

_READ = {"GET": Need.PULL, "HEAD": Need.PULL}
_PUBLIC = {"GET": Need.NOTHING, "HEAD": Need.NOTHING}
NEEDS: Mapping[Resource, Mapping[str, Need]] = {
    Resource.BASE: {"GET": Need.LOGIN, "HEAD": Need.LOGIN},
    Resource.CATALOG: {"GET": Need.LIST, "HEAD": Need.LIST},
    Resource.MANIFEST: {**_READ, "PUT": Need.PUSH, "DELETE": Need.DELETE},
    Resource.BLOB: {**_READ, "DELETE": Need.DELETE},
    Resource.UPLOADS: {"POST": Need.PUSH},
    Resource.UPLOAD: dict.fromkeys(("GET", "HEAD", "PATCH", "PUT", "DELETE"), Need.PUSH),
    Resource.TAGS: _READ,
    Resource.REFERRERS: _READ,
    Resource.TOKEN: {**_PUBLIC, "POST": Need.NOTHING},
    Resource.JWKS: _PUBLIC,
    Resource.CERTIFICATES: _PUBLIC,
    Resource.ADMIN: dict.fromkeys(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), Need.ACCOUNT),
    Resource.OPENAPI: _PUBLIC,
}


class Undeclared(Exception):
    """A fault of ours: handlers and the table differ, so nothing is served."""


def check(handlers: Mapping[Resource, Collection[str]]) -> None:
    """Hold the table against the handlers there are. Raises Undeclared (AUTH-10)."""
    for resource in Resource:
        declared, handled = set(NEEDS.get(resource, ())), set(handlers.get(resource, ()))
        if declared != handled:
            raise Undeclared(f"{resource.value}: {sorted(declared ^ handled)} without a handler or a need")
