"""Quotas: how many bytes and tags one repository may hold, decided in the transaction that adds to it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from registry.auth.globs import RepositoryGlob, without_user
from registry.metadata import repositories
from storage.blobs import UploadId
from storage.database import Connection
from storage.oci.errors import Denied
from storage.oci.names import RepositoryName

_MIB = 1024 * 1024
# Bytes; each step is a transaction.
_LEAST_STEP = _MIB
_MOST_STEP = 16 * _MIB


@dataclass(frozen=True, slots=True)
class Quota:
    """What each repository of a pattern may hold; None is no limit."""

    repository: RepositoryGlob
    bytes: int | None
    tags: int | None

    @classmethod
    def parse(cls, repository: str, bytes_: int | None, tags: int | None) -> Self:
        """Raises GlobInvalid."""
        return cls(without_user(RepositoryGlob.parse(repository)), bytes_, tags)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a repository holds: bytes of manifests, blobs and open uploads, and tags."""

    bytes: int
    tags: int


def find(db: Connection, name: RepositoryName, configured: Sequence[Quota]) -> Quota | None:
    """Return the one quota that counts for a repository: the most exact, a row before the configuration."""
    matching = [quota for quota in (*listing(db), *configured) if quota.repository.matches(name)]
    return max(matching, key=lambda quota: quota.repository.literal_length, default=None)


@contextmanager
def bounded(db: Connection, name: RepositoryName, configured: Sequence[Quota]) -> Iterator[None]:
    """Run the block and raise Denied if it made a repository hold more than its quota.

    What shrinks or stays is fine, whatever the quota says: a full repository can still be tidied.
    """
    quota = find(db, name, configured)
    if quota is None or (quota.bytes is None and quota.tags is None):
        yield
        return
    before = usage(db, name)
    yield
    after = usage(db, name)
    _check("bytes", name, quota.bytes, before.bytes, after.bytes)
    _check("tags", name, quota.tags, before.tags, after.tags)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Room that an upload asks for: `total` bytes from its start, and some more if it `streams`."""

    name: RepositoryName
    upload: UploadId
    total: int
    streams: bool


def reserve(db: Connection, wanted: Wanted, configured: Sequence[Quota]) -> int | None:
    """Keep room for an upload; return how many bytes it may have now, None where there is no quota.

    Raises Denied with the numbers. The room is given back with the session's row, or by `uploads.release`.
    """
    quota = find(db, wanted.name, configured)
    if quota is None or quota.bytes is None:
        return None
    (own,) = db.execute("SELECT reserved FROM upload WHERE id = ?", (wanted.upload,)).fetchone() or (0,)
    others = usage(db, wanted.name).bytes - own
    _check("bytes", wanted.name, quota.bytes, others, others + wanted.total)
    room = max(quota.bytes - others - wanted.total, 0)
    granted = wanted.total + (_step(room) if wanted.streams else 0)
    db.execute("UPDATE upload SET reserved = ? WHERE id = ?", (granted, wanted.upload))
    return int(granted)


def _step(room: int) -> int:
    """Return how many bytes a stream gets at once: few where little is left, so that others get some."""
    return min(max(room // 8, _LEAST_STEP), _MOST_STEP, room)


def usage(db: Connection, name: RepositoryName) -> Usage:
    """Count what a repository holds.

    A blob counts while a manifest of this repository names it, or its lease has not ended: one that only
    others still hold is theirs.
    """
    (uploading,) = db.execute(
        "SELECT coalesce(sum(reserved), 0) FROM upload WHERE repository = ?", (name.value,)
    ).fetchone()
    repository = repositories.find(db, name)
    if repository is None:
        return Usage(int(uploading), 0)
    (held,) = db.execute(_BLOB_BYTES, (repository, db.now())).fetchone()
    (described,) = db.execute(_MANIFEST_BYTES, (repository,)).fetchone()
    (tags,) = db.execute("SELECT count(*) FROM tag WHERE repository_id = ?", (repository,)).fetchone()
    return Usage(int(uploading + held + described), int(tags))


_BLOB_BYTES = (
    "SELECT coalesce(sum(size), 0) FROM repository_blob AS link JOIN blob ON blob.digest = link.digest"
    " WHERE link.repository_id = ? AND (lease_until >= ? OR EXISTS (SELECT 1 FROM manifest_reference"
    " JOIN repository_manifest ON repository_manifest.digest = parent"
    " WHERE child = blob.digest AND repository_manifest.repository_id = link.repository_id))"
)
_MANIFEST_BYTES = (
    "SELECT coalesce(sum(size), 0) FROM repository_manifest"
    " JOIN manifest ON manifest.digest = repository_manifest.digest WHERE repository_id = ?"
)


def _check(what: str, name: RepositoryName, limit: int | None, before: int, after: int) -> None:
    if limit is None or after <= limit or after <= before:
        return
    raise Denied(
        f"{name} may hold {limit} {what} and holds {before}: {after - before} more do not fit",
        quota=limit,
        used=before,
        wanted=after - before,
    )


def put(db: Connection, quota: Quota) -> None:
    """Set the quota of a pattern."""
    db.execute(
        "INSERT INTO quota (repository, bytes, tags) VALUES (?, ?, ?)"
        " ON CONFLICT (repository) DO UPDATE SET bytes = excluded.bytes, tags = excluded.tags",
        (quota.repository.text, quota.bytes, quota.tags),
    )


def remove(db: Connection, repository: RepositoryGlob) -> bool:
    """Forget the quota of a pattern; say whether there was one."""
    return db.execute("DELETE FROM quota WHERE repository = ?", (repository.text,)).rowcount == 1


def listing(db: Connection) -> list[Quota]:
    """List all rows. Raises GlobInvalid for one that `put` did not write: what it limits is unknown."""
    rows = db.execute("SELECT repository, bytes, tags FROM quota ORDER BY repository")
    return [Quota.parse(repository, bytes_, tags) for repository, bytes_, tags in rows]
