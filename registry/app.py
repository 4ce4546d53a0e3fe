"""Wiring: settings in, the ASGI application out."""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from registry import metrics
from registry.access_log import AccessLog
from registry.admin.administration import Administration
from registry.application import Application
from registry.audit import open_audit
from registry.auth.build import build
from registry.auth.guard import Deciders
from registry.auth.local import local_deciders
from registry.endpoints.call import Api
from registry.lifecycle.background import Background
from registry.lifecycle.collector import Collector
from registry.lifecycle.journal import Journal
from registry.links import Links
from registry.metadata import secrets
from registry.migrations import MIGRATIONS as MIGRATIONS
from registry.offload import Offload
from registry.operations import Operations
from registry.registry import Registry
from registry.settings import Settings
from registry.space import FreeSpace
from registry.uploads import Uploads
from storage.database import Database, connect
from storage.filesystem import FilesystemBlobs
from storage.objects import FilesystemObjects


def create_app(settings: Settings, deciders: Deciders | None = None) -> ASGIApp:
    """Open the data directory and build the application; its lifespan runs the chores and closes all.

    `deciders` stand in for the people and rules of the database.
    Raises SchemaNewer for a database of a newer cargohold, RegistryError when it cannot be opened,
    OSError or a ValueError for a file of the settings that cannot be used.
    """
    database, store = _open(settings)
    offload, space = Offload(database), FreeSpace(settings, store)
    audit = open_audit(settings.audit_log)
    if settings.auth == "local" and deciders is None:
        deciders = local_deciders(settings, database, offload)
    access, tokens = build(settings, database, offload, deciders)
    administration = Administration.over(deciders) if deciders else None
    links = Links(settings.path_prefix, database.transaction(partial(secrets.ensure, name="upload links")))
    api = Api(
        settings=settings,
        registry=Registry(settings, store, offload, space),
        uploads=Uploads(settings, database, store, offload, space),
        access=access,
        links=links,
        offload=offload,
        tokens=tokens,
        audit=audit,
        administration=administration,
    )
    operations = None if settings.metrics_listen else Operations(_check(database, space))
    access_log = AccessLog() if settings.access_log else None
    background = _background(settings, database, store)
    closing = ExitStack()
    for close in (
        database.close,
        offload.close,
        audit.close,
        *([administration.identities.close] if administration else []),
        *([access_log.flush] if access_log else []),
        background.close,
    ):
        closing.callback(close)
    return WithLifespan(Application(api, operations, access_log), background.start, closing.close)


def create_operations_app(settings: Settings) -> ASGIApp:
    """Build the application of the second listener: health and metrics."""
    database, store = _open(settings)
    check = _check(database, FreeSpace(settings, store))
    return WithLifespan(Operations(check), lambda: None, database.close)


def _open(settings: Settings) -> tuple[Database, FilesystemBlobs]:
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = connect(f"sqlite:{settings.data / 'cargohold.db'}", MIGRATIONS)
    return database, FilesystemBlobs(settings.data)


def _background(settings: Settings, database: Database, store: FilesystemBlobs) -> Background:
    journal = Journal(database, FilesystemObjects(settings.data))
    collector = Collector(settings, database, store)
    return Background(settings.data, journal, collector, settings.collect_every_seconds)


def _check(database: Database, space: FreeSpace) -> Callable[[], None]:
    def check() -> None:
        database.read(lambda db: db.execute("SELECT 1").fetchone())
        metrics.FREE_BYTES.set(space.free_bytes())
        space.check()

    return check


class WithLifespan:
    """Gives an application its start and its end. Source: ASGI specification, "Lifespan Protocol"."""

    def __init__(self, app: ASGIApp, start: Callable[[], None], close: Callable[[], None]) -> None:
        self._app = app
        self._start = start
        self._close = close

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._live(receive, send)
        return self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._close()
        await send({"type": "lifespan.shutdown.complete"})
