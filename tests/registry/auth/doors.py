"""A real server that does not let everybody in, with people and rules kept in memory."""

import fnmatch
import socket
import threading
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from registry.app import create_app
from registry.auth.access import (
    Action,
    ClientCertificate,
    Explanation,
    Identity,
    Limit,
    Principal,
)
from registry.auth.guard import Deciders
from registry.server import create
from registry.settings import Settings
from storage.oci.errors import Unauthorized
from storage.oci.names import RepositoryName
from tests.registry.pushing import Repository

SERVICE = "registry.test"
ALL = (Action.PULL, Action.PUSH, Action.DELETE)
PULL = (Action.PULL,)


@dataclass(frozen=True)
class Cut:
    """A limit to one pattern."""

    pattern: str
    allowed: Collection[Action]

    def actions(self, name: RepositoryName) -> frozenset[Action]:
        return frozenset(self.allowed if fnmatch.fnmatchcase(name.value, self.pattern) else ())


@dataclass
class People:
    """Passwords by name. Counts how often one was checked; every change is another version."""

    passwords: dict[str, str]
    limits: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)
    without_handle: Collection[str] = ()
    # What a login's principal is called, where that is not its name.
    principals: Mapping[str, str] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)
    changes: int = 0

    async def login(self, username: str, password: str, client: str) -> Identity:
        self.checked.append(username)
        if self.passwords.get(username) != password:
            raise Unauthorized("wrong name or password")
        return self._identity(username)

    async def exchange(self, id_token: str, client: str) -> Identity:
        return await self.login("ci", id_token, client)

    async def renew(self, handle: str, since: float) -> Identity:
        name = handle.removeprefix("user:")
        if name not in self.passwords:
            raise Unauthorized("no such user")
        return self._identity(name)

    async def version(self) -> Hashable:
        return self.changes

    def remove(self, name: str) -> None:
        del self.passwords[name]
        self.changes += 1

    def _identity(self, name: str) -> Identity:
        handle = "" if name in self.without_handle else f"user:{name}"
        principal = Principal.named(self.principals.get(name, name))
        return Identity(principal, self.limits.get(name), name == "root", handle)


@dataclass
class Rules:
    """Rows of who (the empty name is anybody), repository pattern, actions."""

    rows: list[tuple[str, str, Collection[Action]]]

    def actions(self, principal: Principal, name: RepositoryName) -> frozenset[Action]:
        return frozenset(
            action
            for who, pattern, actions in self.rows
            if who in ("", principal.name) and fnmatch.fnmatchcase(name.value, pattern)
            for action in actions
        )

    def explain(self, principal: Principal, action: Action, name: RepositoryName) -> Explanation:
        raise NotImplementedError


class Badges:
    """Certificates whose PEM is the name of their bearer."""

    def principal(self, certificate: ClientCertificate) -> Principal | None:
        return Principal.named(certificate.pem) if certificate.pem.startswith("cert:") else None


def deciders() -> Deciders:
    """Return alice, who owns alice/, bob, who reads it, and everybody, who reads public/."""
    people = People({"alice": "wonder", "bob": "builder", "root": "toor"})
    rules = Rules(
        [
            ("", "public/*", PULL),
            ("alice", "public/*", ALL),
            ("alice", "alice/*", ALL),
            ("bob", "alice/*", PULL),
            ("maker", "alice/*", (Action.PULL, Action.TAG_CREATE)),
            ("cert:device", "alice/*", PULL),
        ]
    )
    return Deciders(people, rules, Badges())


@dataclass(frozen=True)
class Door:
    """A running registry."""

    url: str
    deciders: Deciders
    settings: Settings

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def people(self) -> People:
        assert isinstance(self.deciders.identities, People)
        return self.deciders.identities

    @property
    def rules(self) -> Rules:
        assert isinstance(self.deciders.policy, Rules)
        return self.deciders.policy

    def token(self, *scopes: str, auth: tuple[str, str] | None = None) -> str:
        response = httpx.get(f"{self.url}/token", params=[("scope", scope) for scope in scopes], auth=auth)
        assert response.status_code == 200, response.text
        return str(response.json()["token"])

    @contextmanager
    def bearing(self, *scopes: str, auth: tuple[str, str] | None = None) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.url, headers=bearer(self.token(*scopes, auth=auth))) as client:
            yield client

    def push(self, name: str, tag: str = "v1", *layers: bytes) -> bytes:
        """Push an image as alice; return its manifest."""
        with self.bearing(f"repository:{name}:pull,push", auth=("alice", "wonder")) as client:
            return Repository(client, name).push_image(tag, *(layers or (b"layer of " + name.encode(),)))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def serving_behind(data: Path, decide: Deciders | None = None, **more: Any) -> Iterator[Door]:
    """Serve with people and rules in memory."""
    decide = decide or deciders()
    with _serving(data, decide, more) as (url, settings):
        yield Door(url, decide, settings)


@contextmanager
def serving_local(data: Path, **more: Any) -> Iterator[tuple[str, Settings]]:
    """Serve with the people and rules of the database and the settings, as operators do."""
    with _serving(data, None, more) as served:
        yield served


@contextmanager
def _serving(data: Path, decide: Deciders | None, more: Mapping[str, Any]) -> Iterator[tuple[str, Settings]]:
    # The port is known before the server is made, because the realm is a setting.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        values = {"auth": "local", "service": SERVICE, "port": port, "access_log": False, "audit_log": "off"}
        settings = Settings(data=data, collect_every_seconds=0, **{**values, **more})
        running = create(settings, create_app(settings, decide))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}", settings
        finally:
            running.should_exit = True
            thread.join()
