"""What is remembered: logins for a moment, verified tokens until they expire; and Basic as it is."""

import asyncio
from pathlib import Path

import httpx
import pytest

from registry.auth.access import Caller, Identity, Principal
from registry.auth.guard import BearerTokens, Deciders
from registry.auth.logins import Logins
from registry.auth.rights import NOTHING
from registry.auth.tokens import AccessToken, TokenInvalid, Verifier
from storage.oci.errors import Unauthorized
from tests.registry.auth import forging
from tests.registry.auth.doors import (
    ALL,
    PULL,
    Cut,
    Door,
    People,
    Rules,
    serving_behind,
)
from tests.registry.pushing import error_code

ALICE, BOB = ("alice", "wonder"), ("bob", "builder")


# Basic


def test_basic_is_taken_as_it_is(door: Door) -> None:
    manifest = door.push("alice/basic")
    url = f"{door.url}/v2/alice/basic/manifests/v1"

    assert httpx.get(f"{door.url}/v2/", auth=BOB).status_code == 200
    assert httpx.get(url, auth=BOB).content == manifest
    denied = httpx.delete(url, auth=BOB)
    assert (denied.status_code, error_code(denied)) == (403, "DENIED")
    assert "WWW-Authenticate" not in denied.headers


def test_basic_is_checked_once_and_again_after_a_change(tmp_path: Path) -> None:
    with serving_behind(tmp_path) as door, httpx.Client(base_url=door.url, auth=BOB) as client:
        for _ in range(5):
            assert client.get("/v2/").status_code == 200
        assert door.people.checked == ["bob"]
        door.people.changes += 1
        assert client.get("/v2/").status_code == 200
        assert door.people.checked == ["bob", "bob"]
        door.people.remove("bob")
        assert client.get("/v2/").status_code == 401
        for _ in range(3):
            assert client.get("/v2/").status_code == 401
        assert len(door.people.checked) == 6, "every wrong one is checked"


def test_logins_at_once_are_checked_once() -> None:
    people = People({"alice": "wonder"})
    logins = Logins(people)

    async def at_once() -> list[Identity]:
        return await asyncio.gather(*(logins.login("alice", "wonder", "-") for _ in range(50)))

    assert {identity.principal.name for identity in asyncio.run(at_once())} == {"alice"}
    assert people.checked == ["alice"]


def test_a_known_login_is_asked_again_after_a_while() -> None:
    people, now = People({"alice": "wonder", "alicewon": "der"}), [0.0]
    logins = Logins(people, lambda: now[0])

    async def twice() -> None:
        for moment in (0.0, 15.0, 16.0):
            now[0] = moment
            await logins.login("alice", "wonder", "-")
        await logins.login("alicewon", "der", "-")
        for wrong in (("alice", "wonde"), ("alicewonder", ""), ("", "alicewonder")):
            with pytest.raises(Unauthorized):
                await logins.login(*wrong, "-")

    asyncio.run(twice())
    assert people.checked == ["alice", "alice", "alicewon", "alice", "alicewonder", ""]


def test_a_scoped_credential_is_cut_down_in_basic_too(tmp_path: Path) -> None:
    people = People({"ci": "s"}, {"ci": (Cut("team/a", PULL),)}, principals={"ci": "robot:ci"})
    rules = Rules([("robot:ci", "team/*", ALL)])
    with (
        serving_behind(tmp_path, Deciders(people, rules)) as door,
        httpx.Client(base_url=door.url, auth=("ci", "s")) as client,
    ):
        assert client.get("/v2/team/a/tags/list").status_code == 404
        assert client.get("/v2/team/b/tags/list").status_code == 403
        assert client.post("/v2/team/a/blobs/uploads/").status_code == 403


# What is remembered of tokens


def bearers(keys_: forging.Trusted, now: list[float], seen: list[str]) -> BearerTokens:
    async def to_caller(token: AccessToken) -> Caller:
        seen.append(token.subject)
        return Caller(Principal(token.subject), NOTHING, has_token=True)

    verifier = Verifier(keys_, forging.EXPECTED, clock=lambda: now[0])
    return BearerTokens(verifier, keys_, to_caller, lambda: now[0])


def test_a_verified_token_is_known_until_it_expires() -> None:
    now, seen, trusted = [float(forging.NOW)], list[str](), forging.Trusted()
    tokens = bearers(trusted, now, seen)
    text = forging.token()

    async def use() -> None:
        first = await tokens.caller(text)
        assert await tokens.caller(text) is first
        now[0] += 360
        assert await tokens.caller(text) is first
        now[0] += 1
        with pytest.raises(TokenInvalid):
            await tokens.caller(text)

    asyncio.run(use())
    assert seen == ["alice"]


def test_auth_30_a_change_of_keys_verifies_again() -> None:
    now, seen, trusted = [float(forging.NOW)], list[str](), forging.Trusted()
    tokens = bearers(trusted, now, seen)

    async def use() -> None:
        await tokens.caller(forging.token())
        trusted.by_kid, trusted.generation = {}, 1
        with pytest.raises(TokenInvalid):
            await tokens.caller(forging.token())

    asyncio.run(use())


def test_what_is_remembered_has_an_end() -> None:
    now, seen = [float(forging.NOW)], list[str]()
    tokens = bearers(forging.Trusted(), now, seen)

    async def use() -> None:
        for number in range(5000):
            await tokens.caller(forging.token("EdDSA", forging.claims(jti=str(number))))

    asyncio.run(use())
    assert len(tokens._known) == 4096
