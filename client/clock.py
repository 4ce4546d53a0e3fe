"""Time and chance, in one place that tests replace."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from client.errors import Cancelled, TimedOut


class Clock:
    """The machine's clocks, and waiting."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        """Return the seconds since 1970, as other machines count them."""
        return time.time()

    def sleep(self, seconds: float, stop: threading.Event | None) -> None:
        """Wait, until `stop` is set at most."""
        if stop is None:
            time.sleep(seconds)
        else:
            stop.wait(seconds)

    def random(self) -> float:
        """Return a number from 0 up to, not including, 1: what spreads retries, not a secret."""
        return random.random()  # noqa: S311


CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Deadline:
    """When an operation must be over; `at` is on the monotonic clock, None is never.

    `stop`, when it is set (by a signal, say), ends every wait of the operation within a second.
    """

    at: float | None = None
    clock: Clock = CLOCK
    stop: threading.Event | None = None

    @classmethod
    def after(
        cls, seconds: float | None, clock: Clock = CLOCK, stop: threading.Event | None = None
    ) -> "Deadline":
        """Return the deadline of one operation, which has a stop of its own unless one is given."""
        at = None if seconds is None else clock.monotonic() + seconds
        return cls(at, clock, stop or threading.Event())

    def limit(self, seconds: float) -> float:
        """Return how much of `seconds` is left before the deadline.

        Raises TimedOut when nothing is, Cancelled after a stop.
        """
        if self.stop is not None and self.stop.is_set():
            raise Cancelled("stopped")
        if self.at is None:
            return seconds
        left = self.at - self.clock.monotonic()
        if left <= 0:
            raise TimedOut("the time for the whole operation is over")
        return min(seconds, left)

    def sleep(self, seconds: float) -> None:
        """Wait. Raises TimedOut at once when the deadline would pass meanwhile."""
        if self.limit(seconds) < seconds:
            raise TimedOut(f"the operation's time does not allow to wait {seconds:.0f} s for the registry")
        self.clock.sleep(seconds, self.stop)
        if self.stop is not None and self.stop.is_set():
            raise Cancelled("stopped")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop all that goes by this deadline meanwhile, as far as it can be stopped: NEVER cannot."""
        is_ours = self.stop is not None and not self.stop.is_set()
        if self.stop is not None:
            self.stop.set()
        try:
            yield
        finally:
            if self.stop is not None and is_ours:
                self.stop.clear()


NEVER = Deadline()
