"""Groups: users under one name, for rules. A member may also be a user of the htpasswd file."""

from registry.metadata import access_version
from storage.database import Connection


def create(db: Connection, name: str) -> bool:
    """Make an empty group; False when there is one of that name, in whatever case."""
    made = db.execute(
        "INSERT INTO user_group (name) SELECT ? WHERE NOT EXISTS"
        " (SELECT 1 FROM user_group WHERE lower(name) = lower(?))",
        (name, name),
    )
    return made.rowcount == 1


def delete(db: Connection, name: str) -> bool:
    """Forget a group; its members lose what it gave them at once. Say whether there was one."""
    db.execute("DELETE FROM group_member WHERE group_name = ?", (name,))
    gone = db.execute("DELETE FROM user_group WHERE name = ?", (name,))
    access_version.change(db)
    return gone.rowcount == 1


def exists(db: Connection, name: str) -> bool:
    return db.execute("SELECT 1 FROM user_group WHERE name = ?", (name,)).fetchone() is not None


def listing(db: Connection, last: str = "", limit: int = 1000) -> list[str]:
    """List up to `limit` groups behind `last`, by name."""
    rows = db.execute("SELECT name FROM user_group WHERE name > ? ORDER BY name LIMIT ?", (last, limit))
    return [name for (name,) in rows]


def add(db: Connection, name: str, user: str) -> bool:
    """Put a user into a group; False when there is no such group."""
    if not exists(db, name):
        return False
    db.execute(
        "INSERT INTO group_member (group_name, user_name) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, user)
    )
    access_version.change(db)
    return True


def remove(db: Connection, name: str, user: str) -> bool:
    """Take a user out of a group; say whether they were in it."""
    gone = db.execute("DELETE FROM group_member WHERE group_name = ? AND user_name = ?", (name, user))
    access_version.change(db)
    return gone.rowcount == 1


def members(db: Connection, name: str) -> list[str]:
    rows = db.execute("SELECT user_name FROM group_member WHERE group_name = ? ORDER BY user_name", (name,))
    return [user for (user,) in rows]


def of_user(db: Connection, user: str) -> frozenset[str]:
    """Return the groups that a user is in now. One indexed query."""
    rows = db.execute("SELECT group_name FROM group_member WHERE user_name = ?", (user,))
    return frozenset(name for (name,) in rows)
