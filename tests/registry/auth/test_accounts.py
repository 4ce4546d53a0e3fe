"""Users, groups, robots and their secrets, as an administrator makes and ends them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from registry.auth import accounts, api_secrets
from registry.auth.accounts import AccountExists, AccountInvalid, AccountUnknown, LastAdmin
from registry.auth.limits import LimitInvalid, RepositoryLimit
from registry.auth.names import AccountNameInvalid
from registry.auth.passwords import Passwords
from registry.auth.rules import Rule
from registry.metadata import access_version, api_tokens, groups, robots, rules, users
from storage.database import Connection
from storage.oci.errors import RegistryError, Unauthorized
from tests.registry.auth.people import CHEAP, People, people


@pytest.fixture
def us(tmp_path: Path) -> Iterator[People]:
    with people(tmp_path) as running:
        yield running


@pytest.mark.parametrize("name", ["alice", "A", "bob.b-c_d", "carol@example.org", "x+y@z", "0", "a" * 128])
def test_accepts_a_name(us: People, name: str) -> None:
    us.add(name, "a long password")

    assert us.login(name, "a long password").principal.name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a:b",
        "robot$ci",
        "robot:ci",
        "a b",
        "a/b",
        ".a",
        "a.",
        "a" * 129,
        "ä",
        "a\n",
        "oidc",
        "Robot",
        "*",
    ],
)
def test_refuses_a_name(us: People, name: str) -> None:
    for make in (
        lambda db: accounts.create_user(db, name, "hash"),
        lambda db: accounts.create_group(db, name),
        lambda db: accounts.create_robot(db, name, "", "root"),
    ):
        with pytest.raises(AccountNameInvalid):
            us.do(make)


def test_refuses_names_that_differ_in_case_only(us: People) -> None:
    us.add("alice", "a long password")
    us.do(lambda db: accounts.create_group(db, "ops"))
    us.do(lambda db: accounts.create_robot(db, "ci", "", "root"))

    for make in (
        lambda db: accounts.create_user(db, "Alice", "hash"),
        lambda db: accounts.create_group(db, "OPS"),
        lambda db: accounts.create_robot(db, "Ci", "", "root"),
    ):
        with pytest.raises(AccountExists):
            us.do(make)


def test_lists_users_without_surprises(us: People) -> None:
    us.add("bob", "a long password")
    us.add("alice", "a long password", is_admin=True)
    us.hand.now += 100
    us.login("bob", "a long password")

    alice, bob = us.do(users.listing)

    assert (alice.name, alice.is_admin, alice.last_login_at) == ("alice", True, None)
    assert (bob.name, bob.is_admin, bob.last_login_at) == ("bob", False, us.hand.now)
    assert [each.name for each in us.do(lambda db: users.listing(db, "alice", 5))] == ["bob"]


UNKNOWN: list[tuple[str, Callable[[Connection], object]]] = [
    ("password", lambda db: accounts.set_password(db, "nobody", "hash")),
    ("disable", lambda db: accounts.disable_user(db, "nobody")),
    ("enable", lambda db: accounts.enable_user(db, "nobody")),
    ("admin", lambda db: accounts.make_admin(db, "nobody")),
    ("ordinary", lambda db: accounts.make_ordinary(db, "nobody")),
    ("delete", lambda db: accounts.delete_user(db, "nobody")),
    ("delete-group", lambda db: accounts.delete_group(db, "nobody")),
    ("add-member", lambda db: accounts.add_member(db, "nobody", "alice")),
    ("remove-member", lambda db: accounts.remove_member(db, "nobody", "alice")),
    ("disable-robot", lambda db: accounts.set_robot_disabled(db, "nobody", True)),
    ("delete-robot", lambda db: accounts.delete_robot(db, "nobody")),
    ("robot-secret", lambda db: accounts.issue_secret(db, ("robot", "nobody"), "")),
    ("revoke", lambda db: accounts.revoke_secret(db, "nobody")),
]


@pytest.mark.parametrize("unit", [unit for _, unit in UNKNOWN], ids=[name for name, _ in UNKNOWN])
def test_says_that_an_account_is_unknown(us: People, unit: Callable[[Connection], object]) -> None:
    with pytest.raises(AccountUnknown) as refused:
        us.do(unit)

    assert refused.value.status == 404


@pytest.mark.parametrize(
    "unit",
    [accounts.disable_user, accounts.make_ordinary, accounts.delete_user],
    ids=lambda unit: unit.__name__,
)
def test_keeps_the_last_administrator(us: People, unit: Callable[[Connection, str], None]) -> None:
    us.add("root", "a long password", is_admin=True)
    us.add("other", "a long password", is_admin=True)
    us.do(lambda db: accounts.disable_user(db, "other"))

    with pytest.raises(LastAdmin):
        us.do(lambda db: unit(db, "root"))
    us.do(lambda db: accounts.enable_user(db, "other"))
    us.do(lambda db: unit(db, "root"))
    with pytest.raises(LastAdmin):
        us.do(lambda db: unit(db, "other"))


def test_AUTH_21_a_deleted_users_name_brings_nothing_back(us: People) -> None:
    us.add("alice", "a long password")
    us.do(lambda db: accounts.create_group(db, "ops"))
    us.do(lambda db: accounts.add_member(db, "ops", "alice"))
    secret = us.do(lambda db: accounts.issue_secret(db, ("user", "alice"), "laptop"))

    us.do(lambda db: accounts.delete_user(db, "alice"))
    us.add("alice", "another password")

    assert us.login("alice", "another password").principal.groups == frozenset()
    with pytest.raises(Unauthorized):
        us.login("alice", secret.text)
    assert us.do(lambda db: api_tokens.listing(db, "user", "alice")) == []


def test_AUTH_21_a_new_user_has_no_token_of_a_file_user_of_the_name(us: People) -> None:
    secret = us.do(lambda db: accounts.issue_secret(db, ("user", "bob"), "of the htpasswd user"))

    us.add("bob", "a long password")

    with pytest.raises(Unauthorized):
        us.login("bob", secret.text)
    assert us.do(lambda db: api_tokens.listing(db, "user", "bob")) == []


@pytest.mark.parametrize(
    ("who", "make", "delete"),
    [
        pytest.param(
            "user:x", lambda db: accounts.create_user(db, "x", "hash"), accounts.delete_user, id="user"
        ),
        pytest.param("group:x", lambda db: accounts.create_group(db, "x"), accounts.delete_group, id="group"),
        pytest.param(
            "robot:x", lambda db: accounts.create_robot(db, "x", "", ""), accounts.delete_robot, id="robot"
        ),
    ],
)
def test_AUTH_21_rules_go_with_whom_they_name(
    us: People, who: str, make: Callable[[Connection], object], delete: Callable[[Connection, str], None]
) -> None:
    us.do(make)
    for each in (who, f"{who}2"):
        us.do(lambda db, each=each: rules.add(db, Rule.parse(each, "**", ["pull"], "a test"), ""))  # type: ignore[misc]

    us.do(lambda db: delete(db, "x"))

    assert [rule.who for rule in us.do(rules.listing)] == [f"{who}2"]


def test_lists_groups_and_their_members(us: People) -> None:
    for group in ("ops", "devs"):
        us.do(lambda db, group=group: accounts.create_group(db, group))  # type: ignore[misc]
    us.do(lambda db: accounts.add_member(db, "ops", "alice"))
    us.do(lambda db: accounts.add_member(db, "ops", "alice"))
    us.do(lambda db: accounts.add_member(db, "ops", "bob"))
    us.do(lambda db: accounts.remove_member(db, "ops", "bob"))

    assert us.do(groups.listing) == ["devs", "ops"]
    assert us.do(lambda db: groups.members(db, "ops")) == ["alice"]
    assert us.do(lambda db: groups.of_user(db, "alice")) == {"ops"}
    us.do(lambda db: accounts.delete_group(db, "ops"))
    assert us.do(lambda db: groups.of_user(db, "alice")) == frozenset()


def test_shows_a_secret_once_and_keeps_its_hash(us: People) -> None:
    us.add("alice", "a long password")
    limits = [RepositoryLimit.parse("team/**", ["pull", "push"])]

    secret = us.do(lambda db: accounts.issue_secret(db, ("user", "alice"), "laptop", limits, 3600))

    assert secret.text.startswith("chp_")
    (listed,) = us.do(lambda db: api_tokens.listing(db, "user", "alice"))
    assert listed == secret.token
    assert (listed.description, listed.expires_at) == ("laptop", us.hand.now + 3600)
    assert listed.limits is not None
    assert [(each.repository, each.actions) for each in listed.limits] == [("team/**", ("pull", "push"))]
    stored = us.do(lambda db: db.execute("SELECT * FROM api_token").fetchone())
    assert api_secrets.digest(secret.text) in stored
    assert not any(isinstance(value, str) and secret.text[4:] in value for value in stored)


def test_secrets_are_random_and_carry_a_checksum() -> None:
    made = {api_secrets.generate("robot") for _ in range(200)}

    assert len(made) == 200
    assert {len(text) for text in made} == {4 + 43 + 6}
    assert {api_secrets.kind_of(text) for text in made} == {"robot"}
    text = made.pop()
    for place in range(len(text)):
        other = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
        assert api_secrets.kind_of(other) is None, place
    assert api_secrets.kind_of(text + "a") is None
    assert api_secrets.kind_of("password") is None
    assert api_secrets.kind_of("chp_" + text[4:]) is None


@pytest.mark.parametrize(
    ("limits", "seconds", "description"),
    [
        pytest.param([], None, "", id="no-limit-in-the-list"),
        pytest.param([RepositoryLimit.parse("a", ["pull"])] * 51, None, "", id="many-limits"),
        pytest.param(None, 0, "", id="no-time"),
        pytest.param(None, -1, "", id="past"),
        pytest.param(None, 1e12, "", id="for-ever-and-a-day"),
        pytest.param(None, None, "two\nlines", id="description-with-lines"),
        pytest.param(None, None, "x" * 501, id="long-description"),
    ],
)
def test_refuses_a_secret(
    us: People, limits: list[RepositoryLimit] | None, seconds: float | None, description: str
) -> None:
    with pytest.raises(AccountInvalid):
        us.do(lambda db: accounts.issue_secret(db, ("user", "alice"), description, limits, seconds))


@pytest.mark.parametrize(
    ("repository", "actions"),
    [("Team/*", ["pull"]), ("team/*", ["fly"]), ("team/*", ["admin"]), ("team/*", []), ("", ["pull"])],
)
def test_refuses_a_limit(repository: str, actions: list[str]) -> None:
    with pytest.raises(LimitInvalid):
        RepositoryLimit.parse(repository, actions)


def test_AUTH_19_ends_only_ones_own_secrets(us: People) -> None:
    us.add("alice", "a long password")
    secret = us.do(lambda db: accounts.issue_secret(db, ("user", "alice"), ""))

    for stranger in (("user", "mallory"), ("robot", "alice")):
        with pytest.raises(AccountUnknown):
            us.do(lambda db, who=stranger: accounts.revoke_secret(db, secret.token.id, who))  # type: ignore[misc]
    us.do(lambda db: accounts.revoke_secret(db, secret.token.id, ("user", "alice")))

    with pytest.raises(AccountUnknown):
        us.do(lambda db: accounts.revoke_secret(db, secret.token.id))


def test_forgets_ended_secrets_in_time(us: People) -> None:
    us.do(lambda db: accounts.issue_secret(db, ("user", "alice"), "", None, 10))
    kept = us.do(lambda db: accounts.issue_secret(db, ("user", "alice"), ""))
    us.hand.now += 1000
    us.do(lambda db: api_tokens.remove_ended(db, 900))

    assert us.do(lambda db: db.execute("SELECT id FROM api_token").fetchall()) == [(kept.token.id,)]


def test_imports_an_htpasswd_file_and_leaves_who_is_there(us: People) -> None:
    stored = bcrypt.hashpw(b"wonderland", bcrypt.gensalt(10)).decode()
    us.add("bob", "a long password")

    made, left = us.do(lambda db: accounts.import_users(db, {"alice": stored, "bob": stored}))

    assert (made, left) == (["alice"], ["bob"])
    assert us.login("alice", "wonderland").principal.name == "alice"
    assert us.login("bob", "a long password").principal.name == "bob"


def test_OPS_01_makes_the_first_administrator_once(us: People) -> None:
    passwords = Passwords(CHEAP)

    first = accounts.ensure_admin(us.database, passwords)

    assert first is not None
    name, password = first
    assert len(password) >= 24
    assert us.login(name, password).is_admin
    assert accounts.ensure_admin(us.database, passwords) is None


def test_reset_is_the_way_back(us: People) -> None:
    passwords = Passwords(CHEAP)
    us.add("root", "a long password", is_admin=True)
    us.do(lambda db: users.set_disabled(db, "root", True))
    us.hand.now += 10

    password = accounts.reset(us.database, passwords, "root")

    assert us.login("root", password).is_admin
    with pytest.raises(Unauthorized):
        us.login("root", "a long password")
    # Beside an administrator nobody is made one.
    other = accounts.reset(us.database, passwords, "alice")
    assert not us.login("alice", other).is_admin


CHANGES: list[tuple[str, Callable[[Connection], object]]] = [
    ("password", lambda db: users.set_password(db, "alice", "hash")),
    ("disable", lambda db: users.set_disabled(db, "alice", True)),
    ("admin", lambda db: users.set_admin(db, "alice", True)),
    ("delete", lambda db: users.delete(db, "alice")),
    ("group", lambda db: groups.remove(db, "ops", "alice")),
    ("delete-group", lambda db: groups.delete(db, "ops")),
    ("join", lambda db: groups.add(db, "ops", "bob")),
    ("robot", lambda db: robots.set_disabled(db, "ci", True)),
    ("delete-robot", lambda db: robots.delete(db, "ci")),
]


@pytest.mark.parametrize("unit", [unit for _, unit in CHANGES], ids=[name for name, _ in CHANGES])
def test_AUTH_21_every_change_of_rights_is_another_version(
    us: People, unit: Callable[[Connection], object]
) -> None:
    us.add("alice", "a long password")
    us.do(lambda db: accounts.create_group(db, "ops"))
    us.do(lambda db: accounts.add_member(db, "ops", "alice"))
    us.do(lambda db: accounts.create_robot(db, "ci", "", "root"))
    before = us.do(access_version.number)

    us.do(unit)

    assert us.do(access_version.number) > before


def test_a_robot_is_described(us: People) -> None:
    us.do(lambda db: accounts.create_robot(db, "ci", "builds", "root"))
    us.do(lambda db: robots.describe(db, "ci", "builds all"))

    (robot,) = us.do(robots.listing)
    assert (robot.principal, robot.description, robot.created_by) == ("robot:ci", "builds all", "root")
    with pytest.raises(RegistryError):
        us.do(lambda db: accounts.create_robot(db, "other", "two\nlines", "root"))
