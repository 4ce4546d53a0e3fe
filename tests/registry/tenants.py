"""A real server with several tenants behind real rules, and what they push."""

import json
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from registry.app import MIGRATIONS, create_app
from registry.auth.guard import Deciders
from registry.auth.policy import RulePolicy
from registry.server import create
from registry.settings import Settings
from storage.database import Database, connect
from tests.registry.auth.doors import SERVICE, People
from tests.registry.conftest import without_extensions
from tests.registry.pushing import Repository

PEOPLE = ("alice", "bob", "reader", "maker", "mover")


def rule(who: str, repository: str, *allow: str) -> dict[str, Any]:
    return {"who": who, "repository": repository, "allow": list(allow)}


# Everybody owns what is named after them; team/ is shared; public/ is public.
RULES = (
    rule("anonymous", "public/**", "pull"),
    rule("authenticated", "{user}/**", "pull", "push", "delete"),
    rule("user:alice", "public/**", "pull", "push", "delete"),
    rule("user:alice", "team/**", "pull", "push", "delete"),
    rule("user:bob", "team/**", "pull", "push", "delete"),
    rule("user:reader", "team/**", "pull"),
    rule("user:maker", "team/**", "pull", "tag-create"),
    rule("user:mover", "team/**", "pull", "tag-overwrite"),
)


@dataclass
class Tenants:
    """A running registry, and a client for each of its people."""

    url: str
    settings: Settings
    policy: RulePolicy
    database: Database
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    def __getitem__(self, name: str) -> httpx.Client:
        return self.clients[name]

    def repository(self, name: str, person: str) -> Repository:
        return Repository(self[person], name)

    def fresh(self, prefix: str, person: str) -> Repository:
        """Return a repository of a new name below `prefix`, as `person` sees it."""
        return self.repository(f"{prefix}/{uuid.uuid4().hex[:12]}", person)

    def token(self, person: str, *scopes: str) -> dict[str, str]:
        """Return the headers of a request with a token for these scopes."""
        response = self[person].get("/token", params=[("scope", scope) for scope in scopes])
        assert response.status_code == 200, response.text
        return {"Authorization": f"Bearer {response.json()['token']}"}

    @contextmanager
    def bearing(self, person: str, *scopes: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.url, headers=self.token(person, *scopes)) as client:
            yield client


@contextmanager
def serving_tenants(
    data: Path, rules: Sequence[dict[str, Any]] = RULES, *, extensions: bool = True, **more: Any
) -> Iterator[Tenants]:
    """Serve; without `extensions` the fast paths are not offered."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        values = {
            "auth": "local",
            "service": SERVICE,
            "port": port,
            "policy": rules,
            "collect_every_seconds": 0,
        }
        settings = Settings.model_validate(
            {"data": data, "access_log": False, "audit_log": "off", **values, **more}
        )
        database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)
        stack.callback(database.close)
        policy = RulePolicy(settings, database)
        app = create_app(settings, Deciders(People(dict.fromkeys(PEOPLE, "secret")), policy))
        stack.enter_context(_running(settings, app if extensions else without_extensions(app), listener))
        tenants = Tenants(f"http://127.0.0.1:{port}", settings, policy, database)
        for name in ("", *PEOPLE):
            client = httpx.Client(base_url=tenants.url, auth=(name, "secret") if name else None, timeout=30)
            tenants.clients[name] = stack.enter_context(client)
        yield tenants


@contextmanager
def _running(settings: Settings, app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    server = create(settings, app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def shape(response: httpx.Response, *names: str) -> tuple[int, dict[str, str], str]:
    """Return all that an answer shows, its date and the given names and ids taken out."""
    headers = {key: value for key, value in response.headers.items() if key != "date"}
    text = json.dumps([headers, response.text])
    for name in names:
        text = text.replace(name, "NAME")
    headers, body = json.loads(text)
    return response.status_code, headers, body
