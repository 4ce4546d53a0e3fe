"""Refresh tokens: what a login leaves at a client in place of the password. Only hashes are kept (TOK-03)."""

from dataclasses import dataclass

from storage.database import Connection

_COLUMNS = "id, principal, handle, service, client_id, created_at, expires_at, last_used_at"
_LIVE = "revoked_at IS NULL AND expires_at > ?"


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A token that is good, without what would let anyone use it. Times are the database's seconds."""

    id: str
    principal: str
    handle: str
    service: str
    client_id: str
    created_at: float
    expires_at: float
    last_used_at: float | None


@dataclass(frozen=True, slots=True)
class NewRefreshToken:
    """A token to keep: its hash, for whom, and at which service alone it is good."""

    hash: bytes
    id: str
    principal: str
    handle: str
    service: str
    client_id: str


def add(db: Connection, token: NewRefreshToken, seconds: float) -> None:
    """Keep a token that ends when it was not used for `seconds`."""
    now = db.now()
    db.execute(
        "INSERT INTO refresh_token"
        " (hash, id, principal, handle, service, client_id, created_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (token.hash, token.id, token.principal, token.handle, token.service, token.client_id, now,
         now + seconds),
    )  # fmt: skip


def find(db: Connection, hash_: bytes, service: str) -> RefreshToken | None:
    """Return the live token of this hash, if it is for this service. One indexed query."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM refresh_token WHERE hash = ? AND service = ? AND {_LIVE}",
        (hash_, service, db.now()),
    ).fetchone()
    return RefreshToken(*row) if row else None


def touch(db: Connection, token_id: str, seconds: float) -> None:
    """Note a use; the token lives `seconds` more."""
    now = db.now()
    db.execute(
        f"UPDATE refresh_token SET last_used_at = ?, expires_at = ? WHERE id = ? AND {_LIVE}",
        (now, now + seconds, token_id, now),
    )


def listing(db: Connection, principal: str | None = None) -> list[RefreshToken]:
    """List live tokens, of one principal or of all, newest first."""
    whose, values = ("", ()) if principal is None else (" AND principal = ?", (principal,))
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM refresh_token WHERE {_LIVE}{whose} ORDER BY created_at DESC, id",
        (db.now(), *values),
    )
    return [RefreshToken(*row) for row in rows]


def page(db: Connection, principal: str | None, last: str, limit: int) -> list[RefreshToken]:
    """List up to `limit` live tokens behind the id `last`, of one principal or of all, by id."""
    whose, values = ("", ()) if principal is None else (" AND principal = ?", (principal,))
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM refresh_token WHERE id > ? AND {_LIVE}{whose} ORDER BY id LIMIT ?",
        (last, db.now(), *values, limit),
    )
    return [RefreshToken(*row) for row in rows]


def revoke(db: Connection, token_id: str) -> RefreshToken | None:
    """End a token at once; return what it was, None when there is none."""
    row = db.execute(
        f"UPDATE refresh_token SET revoked_at = ? WHERE id = ? AND {_LIVE} RETURNING {_COLUMNS}",
        (db.now(), token_id, db.now()),
    ).fetchone()
    return RefreshToken(*row) if row else None


def revoke_all(db: Connection, principal: str) -> int:
    """End every token of a principal; return how many there were."""
    ended = db.execute(
        f"UPDATE refresh_token SET revoked_at = ? WHERE principal = ? AND {_LIVE}",
        (db.now(), principal, db.now()),
    )
    return ended.rowcount


def remove_ended(db: Connection, seconds: float) -> None:
    """Forget tokens that ended more than `seconds` ago."""
    before = db.now() - seconds
    db.execute("DELETE FROM refresh_token WHERE expires_at < ? OR revoked_at < ?", (before, before))
