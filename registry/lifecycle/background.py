"""The threads beside the event loop: journal and collector. One process of a host runs them."""

import fcntl
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from registry.lifecycle.collector import Collector
from registry.lifecycle.journal import Journal
from storage.oci.errors import RegistryError

log = logging.getLogger(__name__)

_JOURNAL_SECONDS = 1.0


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
        """Let the step that runs now end, and stop."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        os.close(self._lock)

    def _thread(self, name: str, chore: Callable[[], object], pause_seconds: float) -> threading.Thread:
        return threading.Thread(
            target=self._repeat, args=(name, chore, pause_seconds), name=name, daemon=True
        )

    def _repeat(self, name: str, chore: Callable[[], object], pause_seconds: float) -> None:
        while not self._stop.wait(pause_seconds):
            if not self._is_ours():
                continue
            try:
                chore()
            except RegistryError:
                log.warning("chore failed, will be tried again", extra={"chore": name}, exc_info=True)
            except Exception:
                log.exception("chore failed", extra={"chore": name})

    def _is_ours(self) -> bool:
        try:
            # Asked again and again by its holder this is a no-op; a dead holder's lock is free.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
