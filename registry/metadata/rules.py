"""The policy's rules: allow-only, changed with a count that tells every worker."""

from dataclasses import dataclass

from registry.auth.access import Action
from registry.auth.rules import Rule
from registry.metadata import access_version
from storage.database import Connection

# More are no policy that anybody could read; all of them are held in memory.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule as it was written; `actions` are their words."""

    id: int
    who: str
    repository: str
    actions: tuple[str, ...]
    created_by: str
    created_at: float

    def parse(self) -> Rule:
        """Raises RuleInvalid for a row that was not written by `add`, or by a newer cargohold."""
        return Rule.parse(self.who, self.repository, self.actions, f"policy rule {self.id}")


def add(db: Connection, rule: Rule, created_by: str) -> int:
    """Write a rule; return its id. It counts in every worker within a second or two."""
    words = ["admin"] if Action.ADMIN in rule.actions else sorted(action.value for action in rule.actions)
    row = db.execute(
        "INSERT INTO policy_rule (who, repository, actions, created_by, created_at)"
        " VALUES (?, ?, ?, ?, ?) RETURNING id",
        (rule.who.text, rule.repository.text, ",".join(words), created_by, db.now()),
    ).fetchone()
    access_version.change(db)
    return int(row[0])


def remove(db: Connection, rule: int) -> bool:
    """Take a rule away; say whether there was one."""
    gone = db.execute("DELETE FROM policy_rule WHERE id = ?", (rule,))
    access_version.change(db)
    return gone.rowcount == 1


def remove_of(db: Connection, who: str) -> None:
    """Take away the rules of somebody, as user:alice, that another of the name would inherit."""
    db.execute("DELETE FROM policy_rule WHERE who = ?", (who,))
    access_version.change(db)


def listing(db: Connection, after: int = 0, limit: int = MOST) -> list[StoredRule]:
    """List up to `limit` rules behind the id `after`, oldest first."""
    rows = db.execute(
        "SELECT id, who, repository, actions, created_by, created_at FROM policy_rule"
        " WHERE id > ? ORDER BY id LIMIT ?",
        (after, limit),
    )
    return [
        StoredRule(id_, who, repository, tuple(actions.split(",")), created_by, created_at)
        for id_, who, repository, actions, created_by, created_at in rows
    ]
