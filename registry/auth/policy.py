"""The policy: rules of the configuration and of the database as one. What no rule allows is denied."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

from registry.auth.access import ANONYMOUS, Action, Explanation, Kind, Principal, permits
from registry.auth.rules import EVERYBODY, Rule, RuleInvalid, Who
from registry.metadata import access_version, groups, rules
from registry.metadata.rules import StoredRule
from registry.settings import Settings
from storage.database import Busy, Connection, Database
from storage.oci.names import RepositoryName

log = logging.getLogger(__name__)

# How long a worker may not know of a rule that another one changed.
_LOOK_SECONDS = 1.0
_PRINCIPALS = 1024
_DECISIONS = 16_384
# Who pushes asks what is there already, so a push is no use without a pull (AUTH-14).
_WITH_PULL = frozenset({Action.PUSH, Action.TAG_CREATE, Action.TAG_OVERWRITE})


class RuleSet:
    """Rules that do not change; what they say is remembered, in bounded memory."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._of = lru_cache(_PRINCIPALS)(self._find)
        self.actions = lru_cache(_DECISIONS)(self._actions)

    def deciding(self, principal: Principal, action: Action, name: RepositoryName) -> Rule | None:
        """Return the first rule that allows an action."""
        allowing = (rule for rule in self._of(principal) if permits(rule.actions, action))
        return next((rule for rule in allowing if rule.covers(principal, name)), None)

    def _find(self, principal: Principal) -> tuple[Rule, ...]:
        return tuple(rule for rule in self._rules if rule.who.means(principal))

    def _actions(self, principal: Principal, name: RepositoryName) -> frozenset[Action]:
        covering = (rule.actions for rule in self._of(principal) if rule.covers(principal, name))
        return frozenset().union(*covering)


class RulePolicy:
    """Follows the configuration and the database, whichever worker changed them."""

    def __init__(
        self, settings: Settings, database: Database, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read all rules. Raises Unavailable."""
        self._settings = settings
        self._database = database
        self._monotonic = monotonic
        self._number, self._stored = database.read(_load)
        self._adopt()
        self._looked = monotonic()

    def actions(self, principal: Principal, name: RepositoryName) -> frozenset[Action]:
        """Return what the rules grant; to be asked with `permits`."""
        return self._current().actions(principal, name)

    def deciding(self, principal: Principal, action: Action, name: RepositoryName) -> Rule | None:
        """Return the first rule that allows an action; None when it is denied."""
        return self._current().deciding(principal, action, name)

    def explain(self, principal: Principal, action: Action, name: RepositoryName) -> Explanation:
        """Say whether a request would be allowed, by which rule, and where that stands."""
        who = principal.name or "anonymous"
        rule = self.deciding(principal, action, name)
        if rule is None:
            granted = _words(self.actions(principal, name))
            return Explanation(
                False, f"no rule allows {action.value} on {name} to {who}; allowed there: {granted}"
            )
        if action in _WITH_PULL and self.deciding(principal, Action.PULL, name) is None:
            return Explanation(
                False, f"{rule.origin} allows {action.value}, which needs pull, and no rule allows {who} that"
            )
        return Explanation(True, f"{rule.origin} allows it: {rule}")

    def refresh(self) -> None:
        """Look at once whether rules changed. While the database is busy the old ones count."""
        self._looked = self._monotonic()
        try:
            if self._database.read_inline(access_version.number) != self._number:
                self._number, self._stored = self._database.read_inline(_load)
                self._adopt()
        except Busy:
            return
        if self._configured is not self._settings.policy or self._anonymous != self._settings.anonymous_pull:
            self._adopt()

    def _current(self) -> RuleSet:
        if self._monotonic() >= self._looked + _LOOK_SECONDS:
            self.refresh()
        return self._rules

    def _adopt(self) -> None:
        # Replaced as a whole: what was remembered of other rules goes with them.
        self._configured, self._anonymous = self._settings.policy, self._settings.anonymous_pull
        self._rules = RuleSet([*configured(self._settings), *_readable(self._stored)])


def configured(settings: Settings) -> list[Rule]:
    """Return the rules of the configuration, which was checked when it was read."""
    rules = [
        entry.rule(f"policy.{number} of the configuration")
        for number, entry in enumerate(settings.policy, start=1)
    ]
    if settings.anonymous_pull:
        rules.insert(0, Rule.parse("anonymous", "**", ["pull"], "anonymous_pull of the configuration"))
    return rules


def principal_of(db: Connection, text: str) -> Principal:
    """Return whom the words of a command line mean, with the groups they are in now.

    `alice`, `robot:ci`, `anonymous`, `external:…`, `oidc:github repository_id=1`. Raises RuleInvalid.
    """
    who = Who.parse(text if ":" in text or text in EVERYBODY else f"user:{text}")
    match who.kind:
        case Kind.ANONYMOUS:
            return ANONYMOUS
        case Kind.USER:
            return Principal(who.name, Kind.USER, groups.of_user(db, who.name))
        case Kind.EXTERNAL:
            return Principal(who.name, Kind.EXTERNAL)
        case Kind.OIDC:
            return replace(Principal.named(f"oidc:{who.name}:"), claims=who.claims)
        case Kind.ROBOT | Kind.CERTIFICATE:
            return Principal.named(who.text)
    raise RuleInvalid(f"{text!r} is not one of those who could ask")


def parse_action(text: str) -> Action:
    """Read an action's word. Raises RuleInvalid."""
    try:
        return Action(text)
    except ValueError:
        raise RuleInvalid(f"not an action: {text[:40]!r}; it is one of {_words(Action)}") from None


def _load(db: Connection) -> tuple[int, list[StoredRule]]:
    # The count first: rules that change in between are then read once more.
    return access_version.number(db), rules.listing(db)


def _readable(stored: Iterable[StoredRule]) -> Iterable[Rule]:
    for row in stored:
        try:
            yield row.parse()
        except RuleInvalid as error:
            # Rules only allow, so without it nobody may more.
            log.warning("rule skipped", extra={"rule": row.id, "reason": str(error)})


def _words(actions: Iterable[Action]) -> str:
    granted = set(actions)
    return ", ".join(action.value for action in Action if action in granted) or "nothing"
