"""Upload sessions: whose they are, and how many bytes were acknowledged."""

from dataclasses import dataclass

from storage.blobs import Appended, UploadId
from storage.database import Connection
from storage.oci.digest import Digest
from storage.oci.names import RepositoryName


@dataclass(frozen=True, slots=True)
class Upload:
    """An open session; `appended` is what was acknowledged last."""

    id: UploadId
    algorithm: str
    appended: Appended


def create(db: Connection, upload: UploadId, name: RepositoryName, principal: str, algorithm: str) -> None:
    db.execute(
        "INSERT INTO upload (id, repository, principal, algorithm, size, touched_at)"
        " VALUES (?, ?, ?, ?, 0, ?)",
        (upload, name.value, principal, algorithm, db.now()),
    )


def find(db: Connection, upload: UploadId, name: RepositoryName, principal: str) -> Upload | None:
    """Return the session if it belongs to this repository and principal (ISO-04)."""
    row = db.execute(
        "SELECT algorithm, size, digest_so_far FROM upload WHERE id = ? AND repository = ? AND principal = ?",
        (upload, name.value, principal),
    ).fetchone()
    if row is None:
        return None
    return Upload(upload, row[0], Appended(row[1], Digest.parse(row[2]) if row[2] else None))


def advance(db: Connection, upload: UploadId, before: int, appended: Appended) -> bool:
    """Acknowledge bytes by compare-and-set of the offset; say whether this writer was the one.

    What it reserved beyond them is free again.
    """
    digest = str(appended.digest) if appended.digest else None
    updated = db.execute(
        "UPDATE upload SET size = ?, reserved = ?, digest_so_far = ?, touched_at = ?"
        " WHERE id = ? AND size = ?",
        (appended.offset, appended.offset, digest, db.now(), upload, before),
    )
    return updated.rowcount == 1


def release(db: Connection, upload: UploadId) -> None:
    """Give back what a session reserved beyond its acknowledged bytes (OPS-08)."""
    db.execute("UPDATE upload SET reserved = size WHERE id = ?", (upload,))


def remove(db: Connection, upload: UploadId) -> None:
    db.execute("DELETE FROM upload WHERE id = ?", (upload,))


def stale(db: Connection, seconds: float, limit: int) -> list[UploadId]:
    """Return sessions without progress for `seconds`."""
    rows = db.execute("SELECT id FROM upload WHERE touched_at < ? LIMIT ?", (db.now() - seconds, limit))
    return [UploadId(id_) for (id_,) in rows]


def remove_stale(db: Connection, upload: UploadId, seconds: float) -> bool:
    """Drop a session if it still has made no progress for `seconds`; say whether it did."""
    gone = db.execute("DELETE FROM upload WHERE id = ? AND touched_at < ?", (upload, db.now() - seconds))
    return gone.rowcount == 1


def exists(db: Connection, upload: UploadId) -> bool:
    return db.execute("SELECT 1 FROM upload WHERE id = ?", (upload,)).fetchone() is not None
