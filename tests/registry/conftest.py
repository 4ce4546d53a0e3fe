"""A real server a module, and small pushes to it."""

import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.app import create_app
from registry.server import create
from registry.settings import Settings
from tests.registry.pushing import Repository


@contextmanager
def serving(settings: Settings, app: ASGIApp | None = None) -> Iterator[str]:
    """Run a server in a thread; its socket listens before, so nothing polls."""
    running = create(settings, app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def settings(data: Path) -> Settings:
    return Settings(data=data, access_log=False, collect_every_seconds=0)


@pytest.fixture(scope="module")
def extensions(request: pytest.FixtureRequest) -> bool:
    """Whether the server offers its fast paths; tables that run both ways parametrize this."""
    return bool(getattr(request, "param", True))


@pytest.fixture(scope="module")
def registry_url(settings: Settings, extensions: bool) -> Iterator[str]:
    app = create_app(settings)
    with serving(settings, app if extensions else _without_extensions(app)) as url:
        yield url


def _without_extensions(app: ASGIApp) -> ASGIApp:
    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        await app({key: value for key, value in scope.items() if key != "extensions"}, receive, send)

    return plain


@pytest.fixture(scope="module")
def http(registry_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=registry_url) as client:
        yield client


@pytest.fixture
def repository(http: httpx.Client) -> Repository:
    return Repository(http, f"test/{uuid.uuid4().hex[:12]}")


@pytest.fixture
def other(http: httpx.Client) -> Repository:
    return Repository(http, f"other/{uuid.uuid4().hex[:12]}")
