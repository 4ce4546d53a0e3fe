"""Who is who: users of the database and of the htpasswd file, personal tokens, robots, and CI jobs.

Every login reads the rows anew: who was disabled, revoked or taken out of a group is so at the next call
(AUTH-21, CVE-2025-23208).
"""

import hashlib
import hmac
import logging
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from registry.auth import api_secrets, names
from registry.auth.access import Identity, Kind, Principal
from registry.auth.htpasswd import Htpasswd
from registry.auth.limits import RepositoryLimit
from registry.auth.passwords import Passwords, Verdict, check_bcrypt
from registry.auth.throttle import Throttle
from registry.metadata import access_version, api_tokens, groups, robots, users
from registry.metadata.api_tokens import ApiToken
from registry.metadata.robots import principal_of
from registry.metadata.users import Account
from registry.offload import Offload
from storage.database import Connection
from storage.oci.errors import RegistryError, Unauthorized

log = logging.getLogger(__name__)

# The user name beside an ID token.
OIDC_USER = "oidc"

_NAME_LIMIT = 256
_ROBOT_PREFIXES = ("robot:", "robot$")
# One text for every failure: nothing in it tells a wrong password from an unknown user.
_REFUSED = "wrong user name or password"
_GONE = "the login is no longer valid; log in again"


class Federation(Protocol):
    """Takes ID tokens of CI systems (registry/auth/oidc.py)."""

    async def login(self, id_token: str, client: str, *, exchange: bool = False) -> Identity:
        """Raises Unauthorized, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    """What is stored of a user name at the moment of a login."""

    account: Account | None
    groups: frozenset[str]
    some_bcrypt: str | None
    now: float


@dataclass(slots=True)
class LocalIdentities:
    """The identities of a registry with `auth = "local"`."""

    offload: Offload
    passwords: Passwords
    throttle: Throttle = field(default_factory=Throttle)
    htpasswd: Htpasswd | None = None
    federation: Federation | None = None

    async def login(self, username: str, password: str, client: str) -> Identity:
        """Check a password, personal token, robot's secret or ID token.

        Raises Unauthorized in the one form that it has, TooManyRequests during a pause, Unavailable when
        too many logins wait.
        """
        if len(username) > _NAME_LIMIT:
            raise self._refuse(None, client)
        await self._reload()
        username, password = _join_robot(username, password)
        if username == OIDC_USER and self.federation is not None:
            return await self._federated(self.federation, password, client)
        kind = api_secrets.kind_of(password)
        if kind is not None or _robot_name(username) is not None:
            return await self._by_secret(username, password, kind, client)
        return await self._by_password(username, password, client)

    async def exchange(self, id_token: str, client: str) -> Identity:
        """Take an ID token for the token exchange of POST /token, once. Raises what `login` raises."""
        if self.federation is None:
            raise self._refuse(None, client)
        return await self._federated(self.federation, id_token, client, exchange=True)

    async def renew(self, handle: str, since: float) -> Identity:
        """Return what the credential behind a handle is worth now.

        Raises Unauthorized when it is gone, shut out, or a password that is newer than `since`.
        """
        await self._reload()
        kind, _, rest = handle.partition(":")
        if kind == "token":
            token = await self.offload.point_read(partial(api_tokens.find, token_id=rest))
            return _valid(await self._of_token(token) if token else None)
        name, _, mark = rest.partition(":")
        known = await self._known(name)
        if known.account is not None:
            # To the second, which is what tokens count in.
            is_ours = kind == "user" and int(known.account.password_changed_at) <= since
            is_in = is_ours and not known.account.is_disabled
            return _valid(_of_account(known.account, known.groups) if is_in else None)
        stored = self.htpasswd.find(name) if self.htpasswd else None
        is_ours = kind == "file" and stored is not None and hmac.compare_digest(_mark(stored), mark)
        return _valid(_of_file(name, stored, known.groups) if stored and is_ours else None)

    async def version(self) -> Hashable:
        """Return what changes with the rows and with the htpasswd file."""
        await self._reload()
        number = await self.offload.point_read(access_version.number)
        return number, self.htpasswd.generation if self.htpasswd else 0

    def close(self) -> None:
        self.passwords.close()

    async def _reload(self) -> None:
        if self.htpasswd is not None and self.htpasswd.is_changed():
            await self.offload.blobs(self.htpasswd.reload)

    async def _by_password(self, username: str, password: str, client: str) -> Identity:
        admit = partial(self.throttle.check, username, client)
        admit()
        known = await self._known(username)
        stored = self._stored(username, known)
        verdict = await self.passwords.verify(
            stored,
            password,
            bcrypt_cost=self._bcrypt_cost(known),
            rehash=known.account is not None,
            admit=admit,
        )
        # A disabled user's password costs the same and is as wrong as any.
        if stored is None or not verdict.is_right or (known.account and known.account.is_disabled):
            raise self._refuse(username, client)
        self.throttle.succeed(username, client)
        if known.account is None:
            return _of_file(username, stored, known.groups)
        await self._note_login(known.account, verdict, known.now)
        return _of_account(known.account, known.groups)

    def _stored(self, username: str, known: _Known) -> str | None:
        """Return the hash that a password is held against: an account of ours hides the file's user."""
        if known.account is not None:
            return known.account.password_hash
        return self.htpasswd.find(username) if self.htpasswd else None

    def _bcrypt_cost(self, known: _Known) -> int | None:
        if self.htpasswd is not None and self.htpasswd.bcrypt_cost is not None:
            return self.htpasswd.bcrypt_cost
        return check_bcrypt(known.some_bcrypt) if known.some_bcrypt else None

    async def _by_secret(
        self, username: str, text: str, kind: api_secrets.Kind | None, client: str
    ) -> Identity:
        """Take what nobody can guess: no pause stops a right one, a wrong one counts for its source."""
        identity = None
        if kind is not None:
            hash_ = api_secrets.digest(text)
            token = await self.offload.point_read(partial(api_tokens.find_by_hash, secret_hash=hash_))
            if token is not None and token.owner_kind == kind and _belongs(token, username):
                identity = await self._of_token(token)
        if identity is None:
            self.throttle.check(None, client)
            raise self._refuse(None, client)
        return identity

    async def _of_token(self, token: ApiToken) -> Identity | None:
        """Return whom a token speaks for, None when its owner is gone or shut out."""
        principal, is_admin, now = await self._owner(token)
        if principal is None:
            return None
        if not api_tokens.is_use_noted(token, now):
            await self._note(partial(api_tokens.note_use, token_id=token.id))
        limits = None
        if token.limits is not None:
            user = principal.name if principal.kind is Kind.USER else ""
            limits = tuple(RepositoryLimit.load(limit, user) for limit in token.limits)
        # A scoped token opens no admin API, whoever's it is.
        return Identity(principal, limits, is_admin and limits is None, f"token:{token.id}")

    async def _owner(self, token: ApiToken) -> tuple[Principal | None, bool, float]:
        if token.owner_kind == "robot":
            robot, now = await self.offload.point_read(
                lambda db: (robots.find(db, token.owner_name), db.now())
            )
            is_ours = robot is not None and not robot.is_disabled
            return (Principal(principal_of(token.owner_name), Kind.ROBOT) if is_ours else None), False, now
        known = await self._known(token.owner_name)
        if known.account is None:
            in_file = self.htpasswd is not None and self.htpasswd.find(token.owner_name) is not None
            principal = _user(token.owner_name, known.groups) if in_file else None
            return principal, False, known.now
        if known.account.is_disabled:
            return None, False, known.now
        return _user(token.owner_name, known.groups), known.account.is_admin, known.now

    async def _federated(
        self, federation: Federation, id_token: str, client: str, *, exchange: bool = False
    ) -> Identity:
        self.throttle.check(None, client)
        try:
            return await federation.login(id_token, client, exchange=exchange)
        except Unauthorized:
            self.throttle.fail(None, client)
            raise

    async def _known(self, name: str) -> _Known:
        if not names.is_name(name):
            return await self.offload.point_read(partial(_look_up, name=""))
        return await self.offload.point_read(partial(_look_up, name=name))

    async def _note_login(self, account: Account, verdict: Verdict, now: float) -> None:
        if verdict.better is not None:
            await self._note(
                partial(
                    users.improve_hash,
                    name=account.name,
                    stored=account.password_hash,
                    better=verdict.better,
                )
            )
        if not users.is_login_noted(account, now):
            await self._note(partial(users.note_login, name=account.name))

    async def _note(self, unit: Callable[[Connection], object]) -> None:
        """Write down what is good to know; a login does not fail because the disk is full (OPS-09)."""
        with suppress(RegistryError):
            await self.offload.transaction(unit)

    def _refuse(self, account: str | None, client: str) -> Unauthorized:
        self.throttle.fail(account, client)
        return Unauthorized(_REFUSED)


def _look_up(db: Connection, name: str) -> _Known:
    return _Known(users.find(db, name), groups.of_user(db, name), users.some_bcrypt_hash(db), db.now())


def _join_robot(username: str, password: str) -> tuple[str, str]:
    """Undo what Basic does to `robot:ci`: the name ends at its first colon. Source: RFC 7617, 2."""
    if username != "robot":
        return username, password
    name, _, rest = password.partition(":")
    return f"robot:{name}", rest


def _robot_name(username: str) -> str | None:
    for prefix in _ROBOT_PREFIXES:
        if username.startswith(prefix):
            return username.removeprefix(prefix)
    return None


def _belongs(token: ApiToken, username: str) -> bool:
    robot = _robot_name(username)
    if robot is None:
        return token.owner_kind == "user" and token.owner_name == username
    return token.owner_kind == "robot" and token.owner_name == robot


def _user(name: str, in_groups: frozenset[str]) -> Principal:
    return Principal(name, Kind.USER, in_groups)


def _of_account(account: Account, in_groups: frozenset[str]) -> Identity:
    return Identity(
        _user(account.name, in_groups), None, is_admin=account.is_admin, handle=f"user:{account.name}"
    )


def _of_file(name: str, stored: str, in_groups: frozenset[str]) -> Identity:
    return Identity(_user(name, in_groups), None, handle=f"file:{name}:{_mark(stored)}")


def _mark(stored: str) -> str:
    """Tell one hash of a file from the next; without its salt it is good for no guess."""
    return hashlib.sha256(stored.encode()).hexdigest()[:16]


def _valid(identity: Identity | None) -> Identity:
    if identity is None:
        raise Unauthorized(_GONE)
    return identity
