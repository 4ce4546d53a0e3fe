"""Logins: who comes in by what, who does not, and what ends it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from registry.auth import accounts
from registry.auth.access import Action, Identity, Kind
from registry.auth.accounts import IssuedSecret
from registry.auth.limits import RepositoryLimit
from registry.metadata import api_tokens, robots, users
from registry.offload import Offload
from storage.database import Unit
from storage.oci.errors import InsufficientStorage, TooManyRequests, Unauthorized
from storage.oci.names import RepositoryName
from tests.registry.auth.people import HOME, People, T, people

PASSWORD = "a long password"


@pytest.fixture
def us(tmp_path: Path) -> Iterator[People]:
    with people(tmp_path) as running:
        running.add("alice", PASSWORD)
        running.add("root", PASSWORD, is_admin=True)
        running.do(lambda db: accounts.create_robot(db, "ci", "", "root"))
        yield running


class FullDisk(Offload):
    """Refuses every transaction; reads go on."""

    async def transaction(self, unit: Unit[T]) -> T:
        raise InsufficientStorage("the disk of the database is full")


def refused(us: People, username: str, password: str, client: str = HOME) -> str:
    """Return what a refused login says."""
    with pytest.raises(Unauthorized) as error:
        us.login(username, password, client)
    return error.value.message


def token(us: People, owner: str = "alice", seconds: float | None = None) -> IssuedSecret:
    return us.do(lambda db: accounts.issue_secret(db, ("user", owner), "", None, seconds))


def robot_secret(us: People) -> IssuedSecret:
    return us.do(lambda db: accounts.issue_secret(db, ("robot", "ci"), ""))


def test_takes_a_password(us: People) -> None:
    us.do(lambda db: accounts.create_group(db, "ops"))
    us.do(lambda db: accounts.add_member(db, "ops", "alice"))

    identity = us.login("alice", PASSWORD)

    assert (identity.principal.name, identity.principal.kind) == ("alice", Kind.USER)
    assert identity.principal.groups == {"ops"}
    assert (identity.is_admin, identity.limits) == (False, None)
    assert us.login("root", PASSWORD).is_admin


def test_takes_a_personal_token(us: People) -> None:
    identity = us.login("alice", token(us).text)

    assert (identity.principal.name, identity.principal.kind) == ("alice", Kind.USER)
    assert identity.limits is None


@pytest.mark.parametrize(
    ("username", "password"),
    [
        pytest.param("robot$ci", "{}", id="dollar"),
        pytest.param("robot:ci", "{}", id="colon-in-a-form"),
        pytest.param("robot", "ci:{}", id="colon-as-basic-splits-it"),
    ],
)
def test_takes_a_robots_secret(us: People, username: str, password: str) -> None:
    identity = us.login(username, password.format(robot_secret(us).text))

    assert (identity.principal.name, identity.principal.kind) == ("robot:ci", Kind.ROBOT)
    assert not identity.is_admin


def test_AUTH_24_refuses_everything_in_one_form(us: People) -> None:
    mine, robots_own = token(us).text, robot_secret(us).text
    us.add("disabled", PASSWORD)
    us.do(lambda db: accounts.disable_user(db, "disabled"))

    logins = [
        ("alice", "wrong"),
        ("nobody", "wrong"),
        ("nobody:at:all", "wrong"),
        ("", ""),
        ("x" * 300, "wrong"),
        ("Alice", PASSWORD),
        ("alice", ""),
        ("alice", PASSWORD + "\0"),
        ("alice", "\udcff"),
        ("disabled", PASSWORD),
        ("root", mine),
        ("robot$alice", mine),
        ("alice", robots_own),
        ("ci", robots_own),
        ("robot$other", robots_own),
        ("robot$ci", mine),
        ("robot$ci", PASSWORD),
        ("robot", ""),
        ("oidc", "eyJ"),
    ]
    messages = {refused(us, *login, f"192.0.2.{number}") for number, login in enumerate(logins)}

    assert messages == {"wrong user name or password"}


@pytest.mark.parametrize("name", ["alice", "nobody", "no:name", "off"])
def test_AUTH_24_a_failure_costs_one_hash_whoever_it_is(us: People, name: str) -> None:
    us.add("off", PASSWORD)
    us.do(lambda db: accounts.disable_user(db, "off"))
    us.counted.taken()

    refused(us, name, "wrong")

    assert us.counted.taken() == ["argon2"]


def test_TOK_05_rehashes_at_login(us: People) -> None:
    stored = bcrypt.hashpw(b"wonderland", bcrypt.gensalt(10)).decode()
    us.do(lambda db: accounts.import_users(db, {"carol": stored}))
    before = us.do(lambda db: users.find(db, "carol"))

    identity = us.login("carol", "wonderland")

    after = us.do(lambda db: users.find(db, "carol"))
    assert before is not None
    assert after is not None
    assert after.password_hash.startswith("$argon2id$")
    assert after.password_changed_at == before.password_changed_at
    assert us.login("carol", "wonderland").principal.name == "carol"
    assert us.renew(identity.handle, us.hand()).principal.name == "carol"


def test_TOK_05_a_rehash_does_not_undo_a_new_password(us: People) -> None:
    account = us.do(lambda db: users.find(db, "alice"))
    assert account is not None
    us.do(lambda db: users.set_password(db, "alice", "newer"))

    assert not us.do(lambda db: users.improve_hash(db, "alice", account.password_hash, "better"))


@pytest.mark.parametrize("way", ["password", "token"])
def test_AUTH_21_a_disabled_user_is_out_at_the_next_call(us: People, way: str) -> None:
    secret = PASSWORD if way == "password" else token(us).text
    identity = us.login("alice", secret)

    us.do(lambda db: accounts.disable_user(db, "alice"))

    refused(us, "alice", secret)
    with pytest.raises(Unauthorized):
        us.renew(identity.handle, us.hand())
    us.do(lambda db: accounts.enable_user(db, "alice"))
    assert us.login("alice", secret) == us.renew(identity.handle, us.hand())


def test_AUTH_21_a_revoked_token_is_out_at_the_next_call(us: People) -> None:
    secret, other = token(us), token(us)
    identity = us.login("alice", secret.text)

    us.do(lambda db: accounts.revoke_secret(db, secret.token.id))

    refused(us, "alice", secret.text)
    with pytest.raises(Unauthorized):
        us.renew(identity.handle, us.hand())
    assert us.login("alice", other.text).principal.name == "alice"


def test_AUTH_21_a_token_ends_by_itself(us: People) -> None:
    secret = token(us, seconds=100)
    identity = us.login("alice", secret.text)
    us.hand.now += 101

    refused(us, "alice", secret.text)
    with pytest.raises(Unauthorized):
        us.renew(identity.handle, us.hand())


@pytest.mark.parametrize("ending", ["disabled", "deleted"])
def test_AUTH_21_a_robot_is_out_at_the_next_call(us: People, ending: str) -> None:
    secret = robot_secret(us).text
    identity = us.login("robot$ci", secret)

    if ending == "disabled":
        us.do(lambda db: accounts.set_robot_disabled(db, "ci", True))
    else:
        us.do(lambda db: accounts.delete_robot(db, "ci"))
        us.do(lambda db: robots.create(db, "ci", "another one", "root"))

    refused(us, "robot$ci", secret)
    with pytest.raises(Unauthorized):
        us.renew(identity.handle, us.hand())


def test_AUTH_21_who_left_a_group_is_not_in_it_at_the_next_call(us: People) -> None:
    us.do(lambda db: accounts.create_group(db, "ops"))
    us.do(lambda db: accounts.add_member(db, "ops", "alice"))
    identity = us.login("alice", PASSWORD)

    us.do(lambda db: accounts.remove_member(db, "ops", "alice"))

    assert us.login("alice", PASSWORD).principal.groups == frozenset()
    assert us.renew(identity.handle, us.hand()).principal.groups == frozenset()


def test_AUTH_21_a_new_password_ends_logins_of_the_old_one(us: People) -> None:
    identity = us.login("alice", PASSWORD)
    issued = us.hand()
    us.hand.now += 10
    us.do(lambda db: accounts.set_password(db, "alice", us.identities.passwords.hash_now("another one")))

    with pytest.raises(Unauthorized):
        us.renew(identity.handle, issued)
    assert us.renew(us.login("alice", "another one").handle, us.hand()).principal.name == "alice"


def test_AUTH_21_no_longer_an_administrator_at_the_next_call(us: People) -> None:
    us.add("other", PASSWORD, is_admin=True)
    identity = us.login("other", PASSWORD)
    us.do(lambda db: accounts.make_ordinary(db, "other"))

    assert not us.login("other", PASSWORD).is_admin
    assert not us.renew(identity.handle, us.hand()).is_admin


@pytest.mark.parametrize(
    "handle", ["", "user:", "user:nobody", "token:", "token:nothing", "file:alice:", "robot:ci", "alice"]
)
def test_renews_no_handle_that_it_did_not_make(us: People, handle: str) -> None:
    with pytest.raises(Unauthorized):
        us.renew(handle, us.hand())


def test_a_login_of_the_file_ends_when_an_account_takes_the_name(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text(f"carol:{bcrypt.hashpw(b'wonderland', bcrypt.gensalt(10)).decode()}\n")
    with people(tmp_path, htpasswd=file) as us:
        identity = us.login("carol", "wonderland")
        secret = token(us, "carol").text
        assert us.login("carol", secret).principal.name == "carol"
        us.add("carol", PASSWORD)
        us.do(lambda db: accounts.disable_user(db, "carol"))

        refused(us, "carol", "wonderland")
        refused(us, "carol", secret)
        with pytest.raises(Unauthorized):
            us.renew(identity.handle, us.hand())


def test_a_scoped_token_keeps_its_limits_through_a_refresh(us: People) -> None:
    limits = [RepositoryLimit.parse("team/*", ["pull", "push"]), RepositoryLimit.parse("{user}/*", ["pull"])]
    secret = us.do(lambda db: accounts.issue_secret(db, ("user", "root"), "", limits))

    identity = us.login("root", secret.text)

    for each in (identity, us.renew(identity.handle, us.hand())):
        # A scoped token opens no admin API, whoever's it is.
        assert not each.is_admin
        assert allowed(each, "team/app") == {Action.PULL, Action.PUSH}
        assert allowed(each, "root/app") == {Action.PULL}
        assert allowed(each, "alice/app") == frozenset()
        assert allowed(each, "team/app/debug") == frozenset()
    assert us.login("root", token(us, "root").text).is_admin


def allowed(identity: Identity, name: str) -> frozenset[Action]:
    assert identity.limits is not None
    parsed = RepositoryName.parse(name)
    return frozenset().union(*(limit.actions(parsed) for limit in identity.limits))


def test_notes_the_last_use_to_the_minute(us: People) -> None:
    secret = token(us)

    def used() -> float | None:
        (listed,) = us.do(lambda db: api_tokens.listing(db, "user", "alice"))
        return listed.last_used_at

    assert used() is None
    us.login("alice", secret.text)
    first = us.hand()
    assert used() == first
    us.hand.now += 30
    us.login("alice", secret.text)
    assert used() == first
    us.hand.now += 31
    us.login("alice", secret.text)
    assert used() == us.hand()


def test_OPS_09_a_login_does_not_need_the_disk(us: People) -> None:
    secret = token(us).text
    us.identities.offload = FullDisk(us.database)

    assert us.login("alice", PASSWORD).principal.name == "alice"
    assert us.login("alice", secret).principal.name == "alice"


def test_AUTH_25_pauses_guesses_before_they_are_hashed(us: People) -> None:
    for _ in range(10):
        refused(us, "alice", "wrong")
    us.counted.taken()

    with pytest.raises(TooManyRequests) as paused:
        us.login("alice", PASSWORD)

    assert paused.value.headers["Retry-After"] == "60"
    assert us.counted.taken() == []
    us.hand.now += 61
    assert us.login("alice", PASSWORD).principal.name == "alice"


def test_AUTH_25_successful_logins_do_not_count(us: People) -> None:
    for _ in range(30):
        us.login("alice", PASSWORD)

    assert us.login("alice", PASSWORD).principal.name == "alice"


def test_AUTH_25_a_hundred_guesses_at_once_are_a_hundred(us: People) -> None:
    async def guess() -> list[object]:
        logins = (us.identities.login("alice", f"guess {number}", HOME) for number in range(100))
        return list(await asyncio.gather(*logins, return_exceptions=True))

    results = us.run(guess)

    assert sum(isinstance(each, Unauthorized) for each in results) == 10
    assert sum(isinstance(each, TooManyRequests) for each in results) == 90
    assert us.counted.taken() == ["argon2"] * 10


def test_AUTH_25_guessed_secrets_count_for_their_source_and_stop_no_right_one(us: People) -> None:
    secret, robots_own = token(us), robot_secret(us)
    ended = token(us)
    us.do(lambda db: accounts.revoke_secret(db, ended.token.id))
    for _ in range(10):
        refused(us, "alice", ended.text)

    with pytest.raises(TooManyRequests):
        us.login("alice", ended.text)
    with pytest.raises(TooManyRequests):
        us.login("root", PASSWORD)
    assert us.login("alice", secret.text).principal.name == "alice"
    assert us.login("robot$ci", robots_own.text).principal.name == "robot:ci"
    assert us.login("root", PASSWORD, "198.51.100.7").principal.name == "root"
