"""The gate of one worker: how many connections and requests it takes, and who is too slow.

One sweep a second looks at every connection, so that no request pays for a timer of its own.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from registry import metrics

SWEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker grants its clients. Sizes in bytes."""

    header_seconds: float = 10.0
    idle_seconds: float = 15.0
    body_floor_bytes_per_second: int = 1024
    body_floor_window_seconds: float = 60.0
    max_connections: int = 4096
    max_connections_per_client: int = 1024
    max_requests: int = 512


class Guarded(Protocol):
    """A connection that can be looked at."""

    def sweep(self, now: float) -> None:
        """Close the connection if its client is over its time."""
        ...


class Gate:
    """Counts what is open, and sweeps it."""

    def __init__(self, limits: Limits, sweep_seconds: float = SWEEP_SECONDS) -> None:
        self.limits = limits
        self._sweep_seconds = sweep_seconds
        self._connections: set[Guarded] = set()
        self._clients: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self.running = 0  # requests

    def enter(self, connection: Guarded, client: str) -> bool:
        """Count a connection in; say whether it is within the limits."""
        self._connections.add(connection)
        self._clients[client] += 1
        metrics.CONNECTIONS.inc()
        if self._timer is None:
            self._schedule()
        return (
            len(self._connections) <= self.limits.max_connections
            and self._clients[client] <= self.limits.max_connections_per_client
        )

    def leave(self, connection: Guarded, client: str) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        self._clients[client] -= 1
        metrics.CONNECTIONS.dec()
        if self._clients[client] <= 0:
            del self._clients[client]

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in list(self._connections):
            connection.sweep(now)
        if self._connections:
            self._schedule()
