"""A request of the admin API, and who may send which."""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from registry.access_log import client_address
from registry.admin.administration import Administration
from registry.auth.access import Caller, Kind, Presented
from registry.auth.challenge import basic
from registry.auth.rights import PolicyRights
from registry.endpoints.call import Api, Call
from registry.offload import Offload
from registry.settings import Settings
from storage.database import Unit
from storage.oci.errors import Denied, EndpointUnknown, Unauthorized

T = TypeVar("T")


class Right(Enum):
    """Who may send a request."""

    # Whoever has logged in, with whatever.
    ANYBODY = "anybody"
    # A user, with all of their rights: a scoped credential must not make itself a better one.
    ACCOUNT = "account"
    # The user whom the path names, and administrators.
    SELF = "self"
    ADMIN = "admin"


async def log_in(api: Api, presented: Presented) -> Caller:
    """Name who asks. Raises Unauthorized, with the one challenge that helps here.

    Access tokens are made for contents and say nothing of their bearer's account, so they open nothing.
    """
    service = api.settings.public_service
    if api.administration is None:
        raise EndpointUnknown("this registry has no accounts of its own; they come with auth = local")
    try:
        caller = await api.access.authenticate(presented)
    except Unauthorized as error:
        raise Unauthorized(error.message, challenge=basic(service)) from error
    if caller.has_token or caller.principal.kind is Kind.ANONYMOUS:
        raise Unauthorized(
            "the admin API wants a password or personal token, as Basic", challenge=basic(service)
        )
    return caller


class Asked:
    """One request: who asks, the names in its path, and what the functions behind it work with."""

    __slots__ = ("_call", "headers", "path")

    def __init__(self, call: Call, path: Mapping[str, str]) -> None:
        self._call = call
        self.path = path
        # What the answer has besides its body.
        self.headers: dict[str, str] = {}

    @property
    def caller(self) -> Caller:
        return self._call.caller

    @property
    def me(self) -> str:
        return self._call.principal.name

    @property
    def is_admin(self) -> bool:
        return self.caller.is_admin

    @property
    def name(self) -> str:
        """The account or group that the path names."""
        return self.path["name"]

    @property
    def is_about_me(self) -> bool:
        return self._call.principal.kind is Kind.USER and self.name == self.me

    @property
    def client(self) -> str:
        return client_address(self._call.scope)

    @property
    def settings(self) -> Settings:
        return self._call.api.settings

    @property
    def administration(self) -> Administration:
        administration = self._call.api.administration
        assert administration is not None  # log_in looked
        return administration

    def require(self, right: Right) -> None:
        """Raise Denied unless the caller has the right, whether or not there is what the path names."""
        if not _has(self, right):
            raise Denied("this is for administrators" if right is Right.ADMIN else "this is for its owner")

    async def read(self, unit: Unit[T]) -> T:
        return await self._offload.read(unit)

    async def change(self, unit: Unit[T]) -> T:
        return await self._offload.transaction(unit)

    def note(self, **facts: object) -> None:
        """Tell the audit log whom or what a change was about, and no secret."""
        self._call.note(**facts)

    def link_next(self, path: str, last: str | int, page: int) -> None:
        """Say where the list goes on."""
        self.headers["Link"] = self._call.api.links.next_page(f"/api/v1{path}", n=page, last=last)

    @property
    def _offload(self) -> Offload:
        return self._call.api.offload


def _has(asked: Asked, right: Right) -> bool:
    if right is Right.ANYBODY or asked.is_admin:
        return True
    if asked.caller.principal.kind is not Kind.USER or not is_whole(asked.caller):
        return False
    return right is Right.ACCOUNT or (right is Right.SELF and asked.is_about_me)


def is_whole(caller: Caller) -> bool:
    """Say whether a credential gives all of its owner's rights."""
    rights = caller.rights
    return isinstance(rights, PolicyRights) and rights.identity.limits is None
