"""Manifests: their bytes and what they name, and which repository holds them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from registry.metadata import blobs, immutable, outbox, quotas, repositories, tags
from registry.metadata.limits import NO_LIMITS, Limits
from registry.metadata.tags import ALL_MOVES, ANY, Condition, TagRights
from storage.database import Connection
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import ManifestBlobUnknown, ManifestInvalid
from storage.oci.manifest import Manifest
from storage.oci.names import Reference, RepositoryName, Tag

# A body above this is read on a thread: 4 MiB would hold the event loop for 9 ms.
INLINE_BYTES = 64 * 1024

_VARIABLES = 500
_COLUMNS = (
    "manifest.digest, media_type, size,"
    f" CASE WHEN size <= {INLINE_BYTES} THEN"
    " (SELECT body FROM manifest_body WHERE manifest_body.digest = manifest.digest) END"
)
_BY_TAG = (
    f"SELECT {_COLUMNS} FROM repository JOIN tag ON tag.repository_id = repository.id"
    " JOIN manifest ON manifest.digest = tag.digest WHERE repository.name = ? AND tag.name = ?"
)
_BY_DIGEST = (
    f"SELECT {_COLUMNS} FROM repository JOIN repository_manifest ON repository_id = repository.id"
    " JOIN manifest ON manifest.digest = repository_manifest.digest"
    " WHERE repository.name = ? AND repository_manifest.digest = ?"
)


class StoredManifest(NamedTuple):
    """A manifest as it is served; `body` is None when it is too large to read on the event loop."""

    digest: str
    media_type: str
    size: int
    body: bytes | None


def find(db: Connection, name: RepositoryName, reference: Reference) -> StoredManifest | None:
    """Return the manifest that a tag or digest names in a repository. One indexed query."""
    statement, key = (
        (_BY_TAG, reference.value) if isinstance(reference, Tag) else (_BY_DIGEST, str(reference))
    )
    row = db.execute(statement, (name.value, key)).fetchone()
    return StoredManifest(*row) if row else None


def body(db: Connection, digest: str) -> bytes:
    """Return the bytes of a manifest that `find` has shown to be there."""
    (data,) = db.execute("SELECT body FROM manifest_body WHERE digest = ?", (digest,)).fetchone()
    return bytes(data)


def find_body(db: Connection, digest: str) -> bytes | None:
    """Return the bytes of a manifest that any repository holds."""
    row = db.execute("SELECT body FROM manifest_body WHERE digest = ?", (digest,)).fetchone()
    return bytes(row[0]) if row else None


@dataclass(frozen=True, slots=True)
class Push:
    """One PUT of a manifest: under which tags, by whom, and what must be true of the first tag before."""

    name: RepositoryName
    manifest: Manifest
    tags: tuple[Tag, ...]
    principal: str
    condition: Condition = ANY
    rights: TagRights = ALL_MOVES


def put(db: Connection, push: Push, *, sparse: bool, limits: Limits = NO_LIMITS) -> dict[str, str | None]:
    """Store a manifest and move its tags, all or nothing; return what each tag named before.

    Raises ManifestBlobUnknown naming every blob and child that the repository does not hold,
    ManifestInvalid when a descriptor's size is not the content's, PreconditionFailed by the condition,
    Denied for a tag that the pusher may not move or nobody may, and above the repository's quota.
    """
    with quotas.bounded(db, push.name, limits.quotas):
        repository = repositories.ensure(db, push.name)
        tags.check(db, repository, push.condition, push.tags[:1], push.manifest.digest)
        before = _check_moves(db, repository, push, limits)
        _check_references(db, repository, push.manifest, sparse=sparse)
        _store(db, push.manifest)
        _link(db, repository, push)
        for tag in push.tags:
            tags.move(db, push.name, repository, tag, push.manifest.digest, push.principal)
        return before


def _check_moves(db: Connection, repository: int, push: Push, limits: Limits) -> dict[str, str | None]:
    """Return what each tag names now. Raises Denied when one may not be made, or moved elsewhere."""
    before = {tag.value: tags.current(db, repository, tag) for tag in push.tags}
    moving = [tag for tag in push.tags if before[tag.value] != str(push.manifest.digest)]
    for tag in moving:
        push.rights.check(push.name, tag, before[tag.value])
    existing = [tag for tag in moving if before[tag.value] is not None]
    immutable.refuse_change(db, push.name, existing, limits.immutable)
    return before


def _check_references(db: Connection, repository: int, manifest: Manifest, *, sparse: bool) -> None:
    contents = _sizes(db, _BLOB_SIZES, repository, manifest.blobs)
    children = _sizes(db, _MANIFEST_SIZES, repository, manifest.manifests)
    required = [*manifest.blobs, *([] if sparse else manifest.manifests)]
    held = contents | children
    if missing := [str(item.digest) for item in required if str(item.digest) not in held]:
        raise ManifestBlobUnknown("the repository does not hold what the manifest names", digests=missing)
    _check_sizes([*manifest.blobs, *manifest.manifests], held)


_BLOB_SIZES = (
    "SELECT blob.digest, size FROM repository_blob JOIN blob ON blob.digest = repository_blob.digest"
    " WHERE repository_id = ? AND state = 'live' AND blob.digest IN"
)
_MANIFEST_SIZES = (
    "SELECT manifest.digest, size FROM repository_manifest"
    " JOIN manifest ON manifest.digest = repository_manifest.digest"
    " WHERE repository_id = ? AND manifest.digest IN"
)


def _sizes(db: Connection, select: str, repository: int, descriptors: Iterable[Descriptor]) -> dict[str, int]:
    """Return digest -> size of those that the repository holds, their rows locked against deletion (R4)."""
    sizes: dict[str, int] = {}
    for digests in _batches(str(item.digest) for item in descriptors):
        marks = ", ".join("?" * len(digests))
        sizes.update(db.execute(f"{select} ({marks}){db.dialect.for_share}", (repository, *digests)))
    return sizes


def _batches(digests: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(digests)
    while batch := list(islice(iterator, _VARIABLES)):
        yield batch


def _check_sizes(descriptors: Iterable[Descriptor], held: dict[str, int]) -> None:
    for item in descriptors:
        size = held.get(str(item.digest), item.size)
        if size != item.size:
            raise ManifestInvalid(
                f"{item.digest} has {size} bytes, the manifest says {item.size}", digest=str(item.digest)
            )


def _store(db: Connection, manifest: Manifest) -> None:
    digest = str(manifest.digest)
    inserted = db.execute(
        "INSERT INTO manifest (digest, media_type, size, subject, artifact_type, annotations, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        (
            digest,
            manifest.media_type,
            manifest.size,
            str(manifest.subject.digest) if manifest.subject else None,
            manifest.artifact_type,
            json.dumps(dict(manifest.annotations), ensure_ascii=False),
            db.now(),
        ),
    )
    if inserted.rowcount != 1:
        return
    db.execute("INSERT INTO manifest_body (digest, body) VALUES (?, ?)", (digest, manifest.body))
    for child in {str(item.digest) for item in (*manifest.blobs, *manifest.manifests)}:
        db.execute("INSERT INTO manifest_reference (parent, child) VALUES (?, ?)", (digest, child))


def _link(db: Connection, repository: int, push: Push) -> None:
    manifest = push.manifest
    linked = db.execute(
        "INSERT INTO repository_manifest (repository_id, digest, subject, pushed_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (repository_id, digest) DO NOTHING",
        (
            repository,
            str(manifest.digest),
            str(manifest.subject.digest) if manifest.subject else None,
            db.now(),
        ),
    )
    if linked.rowcount == 1:
        outbox.record(
            db,
            "manifest",
            repository=push.name.value,
            digest=str(manifest.digest),
            media_type=manifest.media_type,
        )


def holders(db: Connection, repository: int, digest: Digest, limit: int = 5) -> list[str]:
    """Name up to `limit` indexes of the repository that list the manifest."""
    rows = db.execute(
        "SELECT parent FROM manifest_reference JOIN repository_manifest ON digest = parent"
        " WHERE child = ? AND repository_id = ? LIMIT ?",
        (str(digest), repository, limit),
    )
    return [parent for (parent,) in rows]


def delete(db: Connection, name: RepositoryName, repository: int, digest: Digest, principal: str) -> bool:
    """Take a manifest and its tags from a repository; say whether it was there.

    With the last repository its bytes go too, and what only it referenced goes when the lease ends.
    """
    for tag in tags.of(db, repository, digest):
        tags.remove(db, name, repository, tag, principal)
    gone = db.execute(
        "DELETE FROM repository_manifest WHERE repository_id = ? AND digest = ?", (repository, str(digest))
    )
    if gone.rowcount != 1:
        return False
    outbox.record(db, "unmanifest", repository=name.value, digest=str(digest))
    return True


def drop_if_unheld(db: Connection, digest: Digest, lease_seconds: float) -> None:
    """Drop the rows of a manifest that no repository holds; what it referenced gets a lease."""
    key = (str(digest),)
    if db.execute("SELECT 1 FROM repository_manifest WHERE digest = ? LIMIT 1", key).fetchone():
        return
    blobs.extend_leases_of(db, digest, db.now() + lease_seconds)
    db.execute("DELETE FROM manifest_reference WHERE parent = ?", key)
    db.execute("DELETE FROM manifest_body WHERE digest = ?", key)
    db.execute("DELETE FROM manifest WHERE digest = ?", key)


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that names another as its subject, as the referrers list shows it."""

    digest: str
    media_type: str
    size: int
    artifact_type: str | None
    annotations: str


def referrers(
    db: Connection, name: RepositoryName, subject: Digest, artifact_type: str | None, last: str, limit: int
) -> list[Referrer]:
    """List up to `limit` referrers behind the digest `last`, sorted by digest."""
    rows = db.execute(
        "SELECT manifest.digest, media_type, size, artifact_type, annotations FROM repository"
        " JOIN repository_manifest ON repository_id = repository.id"
        " JOIN manifest ON manifest.digest = repository_manifest.digest"
        " WHERE repository.name = ? AND repository_manifest.subject = ? AND repository_manifest.digest > ?"
        " AND (? IS NULL OR artifact_type = ?) ORDER BY repository_manifest.digest LIMIT ?",
        (name.value, str(subject), last, artifact_type, artifact_type, limit),
    )
    return [Referrer(*row) for row in rows]
