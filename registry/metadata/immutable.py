"""Immutable tags: patterns of repositories and tags that, once made, name one manifest for ever."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from registry.auth.globs import RepositoryGlob, TagGlob, is_referrers_fallback, without_user
from storage.database import Connection
from storage.oci.errors import Denied
from storage.oci.names import RepositoryName, Tag


@dataclass(frozen=True, slots=True)
class ImmutableTags:
    """The tags that one line of the configuration or one row protects."""

    repository: RepositoryGlob
    tags: TagGlob

    @classmethod
    def parse(cls, repository: str, tags: str) -> Self:
        """Raises GlobInvalid."""
        return cls(without_user(RepositoryGlob.parse(repository)), TagGlob.parse(tags))

    def protects(self, name: RepositoryName, tag: Tag) -> bool:
        return self.repository.matches(name) and self.tags.matches(tag)

    def __str__(self) -> str:
        return f"{self.repository}:{self.tags}"


@dataclass(frozen=True, slots=True)
class StoredImmutable:
    """A row and its id."""

    id: int
    pattern: ImmutableTags


def refuse_change(
    db: Connection, name: RepositoryName, tags: Iterable[Tag], configured: Sequence[ImmutableTags]
) -> None:
    """Raise Denied if one of these tags, which exist, may not be moved or deleted.

    Clients rewrite the tags in which they keep referrers with each of them, so those are never protected.
    """
    changing = [tag for tag in tags if not is_referrers_fallback(tag)]
    if not changing:
        return
    for pattern in (*configured, *(row.pattern for row in listing(db))):
        for tag in changing:
            if pattern.protects(name, tag):
                raise Denied(
                    f"{name}:{tag} is immutable by {pattern}; push under another tag", immutable=str(pattern)
                )


def add(db: Connection, pattern: ImmutableTags) -> int:
    """Protect tags from now on; return the row's id."""
    row = db.execute(
        "INSERT INTO immutable_rule (repository, tag_pattern) VALUES (?, ?) RETURNING id",
        (pattern.repository.text, pattern.tags.text),
    ).fetchone()
    return int(row[0])


def remove(db: Connection, row: int) -> bool:
    """Stop protecting; say whether there was such a row."""
    return db.execute("DELETE FROM immutable_rule WHERE id = ?", (row,)).rowcount == 1


def listing(db: Connection) -> list[StoredImmutable]:
    """List all rows. Raises GlobInvalid for one that `add` did not write: what it protects is unknown."""
    rows = db.execute("SELECT id, repository, tag_pattern FROM immutable_rule ORDER BY id")
    return [StoredImmutable(id_, ImmutableTags.parse(repository, tags)) for id_, repository, tags in rows]
