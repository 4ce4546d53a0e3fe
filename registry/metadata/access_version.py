"""Counts changes of users, robots, tokens, groups and rules, so that no worker trusts an old answer."""

from storage.database import Connection


def change(db: Connection) -> None:
    """Say, in the transaction that changes who may do what, that it changed."""
    db.execute("UPDATE access_version SET number = number + 1 WHERE name = 'access'")


def number(db: Connection) -> int:
    """Return how many changes there were. One indexed read."""
    (count,) = db.execute("SELECT number FROM access_version WHERE name = 'access'").fetchone()
    return int(count)
