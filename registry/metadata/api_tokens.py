"""Personal access tokens of users and secrets of robots. Only hashes are kept; the texts are shown once."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from registry.metadata import access_version
from storage.database import Connection

OwnerKind = Literal["user", "robot"]

_COLUMNS = "id, owner_kind, owner_name, description, limits, created_at, expires_at, last_used_at"
_LIVE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)"
# How fresh the time of the last use is kept.
_SEEN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StoredLimit:
    """One line of what a token is good for: a pattern of repositories, and actions by their words."""

    repository: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token that is good, without what would let anyone use it. Times are the database's seconds.

    `limits` None is all that its owner may do; `expires_at` None is never.
    """

    id: str
    owner_kind: OwnerKind
    owner_name: str
    description: str
    limits: tuple[StoredLimit, ...] | None
    created_at: float
    expires_at: float | None
    last_used_at: float | None


@dataclass(frozen=True, slots=True)
class NewApiToken:
    """A token to keep. `seconds` is how long it lives, None is for ever."""

    id: str
    owner_kind: OwnerKind
    owner_name: str
    secret_hash: bytes
    description: str
    limits: tuple[StoredLimit, ...] | None
    seconds: float | None


def add(db: Connection, token: NewApiToken) -> ApiToken:
    """Keep a token; return it as it will be listed."""
    now = db.now()
    expires = None if token.seconds is None else now + token.seconds
    limits = None if token.limits is None else _write(token.limits)
    db.execute(
        "INSERT INTO api_token (id, owner_kind, owner_name, secret_hash, description, limits, created_at,"
        " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (token.id, token.owner_kind, token.owner_name, token.secret_hash, token.description, limits, now,
         expires),
    )  # fmt: skip
    return ApiToken(
        token.id, token.owner_kind, token.owner_name, token.description, token.limits, now, expires, None
    )


def find_by_hash(db: Connection, secret_hash: bytes) -> ApiToken | None:
    """Return the live token of this hash. One indexed query."""
    return _one(db, "secret_hash = ?", secret_hash)


def find(db: Connection, token_id: str) -> ApiToken | None:
    """Return a live token. One indexed query."""
    return _one(db, "id = ?", token_id)


def _one(db: Connection, condition: str, value: str | bytes) -> ApiToken | None:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM api_token WHERE {condition} AND {_LIVE}", (value, db.now())
    ).fetchone()
    return _token(row) if row else None


def listing(
    db: Connection, owner_kind: OwnerKind | None = None, owner_name: str | None = None
) -> list[ApiToken]:
    """List live tokens, of one owner or of all, newest first."""
    whose, values = "", list[str]()
    if owner_kind is not None and owner_name is not None:
        whose, values = " AND owner_kind = ? AND owner_name = ?", [owner_kind, owner_name]
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM api_token WHERE {_LIVE}{whose} ORDER BY created_at DESC, id",
        (db.now(), *values),
    )
    return [_token(row) for row in rows]


def page(db: Connection, owner: tuple[OwnerKind, str] | None, last: str, limit: int) -> list[ApiToken]:
    """List up to `limit` live tokens behind the id `last`, of one owner or of all, by id."""
    whose = "" if owner is None else " AND owner_kind = ? AND owner_name = ?"
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM api_token WHERE id > ? AND {_LIVE}{whose} ORDER BY id LIMIT ?",
        (last, db.now(), *(owner or ()), limit),
    )
    return [_token(row) for row in rows]


def revoke(db: Connection, token_id: str) -> ApiToken | None:
    """End a token at the next call; return what it was, None when there is no live one."""
    token = find(db, token_id)
    if token is not None:
        db.execute("UPDATE api_token SET revoked_at = ? WHERE id = ?", (db.now(), token_id))
        access_version.change(db)
    return token


def remove_all(db: Connection, owner_kind: OwnerKind, owner_name: str) -> int:
    """Forget every token of an owner; return how many rows that were."""
    gone = db.execute(
        "DELETE FROM api_token WHERE owner_kind = ? AND owner_name = ?", (owner_kind, owner_name)
    )
    access_version.change(db)
    return gone.rowcount


def remove_ended(db: Connection, seconds: float) -> None:
    """Forget tokens that ended more than `seconds` ago."""
    before = db.now() - seconds
    db.execute("DELETE FROM api_token WHERE expires_at < ? OR revoked_at < ?", (before, before))


def note_use(db: Connection, token_id: str) -> None:
    """Keep the time of the last use, to the minute."""
    now = db.now()
    db.execute(
        "UPDATE api_token SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)",
        (now, token_id, now - _SEEN_SECONDS),
    )


def is_use_noted(token: ApiToken, now: float) -> bool:
    """Say whether the last use is known well enough, so that nothing is written."""
    return token.last_used_at is not None and token.last_used_at >= now - _SEEN_SECONDS


def _write(limits: Sequence[StoredLimit]) -> str:
    return json.dumps([{"repository": limit.repository, "actions": limit.actions} for limit in limits])


def _read(text: str) -> tuple[StoredLimit, ...]:
    return tuple(StoredLimit(each["repository"], tuple(each["actions"])) for each in json.loads(text))


def _token(row: Sequence[Any]) -> ApiToken:
    token_id, kind, owner, description, limits, *times = row
    read = None if limits is None else _read(limits)
    return ApiToken(token_id, cast("OwnerKind", kind), owner, description, read, *times)
