"""What `cargohold serve` looks at before it listens, so that it fails with a reason and not in a push."""

import os
import tempfile
import time
from collections.abc import Iterator

from registry.app import MIGRATIONS
from registry.settings import Settings
from storage import database
from storage.oci.errors import RegistryError

# Before this the clock was never set: leases and certificates would be judged by nonsense.
_EARLIEST = 1_750_000_000


def problems(settings: Settings) -> list[str]:
    """Return what is wrong, one sentence each that says what to do; empty when all is well."""
    return [*_disk(settings), *_clock(), *_sqlite(settings)] or [*_schema(settings)]


def _disk(settings: Settings) -> Iterator[str]:
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data) as probe:
            probe.write(b"cargohold")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        yield f"cannot write to {settings.data}: {error.strerror}; choose another --data"
        return
    status = os.statvfs(settings.data)
    free = status.f_bavail * status.f_frsize
    if free < settings.free_space_floor:
        yield (
            f"{settings.data} has {free >> 20} MiB free, below the floor of"
            f" {settings.free_space_floor >> 20} MiB, so pushes would be refused:"
            " free some space, or lower free_space_floor"
        )


def _clock() -> Iterator[str]:
    if time.time() < _EARLIEST:
        yield f"the clock says {time.ctime()}: set it first"


def _sqlite(settings: Settings) -> Iterator[str]:
    found = database.sqlite_version()
    if settings.workers > 1 and found < database.SAFE_FOR_SEVERAL_PROCESSES:
        need = ".".join(map(str, database.SAFE_FOR_SEVERAL_PROCESSES))
        yield (
            f"SQLite {'.'.join(map(str, found))} may corrupt the database when several processes write; "
            f"{need} does not: install pysqlite3, or run one worker"
        )


def _schema(settings: Settings) -> Iterator[str]:
    try:
        database.connect(f"sqlite:{settings.data / 'cargohold.db'}", MIGRATIONS).close()
    except database.SchemaNewer as error:
        yield str(error)
    except RegistryError as error:
        yield f"cannot open the database in {settings.data}: {error.message}"
