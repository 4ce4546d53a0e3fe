"""What an administrator does with rules, quotas and keys, as units of work over a Connection.

Accounts and their secrets are registry/auth/accounts.py.
"""

from collections.abc import Sequence

from registry.auth import keys
from registry.auth.access import Explanation, Policy, Principal
from registry.auth.globs import GlobInvalid, RepositoryGlob
from registry.auth.keys import Algorithm
from registry.auth.policy import parse_action, principal_of
from registry.auth.rules import Rule, RuleInvalid
from registry.metadata import access_version, groups, immutable, quotas, refresh_tokens, robots, rules, users
from registry.metadata.immutable import ImmutableTags
from registry.metadata.quotas import Quota
from registry.metadata.refresh_tokens import RefreshToken
from storage.database import Connection
from storage.oci.errors import NameUnknown, RequestInvalid
from storage.oci.names import RepositoryName

# Beside a token's life: the clocks of other registries, and workers that sign with the old key a moment more.
_SLACK_SECONDS = 120


class EntryUnknown(NameUnknown):
    """No rule, quota, key or refresh token that is called so."""


class EntryInvalid(RequestInvalid):
    """A rule or pattern outside its grammar; the message says what is wrong with it."""


def add_rule(db: Connection, who: str, repository: str, actions: Sequence[str], created_by: str) -> int:
    """Write a rule; return its id. Raises EntryInvalid."""
    try:
        rule = Rule.parse(who, repository, actions, "")
    except RuleInvalid as error:
        raise EntryInvalid(str(error)) from error
    if len(rules.listing(db)) >= rules.MOST:
        raise EntryInvalid(f"there are {rules.MOST} rules, more are not kept")
    return rules.add(db, rule, created_by)


def remove_rule(db: Connection, number: int) -> None:
    """Raises EntryUnknown."""
    if not rules.remove(db, number):
        raise EntryUnknown(f"there is no rule {number}")


def read_principal(db: Connection, text: str) -> Principal:
    """Return whom a text means, with the groups that they are in now. Raises EntryInvalid."""
    try:
        return principal_of(db, text)
    except RuleInvalid as error:
        raise EntryInvalid(str(error)) from error


def explain(policy: Policy, principal: Principal, action: str, name: RepositoryName) -> Explanation:
    """Say what the rules say, and which one. Raises EntryInvalid."""
    try:
        return policy.explain(principal, parse_action(action), name)
    except RuleInvalid as error:
        raise EntryInvalid(str(error)) from error


def add_immutable(db: Connection, repository: str, tags: str) -> int:
    """Protect tags from now on; return the row's id. Raises EntryInvalid."""
    try:
        return immutable.add(db, ImmutableTags.parse(repository, tags))
    except GlobInvalid as error:
        raise EntryInvalid(str(error)) from error


def remove_immutable(db: Connection, number: int) -> None:
    """Raises EntryUnknown."""
    if not immutable.remove(db, number):
        raise EntryUnknown(f"there is no rule {number} of immutable tags")


def put_quota(db: Connection, repository: str, bytes_: int | None, tags: int | None) -> None:
    """Set the quota of a pattern. Raises EntryInvalid."""
    if bytes_ is None and tags is None:
        raise EntryInvalid("a quota limits bytes or tags, or both")
    try:
        quotas.put(db, Quota.parse(repository, bytes_, tags))
    except GlobInvalid as error:
        raise EntryInvalid(str(error)) from error


def remove_quota(db: Connection, repository: str) -> None:
    """Raises EntryInvalid, EntryUnknown."""
    try:
        glob = RepositoryGlob.parse(repository)
    except GlobInvalid as error:
        raise EntryInvalid(str(error)) from error
    if not quotas.remove(db, glob):
        raise EntryUnknown(f"there is no quota of {repository}")


def rotate_key(db: Connection, algorithm: Algorithm, token_seconds: float) -> str:
    """Sign with a new key from now on; return its name. What the others signed is good to its end."""
    return keys.rotate(db, algorithm, token_seconds + _SLACK_SECONDS)


def retire_key(db: Connection, kid: str) -> None:
    """End a key at once; what it signed is refused. Raises EntryUnknown."""
    if not keys.retire(db, kid):
        raise EntryUnknown(f"there is no key {kid[:200]!r}")


def revoke_login(db: Connection, token_id: str, principal: str | None = None) -> RefreshToken:
    """End a refresh token at once; return what it was.

    `principal` is who may end it, None an administrator: somebody else's is unknown (AUTH-19). Raises
    EntryUnknown.
    """
    token = refresh_tokens.revoke(db, token_id)
    if token is None or principal not in (None, token.principal):
        # What a unit of work did before it raises is undone.
        raise EntryUnknown(f"there is no refresh token {token_id[:100]!r}")
    access_version.change(db)
    return token


def user(db: Connection, name: str) -> users.Account:
    """Return a user. Raises EntryUnknown."""
    account = users.find(db, name)
    if account is None:
        raise EntryUnknown(f"there is no user {name[:200]!r}")
    return account


def robot(db: Connection, name: str) -> robots.Robot:
    """Return a robot. Raises EntryUnknown."""
    found = robots.find(db, name)
    if found is None:
        raise EntryUnknown(f"there is no robot {name[:200]!r}")
    return found


def members(db: Connection, name: str) -> list[str]:
    """Return who is in a group. Raises EntryUnknown."""
    if not groups.exists(db, name):
        raise EntryUnknown(f"there is no group {name[:200]!r}")
    return groups.members(db, name)
