"""A registry with people, and what the tests of the admin API send to it."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from registry.auth import accounts, keys
from registry.auth.guard import Deciders
from registry.auth.identities import LocalIdentities
from registry.auth.limits import PULL_ONLY
from registry.auth.passwords import Passwords
from registry.auth.policy import RulePolicy
from registry.auth.throttle import Throttle
from registry.metadata import refresh_tokens, users
from registry.metadata.refresh_tokens import NewRefreshToken
from registry.migrations import MIGRATIONS
from registry.offload import Offload
from registry.settings import Settings
from storage.database import Connection, Database, Unit, connect
from tests.registry.auth.doors import Door, serving_behind
from tests.registry.auth.people import CHEAP, T

ROOT, ALICE, BOB = ("root", "toor toor"), ("alice", "wonderland"), ("bob", "can we fix it")
Auth = tuple[str, str]


@dataclass
class Stand:
    """A running registry, and its database behind its back."""

    door: Door
    database: Database
    audit: Path
    robot: Auth
    scoped: Auth
    _clients: dict[Auth | None, httpx.Client] = field(default_factory=dict)

    def do(self, unit: Unit[T]) -> T:
        return self.database.transaction(unit)

    def api(self, auth: Auth | None = ROOT) -> httpx.Client:
        """Return the API as somebody sees it; the connection is kept until the end of the module."""
        if auth not in self._clients:
            self._clients[auth] = httpx.Client(
                base_url=f"{self.door.url}/api/v1", auth=auth, timeout=30, verify=False
            )
        return self._clients[auth]

    def ping(self, auth: Auth) -> int:
        """Log in where a docker client would; return the status."""
        return self.api(None).get(f"{self.door.url}/token", auth=auth).status_code

    @property
    def data(self) -> Path:
        return self.door.settings.data

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]

    def user(self, *, is_admin: bool = False) -> Auth:
        """Make a user of the test's own."""
        auth = (f"u{uuid.uuid4().hex[:10]}", "a password of its own")
        stored = CHEAP.hash(auth[1])
        self.do(lambda db: accounts.create_user(db, auth[0], stored, is_admin=is_admin))
        return auth

    def login(self, principal: str) -> str:
        """Make a refresh token; return its id."""
        token_id = uuid.uuid4().hex[:16]
        new = NewRefreshToken(token_id.encode(), token_id, principal, f"user:{principal}", "test", "docker")
        self.do(partial(refresh_tokens.add, token=new, seconds=3600))
        return token_id


@contextmanager
def standing(data: Path, *, most_failures: int = 1_000_000, **settings: Any) -> Iterator[Stand]:
    database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)
    offload = Offload(database)
    identities = LocalIdentities(offload, Passwords(CHEAP, threads=1), Throttle(most_failures))
    audit = data / "audit.log"
    robot, scoped = database.transaction(_populate)
    try:
        decide = Deciders(identities, RulePolicy(Settings(data=data), database))
        with serving_behind(data, decide, audit_log=str(audit), **settings) as door:
            stand = Stand(door, database, audit, robot, scoped)
            yield stand
            stand.close()
    finally:
        identities.close()
        offload.close()
        database.close()


def _populate(db: Connection) -> tuple[Auth, Auth]:
    """Make root, who administers, alice and bob; return a robot and a scoped token of root."""
    keys.ensure(db, "ES256")
    if not users.find(db, ROOT[0]):
        for name, password in (ROOT, ALICE, BOB):
            accounts.create_user(db, name, CHEAP.hash(password), is_admin=(name, password) == ROOT)
        accounts.create_robot(db, "ci", "builds", "root")
    secret = accounts.issue_secret(db, ("robot", "ci"), "").text
    scoped = accounts.issue_secret(db, ("user", "root"), "", PULL_ONLY).text
    return ("robot:ci", secret), ("root", scoped)


@dataclass(frozen=True)
class Sample:
    """A request that is fine: what stands in the path, and what is sent."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None


_NAME = {"name": "nobody"}
_RULE = {"who": "user:alice", "repository": "team/**", "actions": ["pull"]}
# By the operation's id. Whom the paths name is not there, unless they say bob.
SAMPLES: dict[str, Sample] = {
    "users.whoami": Sample(),
    "users.listing": Sample(query={"n": "1"}),
    "users.create": Sample(body={"name": "carol", "password": "a long password"}),
    "users.show": Sample({"name": "bob"}),
    "users.delete": Sample(_NAME),
    "users.set_password": Sample(_NAME, body={"password": "another password"}),
    "users.disable": Sample(_NAME),
    "users.enable": Sample(_NAME),
    "users.make_admin": Sample(_NAME),
    "users.make_ordinary": Sample(_NAME),
    "groups.listing": Sample(),
    "groups.show": Sample(_NAME),
    "groups.create": Sample(body={"name": "crew"}),
    "groups.delete": Sample(_NAME),
    "groups.add_member": Sample({"name": "nobody", "member": "bob"}),
    "groups.remove_member": Sample({"name": "nobody", "member": "bob"}),
    "robots.listing": Sample(),
    "robots.show": Sample({"name": "ci"}),
    "robots.create": Sample(body={"name": "r2", "description": "beeps"}),
    "robots.delete": Sample(_NAME),
    "robots.disable": Sample(_NAME),
    "robots.enable": Sample(_NAME),
    "tokens.listing": Sample(),
    "tokens.revoke": Sample({"id": "feed"}),
    "tokens.of_user": Sample({"name": "bob"}),
    "tokens.create_for_user": Sample({"name": "bob"}, body={"description": "laptop"}),
    "tokens.of_robot": Sample({"name": "ci"}),
    "tokens.create_for_robot": Sample({"name": "ci"}, body={"description": "runner"}),
    "tokens.logins": Sample(),
    "tokens.revoke_login": Sample({"id": "feed"}),
    "policy.listing": Sample(),
    "policy.add": Sample(body=_RULE),
    "policy.remove": Sample({"id": "123456"}),
    "policy.explain": Sample(body={"principal": "alice", "action": "pull", "repository": "team/app"}),
    "policy.list_immutable": Sample(),
    "policy.add_immutable": Sample(body={"repository": "team/**", "tags": "v*"}),
    "policy.remove_immutable": Sample({"id": "123456"}),
    "policy.list_quotas": Sample(),
    "policy.put_quota": Sample(body={"repository": "team/**", "bytes": 1000}),
    "policy.remove_quota": Sample(query={"repository": "nowhere/**"}),
    "keys.listing": Sample(),
    "keys.rotate": Sample(body={}),
    "keys.retire": Sample({"kid": "none"}),
}
