"""A clock that a test moves: nothing waits, and what would have been waited for is written down."""

import threading

from client.clock import Clock, Deadline


class FakeClock(Clock):
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return 1_800_000_000.0 + self._now

    def sleep(self, seconds: float, stop: threading.Event | None = None) -> None:
        with self._lock:
            self._now += seconds
            self.slept.append(seconds)

    def random(self) -> float:
        return 0.5

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds

    def deadline(self, seconds: float | None = None) -> Deadline:
        return Deadline.after(seconds, self)
