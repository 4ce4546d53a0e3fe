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
from tests.client.certificates import Authority
from tests.registry.pushing import Repository


@contextmanager
def serving(settings: Settings, app: ASGIApp | None = None) -> Iterator[str]:
    """Run a server in a thread; its socket listens before, so nothing polls."""
    running = create(settings, app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"{'https' if settings.speaks_tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def settings(data: Path) -> Settings:
    return Settings(data=data, access_log=False, collect_every_seconds=0)


# How a request can reach the application: past Python's copies, without that, and over TLS.
WAYS = ("fast", "plain", "tls")


@pytest.fixture(scope="module")
def way(request: pytest.FixtureRequest) -> str:
    """One of WAYS; tables that run in every way parametrize this."""
    return str(getattr(request, "param", "fast"))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def registry_url(settings: Settings, way: str, authority: Authority) -> Iterator[str]:
    app = create_app(settings)
    if way == "tls":
        certificate, key = authority.issue("registry")
        settings = settings.model_copy(update={"tls_certificate": certificate, "tls_key": key})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(authority.certificate))  # httpx trusts it
        with serving(settings, without_extensions(app) if way == "plain" else app) as url:
            yield url


def without_extensions(app: ASGIApp) -> ASGIApp:
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
