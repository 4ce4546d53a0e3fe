"""Secrets that all replicas share and nobody must configure; they live in the database."""

import secrets

from storage.database import Connection

_BYTES = 32


def ensure(db: Connection, name: str) -> bytes:
    """Return the secret of this name, 32 random bytes made when it is first asked for."""
    db.execute(
        "INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
        (name, secrets.token_bytes(_BYTES)),
    )
    (value,) = db.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
    return bytes(value)
