"""Repositories: rows that appear with their first content, and the catalog over them."""

from storage.database import Connection
from storage.oci.names import RepositoryName


def find(db: Connection, name: RepositoryName) -> int | None:
    """Return the row id of a repository that has ever held content."""
    row = db.execute("SELECT id FROM repository WHERE name = ?", (name.value,)).fetchone()
    return row[0] if row else None


def ensure(db: Connection, name: RepositoryName) -> int:
    """Return the row id of a repository, made if it is new."""
    known = find(db, name)
    if known is not None:
        return known
    row = db.execute(
        # The update is empty; it makes a row that another replica inserted first come back.
        "INSERT INTO repository (name, created_at) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
        (name.value, db.now()),
    ).fetchone()
    return int(row[0])


def catalog(db: Connection, last: str, limit: int) -> list[str]:
    """List up to `limit` repositories behind `last` that hold a manifest, sorted bytewise."""
    rows = db.execute(
        "SELECT name FROM repository WHERE name > ? AND EXISTS"
        " (SELECT 1 FROM repository_manifest WHERE repository_id = repository.id) ORDER BY name LIMIT ?",
        (last, limit),
    )
    return [name for (name,) in rows]
