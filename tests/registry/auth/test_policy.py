"""Rules of the configuration and of the database as one policy."""

import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry.app import MIGRATIONS
from registry.auth.access import ANONYMOUS, Action, Kind, Principal, permits
from registry.auth.globs import RepositoryGlob
from registry.auth.policy import RulePolicy, RuleSet, parse_action, principal_of
from registry.auth.rules import Rule, RuleInvalid
from registry.cli import main
from registry.metadata import groups, rules
from registry.settings import Settings
from storage.database import Database, connect
from storage.oci.names import RepositoryName

ROOT = Path(__file__).parent.parent.parent.parent
ALICE = Principal("alice", Kind.USER, frozenset({"team"}))
APP = RepositoryName("team/app")
ANN_MADE_IT = "ann"


class Clock:
    """A monotonic clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class House:
    """A database, and the policies of workers that share it."""

    path: Path
    database: Database
    clock: Clock

    def worker(self, settings: Settings | None = None) -> RulePolicy:
        return RulePolicy(settings or Settings(auth="local"), self.database, self.clock)

    def add(self, who: str, repository: str, *allow: str) -> int:
        rule = Rule.parse(who, repository, allow, "")
        return self.database.transaction(lambda db: rules.add(db, rule, ANN_MADE_IT))

    def remove(self, rule: int) -> bool:
        return self.database.transaction(lambda db: rules.remove(db, rule))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    database = connect(f"sqlite:{tmp_path / 'cargohold.db'}", MIGRATIONS)
    yield House(tmp_path, database, Clock())
    database.close()


def test_nobody_may_do_what_no_rule_allows(house: House) -> None:
    policy = house.worker()

    assert policy.actions(ANONYMOUS, APP) == policy.actions(ALICE, APP) == frozenset()
    assert policy.explain(ALICE, Action.PULL, APP).text == (
        "no rule allows pull on team/app to alice; allowed there: nothing"
    )


def test_rules_of_file_and_database_count_together(house: House) -> None:
    entry = {"who": "group:team", "repository": "team/*", "allow": ["pull"]}
    settings = Settings.model_validate({"auth": "local", "policy": [entry]})
    house.add("user:alice", "team/app", "tag-create")
    policy = house.worker(settings)

    assert policy.actions(ALICE, APP) == {Action.PULL, Action.TAG_CREATE}
    assert policy.actions(ALICE, RepositoryName("team/other")) == {Action.PULL}
    assert policy.actions(Principal("bob"), APP) == frozenset()


def test_anonymous_pull_is_one_line(house: House) -> None:
    policy = house.worker(Settings(auth="local", anonymous_pull=True))

    assert policy.actions(ANONYMOUS, APP) == policy.actions(ALICE, APP) == {Action.PULL}
    assert policy.explain(ANONYMOUS, Action.PULL, APP).text == (
        "anonymous_pull of the configuration allows it: anonymous may pull on **"
    )


def test_explains_by_the_deciding_rule_and_its_place(house: House) -> None:
    entry = {"who": "group:team", "repository": "team/*", "allow": ["pull"]}
    row = house.add("user:alice", "team/app", "push")
    policy = house.worker(Settings.model_validate({"auth": "local", "policy": [entry]}))

    pull, push = (policy.explain(ALICE, action, APP) for action in (Action.PULL, Action.PUSH))

    assert (pull.allowed, pull.text) == (
        True,
        "policy.1 of the configuration allows it: group:team may pull on team/*",
    )
    assert (push.allowed, push.text) == (
        True,
        f"policy rule {row} allows it: user:alice may push on team/app",
    )
    assert policy.explain(ALICE, Action.TAG_OVERWRITE, APP).allowed, "push moves any tag"
    delete = policy.explain(ALICE, Action.DELETE, APP)
    assert (delete.allowed, delete.text) == (
        False,
        "no rule allows delete on team/app to alice; allowed there: pull, push",
    )


def test_explains_that_a_push_needs_a_pull(house: House) -> None:
    row = house.add("user:alice", "team/app", "push")

    explained = house.worker().explain(ALICE, Action.PUSH, APP)

    assert not explained.allowed
    assert explained.text == (
        f"policy rule {row} allows push, which needs pull, and no rule allows alice that"
    )


def test_every_worker_follows_the_database_within_seconds(house: House) -> None:
    here, there = house.worker(), house.worker()
    row = house.add("user:alice", "team/app", "pull")
    assert here.actions(ALICE, APP) == frozenset()

    house.clock.seconds += 1
    assert here.actions(ALICE, APP) == there.actions(ALICE, APP) == {Action.PULL}

    assert house.remove(row)
    house.clock.seconds += 1
    assert here.actions(ALICE, APP) == there.actions(ALICE, APP) == frozenset()


def test_another_process_is_noticed_too(house: House) -> None:
    policy = house.worker()
    other = connect(f"sqlite:{house.path / 'cargohold.db'}", MIGRATIONS)
    rule = Rule.parse("user:alice", "**", ["pull"], "")
    other.transaction(lambda db: rules.add(db, rule, ANN_MADE_IT))
    other.close()

    policy.refresh()

    assert policy.actions(ALICE, APP) == {Action.PULL}


def test_rules_of_the_file_follow_a_hang_up(house: House) -> None:
    settings = Settings(auth="local")
    policy = house.worker(settings)
    entry = {"who": "user:alice", "repository": "**", "allow": ["pull"]}
    newer = Settings.model_validate({"auth": "local", "policy": [entry]})

    taken, left = settings.adopt(newer)
    house.clock.seconds += 1

    assert (taken, left) == (["policy"], [])
    assert policy.actions(ALICE, APP) == {Action.PULL}


def test_a_row_that_cannot_be_read_allows_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.add("user:alice", "team/app", "pull")
    house.database.transaction(
        lambda db: db.execute(
            "INSERT INTO policy_rule (who, repository, actions, created_by, created_at)"
            " VALUES ('sometimes:alice', '**', 'push', '', 0)"
        )
    )

    policy = house.worker()

    assert policy.actions(ALICE, APP) == {Action.PULL}
    assert [record.message for record in caplog.records] == ["rule skipped"]


def test_what_it_remembers_is_bounded() -> None:
    ruleset = RuleSet([Rule.parse("anonymous", "**", ["pull"], "")])

    for number in range(20_000):
        assert ruleset.actions(ANONYMOUS, RepositoryName(f"a/{number}")) == {Action.PULL}

    info = ruleset.actions.cache_info()
    assert info.maxsize is not None
    assert info.currsize == info.maxsize < 20_000


def test_two_jobs_of_one_name_are_told_apart_by_their_claims(house: House) -> None:
    house.add("oidc:github repository_id=1", "team/app", "pull")
    policy = house.worker()
    name = "oidc:github:repo:o/r:ref:refs/heads/main"

    ours = Principal(name, Kind.OIDC, claims={"repository_id": "1"})
    theirs = Principal(name, Kind.OIDC, claims={"repository_id": "2"})

    for _ in range(2):
        assert policy.actions(ours, APP) == {Action.PULL}
        assert policy.actions(theirs, APP) == frozenset()


def test_groups_taken_away_are_not_remembered(house: House) -> None:
    house.add("group:team", "team/app", "pull")
    policy = house.worker()

    assert policy.actions(ALICE, APP) == {Action.PULL}
    assert policy.actions(Principal("alice"), APP) == frozenset()


def test_answers_from_many_threads(house: House) -> None:
    house.add("user:alice", "team/*", "pull")
    policy = house.worker()
    wrong: list[int] = []

    def ask() -> None:
        for number in range(300):
            policy.refresh()
            if policy.actions(ALICE, RepositoryName(f"team/{number}")) != {Action.PULL}:
                wrong.append(number)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


@pytest.mark.parametrize(
    ("text", "principal"),
    [
        pytest.param("alice", ALICE, id="user-with-groups"),
        pytest.param("user:alice", ALICE, id="user-said-so"),
        pytest.param("anonymous", ANONYMOUS, id="anonymous"),
        pytest.param("robot:ci", Principal("robot:ci", Kind.ROBOT), id="robot"),
        pytest.param("cert:device", Principal("cert:device", Kind.CERTIFICATE), id="certificate"),
        pytest.param("external:urn:x", Principal("urn:x", Kind.EXTERNAL), id="external"),
        pytest.param(
            "oidc:github repository_id=1",
            Principal("oidc:github:", Kind.OIDC, claims={"repository_id": "1"}),
            id="job",
        ),
    ],
)
def test_reads_whom_a_command_line_means(house: House, text: str, principal: Principal) -> None:
    house.database.transaction(lambda db: groups.create(db, "team"))
    house.database.transaction(
        lambda db: db.execute("INSERT INTO user_account VALUES ('alice', '', 0, 0, 0, 0, NULL)")
    )
    house.database.transaction(lambda db: groups.add(db, "team", "alice"))

    assert house.database.read(lambda db: principal_of(db, text)) == principal


@pytest.mark.parametrize("text", ["authenticated", "group:team", "a b", "sometimes:alice"])
def test_refuses_who_cannot_ask(house: House, text: str) -> None:
    with pytest.raises(RuleInvalid):
        house.database.read(lambda db: principal_of(db, text))


def test_refuses_an_action_by_naming_all() -> None:
    assert parse_action("tag-create") is Action.TAG_CREATE
    with pytest.raises(RuleInvalid, match="pull, push, delete, tag-create, tag-overwrite, admin"):
        parse_action("write")


def test_a_stored_rule_reads_as_it_was_written(house: House) -> None:
    row = house.add("oidc:github repository_id=1", "team/**", "push", "pull")
    admin = house.add("user:root", "**", "admin", "pull")

    first, second = house.database.read(rules.listing)

    assert (first.id, first.who, first.repository, first.actions, first.created_by) == (
        row,
        "oidc:github repository_id=1",
        "team/**",
        ("pull", "push"),
        ANN_MADE_IT,
    )
    assert (second.id, second.actions) == (admin, ("admin",))
    assert house.database.read(lambda db: rules.listing(db, after=row)) == [second]
    assert not house.remove(row + 100)


def test_the_rules_of_the_documentation_mean_what_it_says(house: House) -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    example = text[text.index("# rules.toml") :]
    settings = Settings.model_validate(tomllib.loads(example[: example.index("```")]))
    policy = house.worker(settings)
    robot = Principal("robot:ci", Kind.ROBOT)

    def may(principal: Principal, action: Action, name: str) -> bool:
        return permits(policy.actions(principal, RepositoryName(name)), action)

    assert may(ANONYMOUS, Action.PULL, "any/thing")
    assert not may(ANONYMOUS, Action.PUSH, "any/thing")
    assert may(ALICE, Action.PUSH, "any/thing")
    assert may(ALICE, Action.DELETE, "alice/thing")
    assert not may(ALICE, Action.DELETE, "bob/thing")
    assert may(robot, Action.TAG_CREATE, "team/app")
    assert not may(robot, Action.TAG_OVERWRITE, "team/app")
    assert not may(robot, Action.PUSH, "team/app/below")
    assert [str(pattern) for pattern in settings.limits.immutable] == ["team/**:v*"]
    assert [quota.repository for quota in settings.limits.quotas] == [RepositoryGlob.parse("**")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            'policy = [{ who = "alice", repository = "**", allow = ["pull"] }]',
            "policy.1: not a who: 'alice'",
            id="who",
        ),
        pytest.param(
            'policy = [{ who = "anonymous", repository = "a", allow = ["pull"] },'
            ' { who = "anonymous", repository = "Library/**", allow = ["pull"] }]',
            "policy.2: no repository matches 'Library/**'",
            id="repository",
        ),
        pytest.param(
            'policy = [{ who = "anonymous", repository = "a", allow = ["read"] }]',
            "policy.1: not an action: 'read'",
            id="action",
        ),
        pytest.param(
            'policy = [{ who = "anonymous", repo = "a", allow = ["pull"] }]', "policy.1.repo", id="key"
        ),
        pytest.param(
            'immutable = [{ repository = "a", tags = "v[0-9]" }]',
            "immutable.1: not a pattern of tags",
            id="tags",
        ),
        pytest.param(
            'immutable = [{ repository = "{user}/a", tags = "v*" }]', "immutable.1: {user} has no", id="user"
        ),
        pytest.param('quota = [{ repository = "a", bytes = -1 }]', "quota.1.bytes", id="bytes"),
    ],
)
def test_a_bad_rule_is_one_clear_line_at_the_start(tmp_path: Path, line: str, message: str) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text(line + "\n")

    result = CliRunner().invoke(main, ["serve", "--config", str(config)])

    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1
