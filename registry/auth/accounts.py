"""What an administrator does with accounts, as units of work over a Connection.

A password is hashed before (Passwords.hash or hash_now), never inside a transaction.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.auth import api_secrets, names
from registry.auth.limits import RepositoryLimit
from registry.auth.passwords import Passwords, random_password
from registry.metadata import api_tokens, groups, robots, rules, users
from registry.metadata.api_tokens import ApiToken, NewApiToken, OwnerKind
from storage.database import Connection, Database
from storage.oci.errors import NameUnknown, ReferenceConflict, RequestInvalid

FIRST_ADMIN = "admin"

_TEXT_LIMIT = 500
_MOST_LIMITS = 50
_LONGEST_SECONDS = 10 * 365 * 86400.0


class AccountUnknown(NameUnknown):
    """No user, robot, group or token of this name."""


class AccountExists(ReferenceConflict):
    """A name that is taken, perhaps in another case."""


class LastAdmin(ReferenceConflict):
    """The only administrator who can log in, who must not go."""


class AccountInvalid(RequestInvalid):
    """A value that an account or token cannot have."""


@dataclass(frozen=True, slots=True)
class IssuedSecret:
    """A new token with its text, which is nowhere else and is shown once."""

    token: ApiToken
    text: str


def create_user(db: Connection, name: str, password_hash: str, *, is_admin: bool = False) -> None:
    """Raises AccountNameInvalid, AccountExists."""
    if not users.create(db, names.check(name), password_hash, is_admin=is_admin):
        raise AccountExists(f"there is a user {name!r} already")


def set_password(db: Connection, name: str, password_hash: str) -> None:
    """Give a user another password. Raises AccountUnknown."""
    _known(users.set_password(db, name, password_hash), "user", name)


def disable_user(db: Connection, name: str) -> None:
    """Shut a user out at the next call (AUTH-21). Raises AccountUnknown, LastAdmin."""
    _keep_an_admin(db, name)
    _known(users.set_disabled(db, name, True), "user", name)


def enable_user(db: Connection, name: str) -> None:
    """Raises AccountUnknown."""
    _known(users.set_disabled(db, name, False), "user", name)


def make_admin(db: Connection, name: str) -> None:
    """Raises AccountUnknown."""
    _known(users.set_admin(db, name, True), "user", name)


def make_ordinary(db: Connection, name: str) -> None:
    """Raises AccountUnknown, LastAdmin."""
    _keep_an_admin(db, name)
    _known(users.set_admin(db, name, False), "user", name)


def delete_user(db: Connection, name: str) -> None:
    """Forget a user with their tokens, memberships and rules. Raises AccountUnknown, LastAdmin."""
    _keep_an_admin(db, name)
    _known(users.delete(db, name), "user", name)
    rules.remove_of(db, f"user:{name}")


def import_users(db: Connection, hashes: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Make users of an htpasswd file (htpasswd.read); return the new ones and those that were there before.

    Their bcrypt hashes become argon2id at their next login.
    """
    made = [name for name, stored in hashes.items() if users.create(db, names.check(name), stored)]
    there_before = set(hashes).difference(made)
    return made, [name for name in hashes if name in there_before]


def create_group(db: Connection, name: str) -> None:
    """Raises AccountNameInvalid, AccountExists."""
    if not groups.create(db, names.check(name)):
        raise AccountExists(f"there is a group {name!r} already")


def delete_group(db: Connection, name: str) -> None:
    """Forget a group with its rules. Raises AccountUnknown."""
    _known(groups.delete(db, name), "group", name)
    rules.remove_of(db, f"group:{name}")


def add_member(db: Connection, group: str, user: str) -> None:
    """Put a user, of this database or of the htpasswd file, into a group.

    Raises AccountUnknown for the group, AccountNameInvalid.
    """
    _known(groups.add(db, group, names.check(user)), "group", group)


def remove_member(db: Connection, group: str, user: str) -> None:
    """Raises AccountUnknown when the user is not in the group."""
    if not groups.remove(db, group, user):
        raise AccountUnknown(f"{user[:200]!r} is not in group {group[:200]!r}")


def create_robot(db: Connection, name: str, description: str, created_by: str) -> None:
    """Raises AccountNameInvalid, AccountExists, AccountInvalid."""
    if not robots.create(db, names.check(name), _text(description), created_by):
        raise AccountExists(f"there is a robot {name!r} already")


def set_robot_disabled(db: Connection, name: str, is_disabled: bool) -> None:
    """Raises AccountUnknown."""
    _known(robots.set_disabled(db, name, is_disabled), "robot", name)


def delete_robot(db: Connection, name: str) -> None:
    """Forget a robot with its secrets and rules. Raises AccountUnknown."""
    _known(robots.delete(db, name), "robot", name)
    rules.remove_of(db, f"robot:{name}")


def issue_secret(
    db: Connection,
    owner: tuple[OwnerKind, str],
    description: str,
    limits: Sequence[RepositoryLimit] | None = None,
    seconds: float | None = None,
) -> IssuedSecret:
    """Make a token of a user or a secret of a robot; `limits` None is all that the owner may do.

    That the owner exists is the caller's to know: a user may be one of the htpasswd file. Raises
    AccountUnknown for a robot that does not exist, AccountInvalid.
    """
    kind, name = owner
    if kind == "robot":
        _known(robots.find(db, name) is not None, "robot", name)
    if limits is not None and not 0 < len(limits) <= _MOST_LIMITS:
        raise AccountInvalid(f"a token has 1 to {_MOST_LIMITS} limits, or none at all")
    if seconds is not None and not 0 < seconds <= _LONGEST_SECONDS:
        raise AccountInvalid("a token lives longer than no time, and ten years at most")
    text = api_secrets.generate(kind)
    new = NewApiToken(
        id=secrets.token_hex(8),
        owner_kind=kind,
        owner_name=names.check(name),
        secret_hash=api_secrets.digest(text),
        description=_text(description),
        limits=None if limits is None else tuple(limit.store() for limit in limits),
        seconds=seconds,
    )
    return IssuedSecret(api_tokens.add(db, new), text)


def revoke_secret(db: Connection, token_id: str, owner: tuple[OwnerKind, str] | None = None) -> ApiToken:
    """End a token at the next call; return what it was.

    `owner` is who may end it, None an administrator: somebody else's token is unknown (AUTH-19). Raises
    AccountUnknown.
    """
    token = api_tokens.find(db, token_id)
    if token is None or (owner is not None and owner != (token.owner_kind, token.owner_name)):
        raise AccountUnknown(f"there is no token {token_id[:100]!r}")
    api_tokens.revoke(db, token_id)
    return token


def ensure_admin(database: Database, passwords: Passwords) -> tuple[str, str] | None:
    """Make the first administrator; return name and password to show once, None when there was one before."""
    if database.read(users.has_admin):
        return None
    password = random_password()
    stored = passwords.hash_now(password)

    def unit(db: Connection) -> bool:
        # Asked again: of several workers that start at once one makes it.
        return not users.has_admin(db) and users.create(db, FIRST_ADMIN, stored, is_admin=True)

    return (FIRST_ADMIN, password) if database.transaction(unit) else None


def reset(database: Database, passwords: Passwords, name: str) -> str:
    """Give a user a random password and let them in; return it. The way back, on the machine itself.

    With nobody left who administers, they do; and who is not there is made. Raises AccountNameInvalid.
    """
    password = random_password()
    stored = passwords.hash_now(password)

    def unit(db: Connection) -> None:
        if not users.set_password(db, name, stored):
            create_user(db, name, stored)
        users.set_disabled(db, name, False)
        if not users.has_other_admin(db, name):
            users.set_admin(db, name, True)

    database.transaction(unit)
    return password


def _keep_an_admin(db: Connection, name: str) -> None:
    account = users.find(db, name)
    if account is None or not account.is_admin or account.is_disabled:
        return
    if not users.has_other_admin(db, name):
        raise LastAdmin(f"{name!r} is the last administrator who can log in; make another one first")


def _known(was_there: bool, what: str, name: str) -> None:
    if not was_there:
        raise AccountUnknown(f"there is no {what} {name[:200]!r}")


def _text(text: str) -> str:
    if len(text) > _TEXT_LIMIT or not text.isprintable():
        raise AccountInvalid(f"a description is printable and has {_TEXT_LIMIT} characters at most")
    return text
