"""The grammar of rules, and whom and what a rule means."""

import pytest

from registry.auth.access import ANONYMOUS, Action, Kind, Principal
from registry.auth.rules import Rule, RuleInvalid, Who, parse_actions
from storage.oci.names import RepositoryName

ALICE = Principal("alice", Kind.USER, frozenset({"ops", "team"}))
ROBOT = Principal("robot:ci", Kind.ROBOT)
DEVICE = Principal("cert:device", Kind.CERTIFICATE)
OUTSIDER = Principal("urn:somebody", Kind.EXTERNAL)
CLAIMS = {"repository_id": "1", "ref": "refs/heads/main", "environment": "the first"}
JOB = Principal("oidc:github:repo:o/r:ref:refs/heads/main", Kind.OIDC, claims=CLAIMS)
EVERYBODY = {
    "anonymous": ANONYMOUS,
    "alice": ALICE,
    "robot": ROBOT,
    "device": DEVICE,
    "outsider": OUTSIDER,
    "job": JOB,
}


@pytest.mark.parametrize(
    ("who", "meant"),
    [
        pytest.param("anonymous", set(EVERYBODY), id="anonymous-is-everybody"),
        pytest.param("authenticated", {"alice", "robot", "device", "outsider"}, id="no-jobs"),
        pytest.param("user:alice", {"alice"}, id="user"),
        pytest.param("user:Alice", set(), id="case"),
        pytest.param("user:ci", set(), id="a-user-is-no-robot"),
        pytest.param("group:ops", {"alice"}, id="group"),
        pytest.param("group:op", set(), id="another-group"),
        pytest.param("robot:ci", {"robot"}, id="robot"),
        pytest.param("cert:device", {"device"}, id="certificate"),
        pytest.param("external:urn:somebody", {"outsider"}, id="external"),
        pytest.param("external:alice", set(), id="an-external-alice-is-another"),
        pytest.param("oidc:github repository_id=1", {"job"}, id="job"),
        pytest.param("oidc:github repository_id=1 ref=refs/heads/main", {"job"}, id="job-and-branch"),
        pytest.param('oidc:github repository_id=1 environment="the first"', {"job"}, id="quoted"),
        pytest.param("oidc:github repository_id=1 ref=refs/heads/x", set(), id="another-branch"),
        pytest.param("oidc:github repository_id=12", set(), id="another-id"),
        pytest.param("oidc:github repository_id=1 job_workflow_ref=x", set(), id="a-claim-it-lacks"),
        pytest.param("oidc:git repository_id=1", set(), id="another-provider"),
    ],
)
def test_a_rule_means_these_and_nobody_else(who: str, meant: set[str]) -> None:
    parsed = Who.parse(who)

    assert {name for name, principal in EVERYBODY.items() if parsed.means(principal)} == meant


def test_a_user_cannot_be_called_like_a_job() -> None:
    pretender = Principal(JOB.name, Kind.USER, claims=CLAIMS)

    assert not Who.parse("oidc:github repository_id=1").means(pretender)


@pytest.mark.parametrize(
    ("who", "message"),
    [
        pytest.param("", "not a who", id="empty"),
        pytest.param("everybody", "not a who", id="unknown"),
        pytest.param("alice", "not a who", id="bare-name"),
        pytest.param("users:alice", "not a who", id="unknown-prefix"),
        pytest.param("user:", "not a name", id="no-name"),
        pytest.param("user:a b", "not a name", id="space"),
        pytest.param("user:*", "not a name", id="pattern"),
        pytest.param("external:\n", "not a name", id="newline"),
        pytest.param("Anonymous", "not a who", id="case"),
        pytest.param("oidc:github", "says whose jobs", id="everybody-s-jobs"),
        pytest.param("oidc:github ref=refs/heads/main", "says whose jobs", id="everybody-s-main"),
        pytest.param("oidc:github repository=o/r", "use repository_id", id="a-name-that-changes-hands"),
        pytest.param("oidc:github repository_id=1 actor=alice", "use actor_id", id="actor"),
        pytest.param("oidc:github repository_id", "not a claim", id="no-value"),
        pytest.param("oidc:github repository_id=", "not a claim", id="empty-value"),
        pytest.param("oidc:github repository_id=1 repository_id=2", "twice", id="twice"),
        pytest.param('oidc:github repository_id="1', "cannot be read", id="open-quote"),
        pytest.param("oidc: repository_id=1", "not a name", id="no-provider"),
    ],
)
def test_refuses_a_who(who: str, message: str) -> None:
    with pytest.raises(RuleInvalid, match=message):
        Who.parse(who)


def test_user_in_a_pattern_is_only_a_users_name() -> None:
    rule = Rule.parse("authenticated", "{user}/**", ["pull"], "")
    name = RepositoryName.parse("alice/app")

    assert rule.allows(ALICE, Action.PULL, name)
    for kind in set(Kind) - {Kind.USER, Kind.ANONYMOUS}:
        assert not rule.allows(Principal("alice", kind), Action.PULL, name), kind


def test_admin_is_everything() -> None:
    assert parse_actions(["admin"]) == set(Action)


@pytest.mark.parametrize(
    ("repository", "allow", "message"),
    [
        pytest.param("a//b", ["pull"], "not a pattern", id="pattern"),
        pytest.param("a", ["pul"], "not an action: 'pul'", id="action"),
        pytest.param("a", ["*"], "not an action", id="star"),
        pytest.param("a", [], "allows nothing", id="nothing"),
    ],
)
def test_refuses_a_rule(repository: str, allow: list[str], message: str) -> None:
    with pytest.raises(RuleInvalid, match=message):
        Rule.parse("anonymous", repository, allow, "")


def test_refuses_a_users_name_where_there_is_none() -> None:
    with pytest.raises(RuleInvalid, match="name of a user"):
        Rule.parse("robot:ci", "{user}/**", ["pull"], "")


def test_a_rule_reads_like_a_sentence() -> None:
    rule = Rule.parse("group:ops", "team/**", ["push", "pull"], "policy rule 3")

    assert str(rule) == "group:ops may pull, push on team/**"
