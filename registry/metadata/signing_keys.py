"""The keys that sign tokens. Several replicas share them, hence the database."""

from dataclasses import dataclass

from registry.metadata import access_version
from storage.database import Connection


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept: PKCS #8 in DER. From `retires_at` on it neither signs nor verifies."""

    kid: str
    algorithm: str
    private_key: bytes
    created_at: float
    retires_at: float | None


def add(db: Connection, kid: str, algorithm: str, private_key: bytes) -> None:
    db.execute(
        "INSERT INTO signing_key (kid, algorithm, private_key, created_at) VALUES (?, ?, ?, ?)",
        (kid, algorithm, private_key, db.now()),
    )
    access_version.change(db)


def live(db: Connection) -> list[StoredKey]:
    """Return the keys that have not retired, newest first."""
    rows = db.execute(
        "SELECT kid, algorithm, private_key, created_at, retires_at FROM signing_key"
        " WHERE retires_at IS NULL OR retires_at > ? ORDER BY retires_at IS NOT NULL, created_at DESC, kid",
        (db.now(),),
    )
    return [StoredKey(kid, algorithm, bytes(key), *times) for kid, algorithm, key, *times in rows]


def retire(db: Connection, kid: str, at: float) -> bool:
    """Let a key end at a time, never later than was said before; say whether it was live."""
    changed = db.execute(
        "UPDATE signing_key SET retires_at = CASE WHEN retires_at < ? THEN retires_at ELSE ? END"
        " WHERE kid = ? AND (retires_at IS NULL OR retires_at > ?)",
        (at, at, kid, db.now()),
    )
    access_version.change(db)
    return changed.rowcount == 1


def remove_retired(db: Connection) -> None:
    """Forget keys that ended."""
    db.execute("DELETE FROM signing_key WHERE retires_at <= ?", (db.now(),))
