"""Room in a repository's quota, kept for an upload before its bytes are written (OPS-08)."""

from collections.abc import Callable

from registry.metadata import quotas, uploads
from registry.metadata.quotas import Wanted
from registry.metadata.uploads import Upload
from registry.settings import Settings
from storage.database import Database
from storage.oci.names import RepositoryName

Write = Callable[[memoryview], None]


class Reservation:
    """What one request may write to an upload. Blocking: its bytes are written on a thread."""

    def __init__(self, settings: Settings, database: Database, name: RepositoryName, row: Upload) -> None:
        self._settings = settings
        self._database = database
        self._name = name
        self._upload = row.id
        self._written = row.appended.offset
        # None is no quota. What is acknowledged has its room.
        self._room: int | None = row.appended.offset

    def announce(self, size: int) -> None:
        """Keep room for a body whose length is known; 0 is an unknown one. Raises Denied."""
        quota = self._database.read(lambda db: quotas.find(db, self._name, self._settings.limits.quotas))
        if quota is None or quota.bytes is None:
            self._room = None
        elif size:
            self._reserve(self._written + size, streams=False)

    def guard(self, write: Write) -> Write:
        """Keep more room whenever what is kept is used up; Denied is raised before anything is written."""
        if self._room is None:
            return write

        def guarded(data: memoryview) -> None:
            self._written += len(data)
            if self._room is not None and self._written > self._room:
                self._reserve(self._written, streams=True)
            write(data)

        return guarded

    def release(self) -> None:
        """Give back what is not acknowledged."""
        if self._room is not None:
            self._database.transaction(lambda db: uploads.release(db, self._upload))

    def _reserve(self, total: int, *, streams: bool) -> None:
        wanted, configured = Wanted(self._name, self._upload, total, streams), self._settings.limits.quotas
        self._room = self._database.transaction(lambda db: quotas.reserve(db, wanted, configured))
