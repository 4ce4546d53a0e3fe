"""Users and their passwords, and who is asking."""

from functools import partial

from registry.admin import changes
from registry.auth import accounts
from registry.auth.passwords import random_password
from registry.endpoints.admin.asking import Asked, Right
from registry.endpoints.admin.models import Caller, NewPassword, NewUser, Page, Password, User, Users
from registry.endpoints.admin.operation import Operation
from registry.metadata import users
from storage.oci.errors import Denied, RequestInvalid, Unauthorized


async def whoami(asked: Asked) -> Caller:
    principal = asked.caller.principal
    return Caller(
        name=principal.name,
        kind=principal.kind.value,
        is_admin=asked.is_admin,
        groups=sorted(principal.groups),
    )


async def listing(asked: Asked, query: Page) -> Users:
    found = await asked.read(partial(users.listing, last=query.last, limit=query.n + 1))
    if len(found) > query.n:
        asked.link_next("/users", found[query.n - 1].name, query.n)
    return Users(users=[User.of(account) for account in found[: query.n]])


async def show(asked: Asked) -> User:
    return User.of(await asked.read(partial(changes.user, name=asked.name)))


async def create(asked: Asked, body: NewUser) -> Password:
    asked.note(name=body.name)
    password = random_password() if body.password is None else body.password
    stored = await asked.administration.identities.passwords.hash(password)
    await asked.change(partial(accounts.create_user, name=body.name, password_hash=stored))
    return Password(name=body.name, password=password if body.password is None else None)


async def delete(asked: Asked) -> None:
    await asked.change(partial(accounts.delete_user, name=asked.name))


async def set_password(asked: Asked, body: NewPassword) -> Password:
    if asked.is_about_me:
        await _check_current(asked, body.current)
    elif body.current is not None:
        raise RequestInvalid("current is for changing one's own password")
    password = random_password() if body.password is None else body.password
    stored = await asked.administration.identities.passwords.hash(password)
    await asked.change(partial(accounts.set_password, name=asked.name, password_hash=stored))
    return Password(name=asked.name, password=password if body.password is None else None)


async def _check_current(asked: Asked, current: str | None) -> None:
    """Raise Denied unless the owner knows the password: a token that was found must not lock them out."""
    try:
        identity = await asked.administration.identities.login(asked.name, current or "", asked.client)
    except Unauthorized:
        identity = None
    if identity is None or not identity.handle.startswith("user:"):
        raise Denied("current is not the password so far")


async def disable(asked: Asked) -> None:
    await asked.change(partial(accounts.disable_user, name=asked.name))


async def enable(asked: Asked) -> None:
    await asked.change(partial(accounts.enable_user, name=asked.name))


async def make_admin(asked: Asked) -> None:
    await asked.change(partial(accounts.make_admin, name=asked.name))


async def make_ordinary(asked: Asked) -> None:
    await asked.change(partial(accounts.make_ordinary, name=asked.name))


OPERATIONS = (
    Operation("GET", "/whoami", Right.ANYBODY, whoami, "Say who is asking"),
    Operation("GET", "/users", Right.ADMIN, listing, "List users"),
    Operation("POST", "/users", Right.ADMIN, create, "Make a user", "user.add", 201, (409,)),
    Operation("GET", "/users/{name}", Right.SELF, show, "Show a user"),
    Operation("DELETE", "/users/{name}", Right.ADMIN, delete, "Delete a user", "user.delete", errors=(409,)),
    Operation("PUT", "/users/{name}/password", Right.SELF, set_password, "Set a password", "user.password"),
    Operation(
        "PUT",
        "/users/{name}/disabled",
        Right.ADMIN,
        disable,
        "Shut a user out",
        "user.disable",
        errors=(409,),
    ),
    Operation("DELETE", "/users/{name}/disabled", Right.ADMIN, enable, "Let a user in", "user.enable"),
    Operation("PUT", "/users/{name}/admin", Right.ADMIN, make_admin, "Make an administrator", "user.promote"),
    Operation(
        "DELETE",
        "/users/{name}/admin",
        Right.ADMIN,
        make_ordinary,
        "Make an administrator a user again",
        "user.demote",
        errors=(409,),
    ),
)
