"""The outbox: what the journal must still write, recorded in the transaction that changed it."""

import json

from storage.database import Connection


def record(db: Connection, kind: str, **fields: object) -> None:
    """Record a change of names or locations. `kind` is blob, manifest, unmanifest, tag or untag."""
    event = json.dumps({"kind": kind, "at": db.now(), **fields}, separators=(",", ":"))
    db.execute("INSERT INTO outbox (event) VALUES (?)", (event,))


def pending(db: Connection, limit: int) -> list[tuple[int, str]]:
    """Return up to `limit` recorded changes, oldest first, as (id, JSON object)."""
    return list(db.execute("SELECT id, event FROM outbox ORDER BY id LIMIT ?", (limit,)))


def forget(db: Connection, through: int) -> None:
    """Drop the changes up to and including id `through`; the journal has them."""
    db.execute("DELETE FROM outbox WHERE id <= ?", (through,))
