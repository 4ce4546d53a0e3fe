"""What does a token cost a manifest GET, and what do logins cost those who pull meanwhile?"""

import base64
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.lab import Lab, main, measured
from benchmarks.manifest_get import load
from benchmarks.report import Row, at_most, median
from benchmarks.servers import Server
from benchmarks.traffic import (
    MANIFEST_TYPE,
    MIB,
    REPOSITORY,
    Connection,
    Payload,
    connected,
    put_blob,
    put_manifest,
)
from registry.app import MIGRATIONS
from registry.auth import accounts
from registry.auth.passwords import Passwords
from storage.database import Connection as Database
from storage.database import connect

_SECONDS = 2
_LOGINS = 100
_IDLE_SECONDS = 5
_PAUSE_SECONDS = 0.005
_PULLER, _PASSWORD = "puller", "a long password"
_CPU_TARGET = at_most(1.35)
_LATENCY_TARGET = at_most(3)
# Everybody pulls, so that one server answers with and without a token.
_CONFIGURATION = """\
auth = "local"
anonymous_pull = true
token_seconds = 3600
"""

Work = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Round:
    """CPU microseconds of a GET, and milliseconds in which 99 of 100 GETs were answered."""

    anonymous: float
    authenticated: float
    idle: float
    busy: float


def measure(lab: Lab) -> list[Row]:
    """Compare one server with itself: with and without a token, with and without logins."""
    with _guarded(lab.data / "access", lab.rounds) as server:
        token = _token(server, _PULLER)
        for headers in ((), (_bearer(token),)):
            load(server, 1, *headers)
        rounds = [_round(server, token, number) for number in range(lab.rounds)]
    return [
        Row(
            "manifest GET with a token, CPU us/request",
            median(each.authenticated for each in rounds), median(each.anonymous for each in rounds),
            "anonymous", _CPU_TARGET,
        ),
        Row(
            f"manifest GET p99 during {_LOGINS} parallel logins, ms",
            median(each.busy for each in rounds), median(each.idle for each in rounds),
            "idle", _LATENCY_TARGET,
        ),
    ]  # fmt: skip


def _round(server: Server, token: str, number: int) -> _Round:
    return _Round(
        anonymous=_cpu_microseconds(server),
        authenticated=_cpu_microseconds(server, _bearer(token)),
        idle=_p99(server, token, _after(_IDLE_SECONDS)),
        busy=_p99(server, token, lambda: _logins(server, number)),
    )


@contextlib.contextmanager
def _guarded(data: Path, rounds: int) -> Iterator[Server]:
    """Run a server that knows users, on what an open one was given."""
    layer = Payload(MIB)
    with servers.cargohold(data, workers=1) as server:
        put_blob(server.port, layer)
        put_manifest(server.port, layer, tag="v1")
    _add_users(data, rounds)
    configuration = data / "access.toml"
    configuration.write_text(_CONFIGURATION)
    with servers.cargohold(data, "--config", str(configuration), workers=1) as server:
        yield server


def _add_users(data: Path, rounds: int) -> None:
    """Make users for as many logins, because a server remembers for a moment who just logged in."""
    stored = Passwords().hash_now(_PASSWORD)

    def unit(db: Database) -> None:
        accounts.create_user(db, _PULLER, stored)
        for number in range(rounds):
            for user in range(_LOGINS):
                accounts.create_user(db, f"user{number}x{user}", stored)

    database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)
    with contextlib.closing(database):
        database.transaction(unit)


def _bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def _cpu_microseconds(server: Server, *headers: str) -> float:
    requests = 0

    def action(server: Server) -> None:
        nonlocal requests
        requests = load(server, _SECONDS, *headers)

    return measured(server, action).cpu_seconds / requests * 1e6


def _p99(server: Server, token: str, meanwhile: Work) -> float:
    """GET one after the other until some work is done.

    With pauses, because a client without them would itself take a whole processor from the logins.
    """
    milliseconds: list[float] = []
    headers = {"Accept": MANIFEST_TYPE, "Authorization": f"Bearer {token}"}
    with connected(server.port) as connection, ThreadPoolExecutor(1) as beside:
        work: Future[None] = beside.submit(meanwhile)
        while not work.done():
            before = time.perf_counter()
            connection.send("GET", f"/v2/{REPOSITORY}/manifests/v1", headers)
            _expect_200(connection)
            milliseconds.append((time.perf_counter() - before) * 1e3)
            time.sleep(_PAUSE_SECONDS)
        work.result()
    return statistics.quantiles(milliseconds, n=100)[-1]


def _after(seconds: float) -> Work:
    return lambda: time.sleep(seconds)


def _logins(server: Server, number: int) -> None:
    """Log users in, all at once, each on a connection of its own."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(server.port)) for _ in range(_LOGINS)]
        for user, connection in enumerate(connections):
            _ask_for_token(connection, f"user{number}x{user}")
        for connection in connections:
            _expect_200(connection)


def _token(server: Server, user: str) -> str:
    with connected(server.port) as connection:
        _ask_for_token(connection, user)
        token: str = json.loads(_expect_200(connection))["token"]
        return token


def _ask_for_token(connection: Connection, user: str) -> None:
    credentials = base64.b64encode(f"{user}:{_PASSWORD}".encode()).decode()
    path = f"/token?scope=repository:{REPOSITORY}:pull"
    connection.send("GET", path, {"Authorization": f"Basic {credentials}"})


def _expect_200(connection: Connection) -> bytes:
    response = connection.receive()
    if response.status != 200:
        raise SystemExit(f"error: expected 200, got {response.status}: {response.body!r}")
    return response.body


if __name__ == "__main__":
    main(measure)
