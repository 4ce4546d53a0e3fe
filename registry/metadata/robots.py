"""Robots: accounts of machines. They have secrets (api_tokens) and no password."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.metadata import access_version, api_tokens, refresh_tokens
from storage.database import Connection

_COLUMNS = "name, description, created_by, created_at, is_disabled"


@dataclass(frozen=True, slots=True)
class Robot:
    """One robot; `name` is without the `robot:` of its principal."""

    name: str
    description: str
    created_by: str
    created_at: float
    is_disabled: bool

    @property
    def principal(self) -> str:
        return principal_of(self.name)


def principal_of(name: str) -> str:
    return f"robot:{name}"


def create(db: Connection, name: str, description: str, created_by: str) -> bool:
    """Make a robot without a secret; False when the name is taken, in whatever case."""
    made = db.execute(
        f"INSERT INTO robot ({_COLUMNS}) SELECT ?, ?, ?, ?, 0 WHERE NOT EXISTS"
        " (SELECT 1 FROM robot WHERE lower(name) = lower(?))",
        (name, description, created_by, db.now(), name),
    )
    return made.rowcount == 1


def find(db: Connection, name: str) -> Robot | None:
    """Return a robot by exact name. One indexed query."""
    row = db.execute(f"SELECT {_COLUMNS} FROM robot WHERE name = ?", (name,)).fetchone()
    return _robot(row) if row else None


def listing(db: Connection, last: str = "", limit: int = 1000) -> list[Robot]:
    """List up to `limit` robots behind `last`, by name."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM robot WHERE name > ? ORDER BY name LIMIT ?", (last, limit))
    return [_robot(row) for row in rows]


def describe(db: Connection, name: str, description: str) -> bool:
    changed = db.execute("UPDATE robot SET description = ? WHERE name = ?", (description, name))
    return changed.rowcount == 1


def set_disabled(db: Connection, name: str, is_disabled: bool) -> bool:
    """Stop a robot, or let it work again; say whether there is one."""
    changed = db.execute("UPDATE robot SET is_disabled = ? WHERE name = ?", (int(is_disabled), name))
    access_version.change(db)
    return changed.rowcount == 1


def delete(db: Connection, name: str) -> bool:
    """Forget a robot and its secrets; say whether there was one."""
    api_tokens.remove_all(db, "robot", name)
    refresh_tokens.revoke_all(db, principal_of(name))
    gone = db.execute("DELETE FROM robot WHERE name = ?", (name,))
    access_version.change(db)
    return gone.rowcount == 1


def _robot(row: Sequence[Any]) -> Robot:
    name, description, created_by, created_at, is_disabled = row
    return Robot(name, description, created_by, created_at, bool(is_disabled))
