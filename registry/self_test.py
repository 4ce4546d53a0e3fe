"""What `cargohold serve` looks at before it listens, so that it fails with a reason and not in a push."""

import errno
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from registry.app import MIGRATIONS
from registry.audit import open_audit
from registry.auth.build import file_problems
from registry.settings import Settings
from registry.tls import Certificates, CertificateUnusable, Files
from storage import database
from storage.oci.errors import RegistryError

log = logging.getLogger(__name__)

_RESERVE_BYTES = 1024 * 1024
# Before this the clock was never set: leases and certificates would be judged by nonsense.
_EARLIEST = 1_750_000_000


def problems(settings: Settings) -> list[str]:
    """Return what is wrong, one sentence each that says what to do; empty when all is well.

    Little room is a warning in the log and no problem: pulls and deletes need none (OPS-09).
    """
    found = [*_disk(settings), *_clock(), *_sqlite(settings), *_audit(settings), *file_problems(settings)]
    return found or [*_schema(settings)]


def certificate_problems(settings: Settings) -> list[str]:
    """Return what is wrong with the files of TLS."""
    files = Files.of(settings)
    try:
        if files is not None:
            Certificates(files)
    except CertificateUnusable as error:
        return [f"cannot speak TLS with {error}"]
    return []


def _disk(settings: Settings) -> Iterator[str]:
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        _use_reserve(settings.data / "reserve")
        with tempfile.TemporaryFile(dir=settings.data) as probe:
            probe.write(b"cargohold")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            yield f"cannot write to {settings.data}: {error.strerror}; choose another --data"
        return
    free = _free_bytes(settings.data)
    if free < settings.free_space_floor:
        log.warning(
            "little room: pushes are refused until there is more, or free_space_floor is lower",
            extra={"free_bytes": free, "floor": settings.free_space_floor},
        )


def _use_reserve(reserve: Path) -> None:
    """Keep a little room for a start on a disk that others have filled: SQLite needs some to open at all."""
    if _free_bytes(reserve.parent) < 2 * _RESERVE_BYTES:
        reserve.unlink(missing_ok=True)
    elif not reserve.exists():
        with open(reserve, "xb", opener=_private) as file:
            file.write(bytes(_RESERVE_BYTES))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


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


def _audit(settings: Settings) -> Iterator[str]:
    try:
        open_audit(settings.audit_log).close()
    except OSError as error:
        yield f"cannot write the audit log {settings.audit_log}: {error.strerror}"


def _schema(settings: Settings) -> Iterator[str]:
    try:
        database.connect(f"sqlite:{settings.data / 'cargohold.db'}", MIGRATIONS).close()
    except database.SchemaNewer as error:
        yield str(error)
    except RegistryError as error:
        yield f"cannot open the database in {settings.data}: {error.__cause__ or error.message}"
