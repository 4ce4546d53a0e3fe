"""The collector: takes away what no manifest, lease or session holds, while everybody pushes.

What is decided is decided in the transaction that removes the row; bytes go after it (R1-R3).
"""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from registry import metrics
from registry.metadata import blobs, uploads
from registry.settings import Settings
from storage.blobs import BlobStore, Location, UploadId
from storage.database import Database
from storage.oci.errors import BlobUploadUnknown, RegistryError

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Hashable)

# Rows in one transaction; between two of them every push gets its turn.
_STEP = 100


@dataclass(frozen=True, slots=True)
class Collected:
    """How many of each kind went."""

    blobs: int
    uploads: int
    strays: int


class Collector:
    """Collects by grace. Any number may run; each removes only what its own transaction took."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: BlobStore,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._stray_locations = _Strays(monotonic)
        self._stray_uploads = _Strays(monotonic)

    def collect(self, stopping: Callable[[], bool] = lambda: False) -> Collected:
        """Remove unreferenced blobs past their lease, stale sessions, and bytes that no row knows.

        Asked to stop it leaves the rest for another time.
        """
        collected = Collected(
            self._collect_blobs(stopping), self._collect_uploads(stopping), self._collect_strays(stopping)
        )
        for kind in ("blobs", "uploads", "strays"):
            metrics.COLLECTED.labels(kind).inc(getattr(collected, kind))
        if collected != Collected(0, 0, 0):
            log.info("collected", extra={"blobs": collected.blobs, "uploads": collected.uploads})
        return collected

    def _collect_blobs(self, stopping: Callable[[], bool]) -> int:
        total = 0
        while not stopping():
            locations = self._database.transaction(lambda db: blobs.take_unreferenced(db, _STEP))
            if not locations:
                break
            total += len(locations)
            for location in locations:
                self._store.delete(location)
        return total

    def _collect_uploads(self, stopping: Callable[[], bool]) -> int:
        seconds = self._settings.upload_seconds
        stale = self._database.read(lambda db: uploads.stale(db, seconds, _STEP))
        return sum(self._drop_upload(upload, stale_seconds=seconds) for upload in _until(stopping, stale))

    def _drop_upload(self, upload: UploadId, stale_seconds: float) -> bool:
        """Drop a session unless someone writes to it or it moved meanwhile."""
        try:
            with self._store.claim(upload):
                if not self._database.transaction(lambda db: uploads.remove_stale(db, upload, stale_seconds)):
                    return False
                self._store.abort(upload)
                return True
        except BlobUploadUnknown:
            return self._database.transaction(lambda db: uploads.remove_stale(db, upload, stale_seconds))
        except RegistryError:
            return False

    def _collect_strays(self, stopping: Callable[[], bool]) -> int:
        """Remove what a crash left between bytes and row, once nobody claimed it for a whole grace."""
        # Not the lease, which may be nothing: between commit and row every push is a stray.
        grace = self._settings.stray_seconds
        unknown = (item for item in _until(stopping, self._store.locations()) if not self._is_served(item))
        orphans = (item for item in _until(stopping, self._store.uploads()) if not self._is_session(item))
        total = 0
        for location in _until(stopping, self._stray_locations.past(unknown, grace)):
            if not self._is_served(location):
                self._store.delete(location)
                total += 1
        for upload in _until(stopping, self._stray_uploads.past(orphans, grace)):
            total += self._drop_stray(upload)
        return total

    def _drop_stray(self, upload: UploadId) -> bool:
        try:
            with self._store.claim(upload):
                if self._is_session(upload):
                    return False
                self._store.abort(upload)
                return True
        except RegistryError:
            return False

    def _is_served(self, location: Location) -> bool:
        return self._database.read(lambda db: blobs.is_served(db, location))

    def _is_session(self, upload: UploadId) -> bool:
        return self._database.read(lambda db: uploads.exists(db, upload))


def _until(stopping: Callable[[], bool], items: Iterable[T]) -> Iterator[T]:
    return takewhile(lambda _: not stopping(), items)


class _Strays:
    """Remembers since when a thing has been seen without an owner; age on disk would trust the clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: dict[Hashable, float] = {}

    def past(self, items: Iterable[T], grace: float) -> list[T]:
        now = self._monotonic()
        found = list(items)
        self._seen = {item: self._seen.get(item, now) for item in found}
        return [item for item in found if now - self._seen[item] >= grace]
