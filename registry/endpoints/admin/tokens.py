"""Personal tokens, secrets of robots, and refresh tokens: listed, made and ended; shown once."""

from functools import partial

from registry.admin import changes
from registry.auth import accounts
from registry.auth.accounts import IssuedSecret
from registry.auth.limits import RepositoryLimit
from registry.endpoints.admin.asking import Asked, Right
from registry.endpoints.admin.models import (
    CreatedToken,
    Login,
    Logins,
    NewToken,
    Page,
    Token,
    TokenLimit,
    Tokens,
)
from registry.endpoints.admin.operation import Operation
from registry.metadata import api_tokens, refresh_tokens
from registry.metadata.api_tokens import OwnerKind
from storage.database import Connection


async def listing(asked: Asked, query: Page) -> Tokens:
    """An administrator sees all, everybody else their own."""
    return await _list(asked, query, "/tokens", None if asked.is_admin else ("user", asked.me))


async def of_user(asked: Asked, query: Page) -> Tokens:
    return await _list(asked, query, f"/users/{asked.name}/tokens", ("user", asked.name))


async def of_robot(asked: Asked, query: Page) -> Tokens:
    await asked.read(partial(changes.robot, name=asked.name))
    return await _list(asked, query, f"/robots/{asked.name}/tokens", ("robot", asked.name))


async def _list(asked: Asked, query: Page, path: str, owner: tuple[OwnerKind, str] | None) -> Tokens:
    # By id: one that is revoked in between moves no other.
    found = await asked.read(partial(api_tokens.page, owner=owner, last=query.last, limit=query.n + 1))
    if len(found) > query.n:
        asked.link_next(path, found[query.n - 1].id, query.n)
    return Tokens(tokens=[Token.of(token) for token in found[: query.n]])


async def create_for_user(asked: Asked, body: NewToken) -> CreatedToken:
    file = asked.administration.identities.htpasswd
    is_in_file = file is not None and file.find(asked.name) is not None
    return await _create(asked, body, "user", may_be_absent=is_in_file)


async def create_for_robot(asked: Asked, body: NewToken) -> CreatedToken:
    return await _create(asked, body, "robot")


async def _create(
    asked: Asked, body: NewToken, kind: OwnerKind, *, may_be_absent: bool = False
) -> CreatedToken:
    limits = None if body.limits is None else [_limit(limit) for limit in body.limits]

    def unit(db: Connection) -> IssuedSecret:
        if kind == "user" and not may_be_absent:
            changes.user(db, asked.name)
        owner = (kind, asked.name)
        return accounts.issue_secret(db, owner, body.description, limits, body.expires_in_seconds)

    issued = await asked.change(unit)
    asked.note(token=issued.token.id)
    return CreatedToken.of(issued)


def _limit(limit: TokenLimit) -> RepositoryLimit:
    return RepositoryLimit.parse(limit.repository, limit.actions)


async def revoke(asked: Asked) -> None:
    owner: tuple[OwnerKind, str] | None = None if asked.is_admin else ("user", asked.me)
    token = await asked.change(partial(accounts.revoke_secret, token_id=asked.path["id"], owner=owner))
    asked.note(owner=token.owner_name, kind=token.owner_kind)


async def logins(asked: Asked, query: Page) -> Logins:
    """An administrator sees all, everybody else their own."""
    principal = None if asked.is_admin else asked.me
    found = await asked.read(
        partial(refresh_tokens.page, principal=principal, last=query.last, limit=query.n + 1)
    )
    if len(found) > query.n:
        asked.link_next("/refresh-tokens", found[query.n - 1].id, query.n)
    return Logins(refresh_tokens=[Login.of(token) for token in found[: query.n]])


async def revoke_login(asked: Asked) -> None:
    principal = None if asked.is_admin else asked.me
    token = await asked.change(partial(changes.revoke_login, token_id=asked.path["id"], principal=principal))
    asked.note(owner=token.principal)


OPERATIONS = (
    Operation("GET", "/tokens", Right.ACCOUNT, listing, "List personal tokens and secrets of robots"),
    Operation("DELETE", "/tokens/{id}", Right.ACCOUNT, revoke, "End a token or secret", "token.revoke"),
    Operation("GET", "/users/{name}/tokens", Right.SELF, of_user, "List a user's tokens"),
    Operation(
        "POST", "/users/{name}/tokens", Right.SELF, create_for_user, "Make a personal token", "token.add", 201
    ),
    Operation("GET", "/robots/{name}/tokens", Right.ADMIN, of_robot, "List a robot's secrets"),
    Operation(
        "POST",
        "/robots/{name}/tokens",
        Right.ADMIN,
        create_for_robot,
        "Make a robot's secret",
        "robot.token",
        201,
    ),
    Operation("GET", "/refresh-tokens", Right.ACCOUNT, logins, "List logins that clients keep"),
    Operation(
        "DELETE", "/refresh-tokens/{id}", Right.ACCOUNT, revoke_login, "End such a login", "login.revoke"
    ),
)
