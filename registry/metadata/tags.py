"""Tags: the one mutable thing; every move is history."""

from dataclasses import dataclass

from registry.metadata import outbox
from storage.database import Connection
from storage.oci.digest import Digest
from storage.oci.errors import Denied, PreconditionFailed
from storage.oci.names import Reference, RepositoryName, Tag


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold before a write. Source: RFC 9110 §13.1.1 (If-Match) and §13.1.2 (If-None-Match).

    `None` asks nothing, an empty set is `*`, otherwise the entity tags, which are digests.
    """

    if_match: frozenset[str] | None = None
    if_none_match: frozenset[str] | None = None

    def check(self, current: str | None) -> None:
        """Raise PreconditionFailed unless the current digest (None: nothing there) satisfies both."""
        if self.if_match is not None and not _matches(self.if_match, current):
            raise PreconditionFailed("If-Match does not name what is there now", current=current)
        if self.if_none_match is not None and _matches(self.if_none_match, current):
            raise PreconditionFailed("If-None-Match names what is there now", current=current)


ANY = Condition()


@dataclass(frozen=True, slots=True)
class TagRights:
    """Which moves of tags somebody may make; held in the transaction that makes them (AUTH-18)."""

    create: bool = True
    overwrite: bool = True

    def check(self, name: RepositoryName, tag: Tag, current: str | None) -> None:
        """Raise Denied unless a tag that names `current` (None: it is new) may be moved."""
        if current is None and not self.create:
            raise Denied(f"no rule lets you make the new tag {name}:{tag}")
        if current is not None and not self.overwrite:
            raise Denied(f"{name}:{tag} exists, and no rule lets you move it")


ALL_MOVES = TagRights()


def _matches(entity_tags: frozenset[str], current: str | None) -> bool:
    return current is not None and (not entity_tags or current in entity_tags)


def current(db: Connection, repository: int, tag: Tag) -> str | None:
    """Return the digest a tag names, its row locked for the rest of the transaction."""
    row = db.execute(
        "SELECT digest FROM tag WHERE repository_id = ? AND name = ?" + db.dialect.for_update,
        (repository, tag.value),
    ).fetchone()
    return row[0] if row else None


def check(
    db: Connection, repository: int, condition: Condition, tags: tuple[Tag, ...], digest: Digest
) -> None:
    """Hold a condition against the first tag, or against the manifest itself when there is none."""
    if condition == ANY:
        return
    if tags:
        condition.check(current(db, repository, tags[0]))
        return
    row = db.execute(
        "SELECT digest FROM repository_manifest WHERE repository_id = ? AND digest = ?",
        (repository, str(digest)),
    ).fetchone()
    condition.check(row[0] if row else None)


def move(
    db: Connection, name: RepositoryName, repository: int, tag: Tag, digest: Digest, principal: str
) -> str | None:
    """Let a tag name a manifest of the repository; return what it named before.

    Naming the same again writes nothing.
    """
    before = current(db, repository, tag)
    if before == str(digest):
        return before
    now = db.now()
    db.execute(
        "INSERT INTO tag (repository_id, name, digest, moved_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (repository_id, name)"
        " DO UPDATE SET digest = excluded.digest, moved_at = excluded.moved_at",
        (repository, tag.value, str(digest), now),
    )
    _record(db, repository, tag, str(digest), principal)
    outbox.record(db, "tag", repository=name.value, tag=tag.value, digest=str(digest), principal=principal)
    return before


def remove(db: Connection, name: RepositoryName, repository: int, tag: Tag, principal: str) -> bool:
    """Take a tag away; say whether it was there. Its manifest stays."""
    gone = db.execute("DELETE FROM tag WHERE repository_id = ? AND name = ?", (repository, tag.value))
    if gone.rowcount != 1:
        return False
    _record(db, repository, tag, None, principal)
    outbox.record(db, "untag", repository=name.value, tag=tag.value, principal=principal)
    return True


def _record(db: Connection, repository: int, tag: Tag, digest: str | None, principal: str) -> None:
    db.execute(
        "INSERT INTO tag_history (repository_id, name, digest, principal, moved_at) VALUES (?, ?, ?, ?, ?)",
        (repository, tag.value, digest, principal, db.now()),
    )


def of(db: Connection, repository: int, digest: Digest) -> list[Tag]:
    """Return the tags that name a manifest."""
    rows = db.execute(
        "SELECT name FROM tag WHERE repository_id = ? AND digest = ?", (repository, str(digest))
    )
    return [Tag(name) for (name,) in rows]


def named(db: Connection, repository: int, reference: Reference) -> list[Tag]:
    """Return the tags that go with a reference: itself if it is one that exists, or those of a manifest."""
    if isinstance(reference, Digest):
        return of(db, repository, reference)
    return [reference] if current(db, repository, reference) is not None else []


def listing(db: Connection, repository: int, last: str, limit: int) -> list[str]:
    """List up to `limit` tags behind `last`, sorted bytewise."""
    rows = db.execute(
        "SELECT name FROM tag WHERE repository_id = ? AND name > ? ORDER BY name LIMIT ?",
        (repository, last, limit),
    )
    return [name for (name,) in rows]
