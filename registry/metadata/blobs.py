"""Blobs: one row a digest says which location is served, one link a repository says who may read it."""

from dataclasses import dataclass

from registry.metadata import outbox, repositories
from storage.blobs import Location
from storage.database import Connection
from storage.oci.digest import Digest
from storage.oci.names import RepositoryName

LIVE = "live"

_EXTEND_LEASE = "UPDATE blob SET lease_until = CASE WHEN lease_until < ? THEN ? ELSE lease_until END"
_REFERENCED = "EXISTS (SELECT 1 FROM manifest_reference WHERE child = blob.digest)"


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that a repository may read. `size` in bytes; `lease_until` in the database's seconds."""

    size: int
    location: Location
    lease_until: float
    referenced: bool


def find(db: Connection, name: RepositoryName, digest: Digest) -> StoredBlob | None:
    """Return the live blob if the repository is linked to it. One indexed query."""
    row = db.execute(
        f"SELECT size, location, lease_until, {_REFERENCED} FROM repository"
        " JOIN repository_blob ON repository_blob.repository_id = repository.id"
        " JOIN blob ON blob.digest = repository_blob.digest"
        " WHERE repository.name = ? AND repository_blob.digest = ? AND blob.state = 'live'",
        (name.value, str(digest)),
    ).fetchone()
    return StoredBlob(row[0], Location(row[1]), row[2], bool(row[3])) if row else None


def location(db: Connection, digest: Digest) -> tuple[Location, int] | None:
    """Return where a live blob is served from, and its size, whoever may read it."""
    row = db.execute(
        "SELECT location, size FROM blob WHERE digest = ? AND state = 'live'", (str(digest),)
    ).fetchone()
    return (Location(row[0]), row[1]) if row else None


@dataclass(frozen=True, slots=True)
class NewBlob:
    """Committed bytes that want a row."""

    digest: Digest
    size: int
    location: Location


def store(
    db: Connection, name: RepositoryName, blob: NewBlob, broken: Location | None, lease_seconds: float
) -> Location | None:
    """Link committed bytes to a repository; return the location that lost, which the caller deletes.

    The row decides between two commits of one digest: the first stays, unless it is quarantined or is the
    `broken` location, whose bytes the caller found missing.
    """
    before = db.execute(
        "SELECT location, state FROM blob WHERE digest = ?" + db.dialect.for_update, (str(blob.digest),)
    ).fetchone()
    lease = db.now() + lease_seconds
    loser: Location | None = None
    if before is None:
        _insert(db, blob, lease)
    elif before[1] != LIVE or before[0] == broken:
        loser = Location(before[0])
        db.execute(
            "UPDATE blob SET location = ?, size = ?, state = 'live', lease_until = ? WHERE digest = ?",
            (blob.location, blob.size, lease, str(blob.digest)),
        )
        _record(db, blob)
    else:
        loser = blob.location
        extend_lease(db, blob.digest, lease)
    link(db, name, blob.digest)
    return loser


def _insert(db: Connection, blob: NewBlob, lease: float) -> None:
    db.execute(
        "INSERT INTO blob (digest, size, location, state, lease_until, created_at)"
        " VALUES (?, ?, ?, 'live', ?, ?)",
        (str(blob.digest), blob.size, blob.location, lease, db.now()),
    )
    _record(db, blob)


def _record(db: Connection, blob: NewBlob) -> None:
    outbox.record(db, "blob", digest=str(blob.digest), size=blob.size, location=blob.location)


def link(db: Connection, name: RepositoryName, digest: Digest) -> None:
    """Let a repository read a blob."""
    db.execute(
        "INSERT INTO repository_blob (repository_id, digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (repositories.ensure(db, name), str(digest)),
    )


def mount(
    db: Connection, name: RepositoryName, digest: Digest, source: RepositoryName, lease_seconds: float
) -> bool:
    """Link a blob that `source` can read to `name`; say whether there was one."""
    if find(db, source, digest) is None:
        return False
    extend_lease(db, digest, db.now() + lease_seconds)
    link(db, name, digest)
    return True


def linked_repositories(db: Connection, digest: Digest, limit: int) -> list[str]:
    """Name up to `limit` repositories that can read a live blob."""
    rows = db.execute(
        "SELECT repository.name FROM repository_blob JOIN repository ON repository.id = repository_id"
        " JOIN blob ON blob.digest = repository_blob.digest"
        " WHERE repository_blob.digest = ? AND state = 'live' LIMIT ?",
        (str(digest), limit),
    )
    return [name for (name,) in rows]


def extend_lease(db: Connection, digest: Digest, until: float) -> bool:
    """Keep a live blob until at least `until`; say whether it is still there."""
    updated = db.execute(f"{_EXTEND_LEASE} WHERE digest = ? AND state = 'live'", (until, until, str(digest)))
    return updated.rowcount == 1


def extend_leases_of(db: Connection, parent: Digest, until: float) -> None:
    """Keep what a manifest references until at least `until`."""
    db.execute(
        f"{_EXTEND_LEASE} WHERE digest IN (SELECT child FROM manifest_reference WHERE parent = ?)",
        (until, until, str(parent)),
    )


def unlink(db: Connection, name: RepositoryName, digest: Digest, lease_seconds: float) -> bool:
    """Take a blob away from a repository; say whether it was linked. Its bytes go when the lease ends."""
    repository = repositories.find(db, name)
    gone = db.execute(
        "DELETE FROM repository_blob WHERE repository_id = ? AND digest = ?", (repository, str(digest))
    )
    if gone.rowcount != 1:
        return False
    extend_lease(db, digest, db.now() + lease_seconds)
    return True


def holders(db: Connection, name: RepositoryName, digest: Digest, limit: int = 5) -> list[str]:
    """Name up to `limit` manifests of the repository that reference the digest."""
    rows = db.execute(
        "SELECT parent FROM manifest_reference JOIN repository_manifest ON digest = parent"
        " JOIN repository ON repository.id = repository_id"
        " WHERE child = ? AND repository.name = ? LIMIT ?",
        (str(digest), name.value, limit),
    )
    return [parent for (parent,) in rows]


def quarantine(db: Connection, location: Location) -> None:
    """Stop serving a location whose bytes are bad or gone; its digest is unknown until it is pushed again."""
    db.execute("UPDATE blob SET state = 'quarantined' WHERE location = ?", (location,))


def take_unreferenced(db: Connection, limit: int) -> list[Location]:
    """Take away up to `limit` blobs that no manifest references and whose lease has ended.

    Returns their locations, which the caller deletes after the commit. References and leases are checked
    here, in the transaction that takes the row (registry-servers.md §2.9, R1-R3).
    """
    rows = db.execute(
        f"SELECT digest, location FROM blob WHERE lease_until < ? AND NOT {_REFERENCED} LIMIT ?"
        + db.dialect.for_update,
        (db.now(), limit),
    ).fetchall()
    for digest, _ in rows:
        db.execute("DELETE FROM repository_blob WHERE digest = ?", (digest,))
        db.execute("DELETE FROM blob WHERE digest = ?", (digest,))
    return [Location(location) for _, location in rows]


def is_served(db: Connection, candidate: Location) -> bool:
    """Say whether a row serves this location."""
    return db.execute("SELECT 1 FROM blob WHERE location = ?", (candidate,)).fetchone() is not None
