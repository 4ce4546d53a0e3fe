"""Refresh tokens: what a login leaves at a client, and how it ends."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from registry.app import MIGRATIONS
from registry.auth.guard import Deciders
from registry.metadata import refresh_tokens
from storage.database import SqliteDatabase, connect
from tests.registry.auth.asking import ALICE, access_of, ask, claims_of, login, post_password, refresh
from tests.registry.auth.doors import ALL, SERVICE, Badges, Door, People, Rules, bearer, serving_behind


@pytest.fixture
def database(door: Door) -> Iterator[SqliteDatabase]:
    database = connect(f"sqlite:{door.settings.data / 'cargohold.db'}", MIGRATIONS)
    yield database
    database.close()


def test_tok_03_a_refresh_token_is_given_to_who_asks_for_it(door: Door) -> None:
    assert "refresh_token" in ask(door, auth=ALICE, offline_token="true").json()
    assert "refresh_token" in post_password(door, access_type="offline").json()
    for response in (
        ask(door, auth=ALICE),
        ask(door, auth=ALICE, offline_token="false"),
        ask(door, offline_token="true"),
        post_password(door),
        post_password(door, access_type="online"),
    ):
        assert "refresh_token" not in response.json()


def test_tok_03_a_refresh_token_is_good_for_tokens_of_its_subject(door: Door) -> None:
    token = login(door)

    response = refresh(door, token, scope="repository:alice/a:pull,push repository:x:pull")
    assert claims_of(response)["sub"] == "alice"
    assert access_of(response) == {"repository:alice/a": ["pull", "push"]}
    assert "refresh_token" not in response.json()
    assert refresh(door, token, access_type="offline").json()["refresh_token"] == token


def test_tok_03_a_refresh_token_is_random_and_kept_as_a_hash(door: Door, database: SqliteDatabase) -> None:
    tokens = {login(door) for _ in range(10)}

    assert len(tokens) == 10
    assert all(len(token.removeprefix("cargohold_refresh_")) == 43 for token in tokens), "256 bits"
    stored = b"".join(path.read_bytes() for path in door.settings.data.glob("cargohold.db*"))
    for token in tokens:
        assert token.encode() not in stored
        assert token.removeprefix("cargohold_refresh_").encode() not in stored


def test_tok_03_refresh_tokens_are_listed_and_revoked(door: Door, database: SqliteDatabase) -> None:
    database.transaction(lambda db: refresh_tokens.revoke_all(db, "alice"))
    kept, revoked = login(door), login(door)
    refresh(door, kept)
    used = {each.id: each for each in database.read(lambda db: refresh_tokens.listing(db, "alice"))}
    assert {(each.client_id, each.service) for each in used.values()} == {("docker", SERVICE)}
    (unused,) = (each.id for each in used.values() if each.last_used_at is None)

    assert database.transaction(lambda db: refresh_tokens.revoke(db, unused)) is not None
    assert database.transaction(lambda db: refresh_tokens.revoke(db, unused)) is None

    assert refresh(door, revoked).status_code == 401
    assert refresh(door, kept).status_code == 200
    assert database.read(lambda db: refresh_tokens.listing(db, "bob")) == []
    assert database.transaction(lambda db: refresh_tokens.revoke_all(db, "alice")) == 1
    assert refresh(door, kept).status_code == 401


def test_tok_03_a_refresh_token_is_of_its_service(tmp_path: Path) -> None:
    with serving_behind(tmp_path, service="one") as door:
        token = ask(door, auth=ALICE, offline_token="true").json()["refresh_token"]
    with serving_behind(tmp_path, service="two") as door:
        assert refresh(door, token, service="two").status_code == 401
        assert refresh(door, token, service="one").status_code == 400


def test_tok_03_a_refresh_token_ends_when_it_is_not_used(tmp_path: Path) -> None:
    with serving_behind(tmp_path, refresh_seconds=0.000001) as door:
        assert refresh(door, login(door)).status_code == 401


@pytest.mark.parametrize("path", ["/v2/", "/v2/public/p/manifests/x", "/v2/_catalog"])
def test_tok_03_auth_07_a_refresh_token_opens_nothing_at_the_registry(door: Door, path: str) -> None:
    response = httpx.get(door.url + path, headers=bearer(login(door)))

    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


def test_auth_07_an_access_token_refreshes_nothing(door: Door) -> None:
    assert refresh(door, door.token(auth=ALICE)).status_code == 401


def test_auth_21_who_is_gone_gets_no_token(tmp_path: Path) -> None:
    with serving_behind(tmp_path) as door:
        token = login(door)
        assert refresh(door, token).status_code == 200
        door.people.remove("alice")

        assert refresh(door, token).status_code == 401
        assert ask(door, auth=ALICE).status_code == 401


def test_auth_21_a_rule_that_is_gone_grants_nothing(tmp_path: Path) -> None:
    with serving_behind(tmp_path) as door:
        token = login(door)
        door.rules.rows.clear()

        assert access_of(refresh(door, token, scope="repository:alice/a:pull")) == {}


def test_who_cannot_be_found_again_gets_no_refresh_token(tmp_path: Path) -> None:
    people = People({"ci": "id token"}, without_handle={"ci"}, principals={"ci": "oidc:ci"})
    with serving_behind(tmp_path, Deciders(people, Rules([("oidc:ci", "*", ALL)]), Badges())) as door:
        response = ask(door, "registry:catalog:*", auth=("ci", "id token"), offline_token="true")

    assert "refresh_token" not in response.json()
    assert access_of(response) == {}
