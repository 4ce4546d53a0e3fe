"""Users: who can log in with a password, and who of them administers the registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.metadata import access_version, api_tokens, refresh_tokens
from storage.database import Connection

_COLUMNS = "name, password_hash, is_admin, is_disabled, created_at, password_changed_at, last_login_at"
# How fresh the time of the last login is kept.
_SEEN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Account:
    """One user. Times are the database's seconds."""

    name: str
    password_hash: str
    is_admin: bool
    is_disabled: bool
    created_at: float
    password_changed_at: float
    last_login_at: float | None


def create(db: Connection, name: str, password_hash: str, *, is_admin: bool = False) -> bool:
    """Make a user; False when the name is taken, in whatever case.

    Tokens of a user of the htpasswd file who had the name do not speak for the new one.
    """
    now = db.now()
    made = db.execute(
        "INSERT INTO user_account"
        " (name, password_hash, is_admin, is_disabled, created_at, password_changed_at)"
        " SELECT ?, ?, ?, 0, ?, ? WHERE NOT EXISTS"
        " (SELECT 1 FROM user_account WHERE lower(name) = lower(?))",
        (name, password_hash, int(is_admin), now, now, name),
    )
    if made.rowcount == 1:
        api_tokens.remove_all(db, "user", name)
        refresh_tokens.revoke_all(db, name)
    access_version.change(db)
    return made.rowcount == 1


def find(db: Connection, name: str) -> Account | None:
    """Return a user by exact name. One indexed query."""
    row = db.execute(f"SELECT {_COLUMNS} FROM user_account WHERE name = ?", (name,)).fetchone()
    return _account(row) if row else None


def listing(db: Connection, last: str = "", limit: int = 1000) -> list[Account]:
    """List up to `limit` users behind `last`, by name."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM user_account WHERE name > ? ORDER BY name LIMIT ?", (last, limit)
    )
    return [_account(row) for row in rows]


def set_password(db: Connection, name: str, password_hash: str) -> bool:
    """Give a user a new password, which ends the refresh tokens that the old one got."""
    changed = db.execute(
        "UPDATE user_account SET password_hash = ?, password_changed_at = ? WHERE name = ?",
        (password_hash, db.now(), name),
    )
    refresh_tokens.revoke_all(db, name)
    access_version.change(db)
    return changed.rowcount == 1


def improve_hash(db: Connection, name: str, stored: str, better: str) -> bool:
    """Keep the same password by a better hash, unless it was changed meanwhile."""
    changed = db.execute(
        "UPDATE user_account SET password_hash = ? WHERE name = ? AND password_hash = ?",
        (better, name, stored),
    )
    return changed.rowcount == 1


def set_disabled(db: Connection, name: str, is_disabled: bool) -> bool:
    """Shut a user out, or let them in again; say whether there is such a user."""
    changed = db.execute("UPDATE user_account SET is_disabled = ? WHERE name = ?", (int(is_disabled), name))
    access_version.change(db)
    return changed.rowcount == 1


def set_admin(db: Connection, name: str, is_admin: bool) -> bool:
    """Make a user an administrator, or an ordinary one; say whether there is such a user."""
    changed = db.execute("UPDATE user_account SET is_admin = ? WHERE name = ?", (int(is_admin), name))
    access_version.change(db)
    return changed.rowcount == 1


def delete(db: Connection, name: str) -> bool:
    """Forget a user and all that could speak for them; say whether there was one.

    Whoever is called the same later begins with nothing of it.
    """
    db.execute("DELETE FROM group_member WHERE user_name = ?", (name,))
    api_tokens.remove_all(db, "user", name)
    refresh_tokens.revoke_all(db, name)
    gone = db.execute("DELETE FROM user_account WHERE name = ?", (name,))
    access_version.change(db)
    return gone.rowcount == 1


def has_other_admin(db: Connection, name: str) -> bool:
    """Say whether an administrator besides this user could log in: the last one must not go.

    Asked in the transaction that takes one away.
    """
    row = db.execute(
        "SELECT name FROM user_account WHERE is_admin = 1 AND is_disabled = 0 AND name <> ?"
        + db.dialect.for_update,
        (name,),
    ).fetchone()
    return row is not None


def has_admin(db: Connection) -> bool:
    """Say whether there is an administrator, disabled or not."""
    return db.execute("SELECT 1 FROM user_account WHERE is_admin = 1").fetchone() is not None


def some_bcrypt_hash(db: Connection) -> str | None:
    """Return one of the hashes that came from an htpasswd file and were not replaced yet."""
    row = db.execute(
        "SELECT password_hash FROM user_account WHERE password_hash LIKE '$2%' LIMIT 1"
    ).fetchone()
    return row[0] if row else None


def note_login(db: Connection, name: str) -> None:
    """Keep the time of the last login, to the minute."""
    now = db.now()
    db.execute(
        "UPDATE user_account SET last_login_at = ? WHERE name = ?"
        " AND (last_login_at IS NULL OR last_login_at < ?)",
        (now, name, now - _SEEN_SECONDS),
    )


def is_login_noted(account: Account, now: float) -> bool:
    """Say whether the last login is known well enough, so that nothing is written."""
    return account.last_login_at is not None and account.last_login_at >= now - _SEEN_SECONDS


def _account(row: Sequence[Any]) -> Account:
    name, password_hash, is_admin, is_disabled, *times = row
    return Account(name, password_hash, bool(is_admin), bool(is_disabled), *times)
