"""The threads beside the event loop: journal and collector. One process of a host runs them."""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from registry.lifecycle.collector import Collector
from registry.lifecycle.journal import Journal
from storage.oci.errors import RegistryError

log = logging.getLogger(__name__)

_JOURNAL_SECONDS = 1.0
_TELL_SECONDS = 60.0

# Asked whether it should stop.
Chore = Callable[[Callable[[], bool]], object]


class Failures:
    """Tells of a chore that fails again and again: at once and whole, then a line a minute."""

    def __init__(self, name: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._monotonic = monotonic
        self._count = 0
        self._told: tuple[type[Exception], float] | None = None

    def tell(self, error: Exception) -> None:
        """Log a failure, unless the same was told within the last minute."""
        now, self._count = self._monotonic(), self._count + 1
        is_new = self._told is None or self._told[0] is not type(error)
        if not is_new and self._told is not None and now - self._told[1] < _TELL_SECONDS:
            return
        self._told = type(error), now
        # What the disk or the database refuse is the operator's, anything else is our bug.
        log.log(
            logging.WARNING if isinstance(error, RegistryError) else logging.ERROR,
            "chore failed, will be tried again",
            extra={"chore": self._name, "failures": self._count, "reason": repr(error)},
            exc_info=error if is_new else None,
        )

    def end(self) -> None:
        """Log that the chore works again, if it did not."""
        if self._count:
            log.info("chore works again", extra={"chore": self._name, "failures": self._count})
        self._count, self._told = 0, None


class Background:
    """Runs the chores of a data directory in whichever worker holds its lock; another takes over."""

    def __init__(
        self, directory: Path, journal: Journal, collector: Collector, collect_seconds: float
    ) -> None:
        self._lock = os.open(directory / "background.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._stop = threading.Event()
        self._threads = [self._thread("journal", journal.drain, _JOURNAL_SECONDS)]
        if collect_seconds:
            self._threads.append(self._thread("collector", collector.collect, collect_seconds))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop after the step that runs now, one object or transaction; the next start does the rest."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        os.close(self._lock)

    @property
    def is_closing(self) -> bool:
        return self._stop.is_set()

    def _thread(self, name: str, chore: Chore, pause_seconds: float) -> threading.Thread:
        return threading.Thread(
            target=self._repeat, args=(name, chore, pause_seconds), name=name, daemon=True
        )

    def _repeat(self, name: str, chore: Chore, pause_seconds: float) -> None:
        failures = Failures(name)
        while not self._stop.wait(pause_seconds):
            if not self._is_ours():
                continue
            try:
                chore(self._stop.is_set)
            except Exception as error:
                failures.tell(error)
            else:
                failures.end()

    def _is_ours(self) -> bool:
        try:
            # Asked again and again by its holder this is a no-op; a dead holder's lock is free.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
