"""Groups and who is in them."""

from functools import partial

from registry.admin import changes
from registry.auth import accounts
from registry.endpoints.admin.asking import Asked, Right
from registry.endpoints.admin.models import Group, Groups, NewGroup, Page
from registry.endpoints.admin.operation import Operation
from registry.metadata import groups


async def listing(asked: Asked, query: Page) -> Groups:
    found = await asked.read(partial(groups.listing, last=query.last, limit=query.n + 1))
    if len(found) > query.n:
        asked.link_next("/groups", found[query.n - 1], query.n)
    return Groups(groups=found[: query.n])


async def show(asked: Asked) -> Group:
    return Group(name=asked.name, members=await asked.read(partial(changes.members, name=asked.name)))


async def create(asked: Asked, body: NewGroup) -> Group:
    asked.note(name=body.name)
    await asked.change(partial(accounts.create_group, name=body.name))
    return Group(name=body.name, members=[])


async def delete(asked: Asked) -> None:
    await asked.change(partial(accounts.delete_group, name=asked.name))


async def add_member(asked: Asked) -> None:
    await asked.change(partial(accounts.add_member, group=asked.name, user=asked.path["member"]))


async def remove_member(asked: Asked) -> None:
    await asked.change(partial(accounts.remove_member, group=asked.name, user=asked.path["member"]))


_MEMBER = "/groups/{name}/members/{member}"
OPERATIONS = (
    Operation("GET", "/groups", Right.ADMIN, listing, "List groups"),
    Operation("POST", "/groups", Right.ADMIN, create, "Make a group", "group.add", 201, (409,)),
    Operation("GET", "/groups/{name}", Right.ADMIN, show, "Show a group and its members"),
    Operation("DELETE", "/groups/{name}", Right.ADMIN, delete, "Delete a group", "group.delete"),
    Operation("PUT", _MEMBER, Right.ADMIN, add_member, "Put a user into a group", "group.join"),
    Operation("DELETE", _MEMBER, Right.ADMIN, remove_member, "Take a user out of a group", "group.leave"),
)
