"""The door of the registry itself: who is let in where, and what the others are told."""

import asyncio
from pathlib import Path

import httpx
import pytest

from registry.app import MIGRATIONS
from registry.auth import keys
from registry.auth.access import Action, ClientCertificate, Presented
from registry.auth.build import build
from registry.auth.guard import Deciders
from registry.offload import Offload
from registry.settings import Settings
from storage.database import connect
from storage.oci.digest import Digest
from storage.oci.names import RepositoryName
from tests.registry.auth.doors import (
    PULL,
    SERVICE,
    Badges,
    Door,
    People,
    Rules,
    bearer,
    serving_behind,
)
from tests.registry.pushing import Repository, error_code
from tests.registry.wire import connect as connect_raw

ALICE, BOB = ("alice", "wonder"), ("bob", "builder")


def challenge(door: Door, scope: str = "", error: str = "") -> str:
    parts = [f'realm="{door.url}/token"', f'service="{SERVICE}"']
    parts += [f'scope="{scope}"'] if scope else []
    parts += [f'error="{error}"'] if error else []
    return "Bearer " + ",".join(parts)


def refused(response: httpx.Response, expected: str) -> bool:
    assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert error_code(response) == "UNAUTHORIZED"
    return response.status_code == 401 and response.headers.get_list("WWW-Authenticate") == [expected]


# The challenge


def test_tok_02_a_ping_is_answered_with_a_challenge_without_scope(door: Door) -> None:
    assert refused(httpx.get(f"{door.url}/v2/"), challenge(door))


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/alice/a/manifests/v1", "repository:alice/a:pull"),
        ("PUT", "/v2/alice/a/manifests/v1", "repository:alice/a:pull,push"),
        ("DELETE", "/v2/alice/a/manifests/v1", "repository:alice/a:delete"),
        ("POST", "/v2/alice/a/blobs/uploads/", "repository:alice/a:pull,push"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
        (
            "POST",
            f"/v2/alice/a/blobs/uploads/?mount={Digest.of(b'')}&from=alice/b",
            "repository:alice/a:pull,push repository:alice/b:pull",
        ),
        (
            "POST",
            f"/v2/alice/a/blobs/uploads/?mount={Digest.of(b'')}&from=alice/a",
            "repository:alice/a:pull,push",
        ),
        (
            "POST",
            f'/v2/alice/a/blobs/uploads/?mount={Digest.of(b"")}&from=b",error="x',
            "repository:alice/a:pull,push",
        ),
        ("POST", "/v2/alice/a/blobs/uploads/?from=alice/b", "repository:alice/a:pull,push"),
    ],
)
def test_tok_02_auth_16_auth_29_the_challenge_names_what_the_request_needs(
    door: Door, method: str, path: str, scope: str
) -> None:
    assert refused(httpx.request(method, door.url + path), challenge(door, scope))
    response = httpx.request(method, door.url + path, headers=bearer(door.token()))
    assert refused(response, challenge(door, scope, "insufficient_scope"))
    response = httpx.request(method, door.url + path, headers=bearer("x.y.z"))
    assert refused(response, challenge(door, scope, "invalid_token"))


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
        {"Forwarded": "host=evil.example;proto=https"},
        {"X-Forwarded-Prefix": "/evil", "X-Original-URL": "https://evil.example/"},
    ],
    ids=str,
)
def test_auth_28_no_header_changes_the_realm(door: Door, headers: dict[str, str]) -> None:
    assert refused(httpx.get(f"{door.url}/v2/", headers=headers), challenge(door))


def test_auth_28_the_realm_is_the_configured_url(tmp_path: Path) -> None:
    with serving_behind(tmp_path, external_url="https://registry.example/hub", path_prefix="/hub") as door:
        for path in ("/v2/", "/hub/v2/"):
            response = httpx.get(door.url + path)
            assert response.headers["WWW-Authenticate"] == (
                f'Bearer realm="https://registry.example/hub/token",service="{SERVICE}"'
            )
        assert httpx.get(f"{door.url}/hub/token").status_code == 200


# Tokens


def test_a_token_opens_what_it_lists(door: Door) -> None:
    manifest = door.push("alice/lists")
    with door.bearing("repository:alice/lists:pull", auth=BOB) as client:
        assert client.get("/v2/").status_code == 200
        assert client.get("/v2/alice/lists/manifests/v1").content == manifest
        response = client.put("/v2/alice/lists/manifests/v2", content=manifest)
    assert refused(response, challenge(door, "repository:alice/lists:pull,push", "insufficient_scope"))


@pytest.mark.parametrize("name", ["alice/one/two", "alice", "alice/On", "alice/on", "alice/onee"])
def test_auth_11_a_token_opens_no_other_name(door: Door, name: str) -> None:
    door.push("alice/one")
    with door.bearing("repository:alice/one:pull", auth=ALICE) as client:
        assert client.get("/v2/alice/one/manifests/v1").status_code == 200
        assert client.get(f"/v2/{name}/manifests/v1").status_code in (400, 401)


@pytest.mark.parametrize(
    "path", ["alice%2Fone", "alice/../alice/one", "alice//one", "alice/one/", "ALICE/one", "alice/%6Fne"]
)
def test_auth_11_no_spelling_of_a_path_opens_another_name(door: Door, path: str) -> None:
    door.push("alice/one")
    token = door.token("repository:alice/one:pull", auth=ALICE)
    with connect_raw(door.url) as wire:
        wire.send(f"GET /v2/{path}/manifests/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
        assert wire.answer().status in (400, 401, 404)


def test_auth_14_a_push_needs_pull_too(tmp_path: Path) -> None:
    rules = Rules([("alice", "drop/*", (Action.PUSH,)), ("alice", "both/*", (Action.PULL, Action.PUSH))])
    with serving_behind(tmp_path, Deciders(People({"alice": "wonder"}), rules)) as door:
        statuses = {}
        for name in ("drop/a", "both/a"):
            with door.bearing(f"repository:{name}:pull,push", auth=ALICE) as client:
                statuses[name] = client.post(f"/v2/{name}/blobs/uploads/").status_code

    assert statuses == {"drop/a": 401, "both/a": 202}


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_auth_14_the_method_is_that_of_the_request_line(door: Door, header: str) -> None:
    door.push("alice/method")
    with door.bearing("repository:alice/method:pull", auth=ALICE) as client:
        assert client.get("/v2/alice/method/manifests/v1", headers={header: "DELETE"}).status_code == 200
        response = client.delete("/v2/alice/method/manifests/v1", headers={header: "GET"})
        assert refused(response, challenge(door, "repository:alice/method:delete", "insufficient_scope"))


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 5_000_000], ids=["none", "small", "large"])
def test_auth_14_no_body_changes_the_decision(door: Door, body: bytes) -> None:
    with door.bearing("repository:alice/body:pull", auth=ALICE) as client:
        response = client.put("/v2/alice/body/manifests/v1", content=body)

    assert refused(response, challenge(door, "repository:alice/body:pull,push", "insufficient_scope"))


def test_auth_15_the_catalog_shows_what_its_reader_may_pull(door: Door) -> None:
    for name in ("alice/shown", "public/shown"):
        door.push(name)
    with door.bearing("registry:catalog:*", auth=BOB) as client:
        found = client.get("/v2/_catalog").json()["repositories"]
    assert {"alice/shown", "public/shown"} <= set(found)
    door.people.passwords["carol"] = "c"
    with door.bearing("registry:catalog:*", auth=("carol", "c")) as client:
        found = client.get("/v2/_catalog").json()["repositories"]
    assert "public/shown" in found
    assert all(name.startswith("public/") for name in found)


@pytest.mark.parametrize(
    "path",
    [
        "/v2//_catalog",
        "/v2/_catalog/",
        "/v2/%5Fcatalog",
        "/v2/_catalog%2F",
        "//v2/_catalog",
        "/v2/./_catalog",
    ],
)
def test_auth_15_the_catalog_has_one_path(door: Door, path: str) -> None:
    for token in ("", f"Authorization: Bearer {door.token('registry:catalog:*', auth=ALICE)}\r\n"):
        with connect_raw(door.url) as wire:
            wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{token}\r\n")
            answer = wire.answer()
        assert answer.status in (400, 401, 404)
        assert b"repositories" not in answer.body


def test_auth_16_a_mount_needs_pull_where_it_comes_from(door: Door) -> None:
    door.push("alice/source", "v1", b"mounted")
    digest, absent = Digest.of(b"mounted"), Digest.of(b"absent")
    both = ("repository:alice/target:pull,push", "repository:alice/source:pull")

    def mount(*scopes: str, blob: Digest = digest, source: str = "&from=alice/source") -> int:
        with door.bearing(*scopes, auth=ALICE) as client:
            return client.post(f"/v2/alice/target/blobs/uploads/?mount={blob}{source}").status_code

    assert mount(both[0]) == mount(both[0], blob=absent) == 202, "as if it were not there"
    assert mount(both[0], source="") == 202
    assert mount(*both, blob=absent) == 202
    assert mount(*both) == 201


def test_auth_17_every_read_needs_pull_on_that_repository(door: Door) -> None:
    door.push("alice/kept", "v1", b"kept")
    digest = Digest.of(b"kept")
    with door.bearing("repository:alice/other:pull", auth=ALICE) as client:
        for path in (
            f"blobs/{digest}",
            "tags/list",
            f"referrers/{digest}",
            "manifests/v1",
            f"blobs/uploads/{'0' * 32}",
        ):
            for method in ("GET", "HEAD"):
                assert client.request(method, f"/v2/alice/kept/{path}").status_code == 401


def test_auth_22_who_has_no_credentials_may_pull_what_is_public(door: Door) -> None:
    manifest = door.push("public/open")

    assert httpx.get(f"{door.url}/v2/public/open/manifests/v1").content == manifest
    with door.bearing("repository:public/open:pull") as client:
        assert client.get("/v2/").status_code == 200
        assert client.get("/v2/public/open/manifests/v1").content == manifest
    response = httpx.delete(f"{door.url}/v2/public/open/manifests/v1")
    assert refused(response, challenge(door, "repository:public/open:delete"))


@pytest.mark.parametrize(
    "authorization", ["Bearer x", "Bearer", "Basic YWxpY2U6eA==", "Basic", "Nonsense x", ""]
)
def test_auth_22_wrong_credentials_do_not_even_read_what_is_public(door: Door, authorization: str) -> None:
    door.push("public/open")
    response = httpx.get(f"{door.url}/v2/public/open/manifests/v1", headers={"Authorization": authorization})

    assert refused(response, challenge(door, "repository:public/open:pull", "invalid_token"))


def test_auth_23_private_and_missing_look_the_same(door: Door) -> None:
    door.push("alice/private")
    carol = {"carol": "c"}
    door.people.passwords.update(carol)

    def seen(name: str, headers: dict[str, str], auth: tuple[str, str] | None = None) -> tuple[object, ...]:
        response = httpx.get(f"{door.url}/v2/{name}/manifests/v1", headers=headers, auth=auth)
        text = response.text + str(sorted(response.headers.items()))
        return response.status_code, text.replace(name, "NAME").replace(response.headers.get("date", "-"), "")

    for headers, auth in (({}, None), (bearer(door.token()), None), ({}, ("carol", "c"))):
        assert seen("alice/private", headers, auth) == seen("alice/missing", headers, auth)


# AUTH-27: where credentials may be


def test_auth_27_a_token_comes_in_the_authorization_header(door: Door) -> None:
    door.push("alice/where")
    token = door.token("repository:alice/where:pull", auth=ALICE)
    url = f"{door.url}/v2/alice/where/manifests/v1"

    assert httpx.get(url, headers=bearer(token)).status_code == 200
    assert httpx.get(url, params={"access_token": token, "token": token, "bearer": token}).status_code == 401
    for name in ("Cookie", "X-Registry-Auth", "X-Auth-Token", "Proxy-Authorization", "Token"):
        for value in (token, f"token={token}", f"Bearer {token}"):
            assert httpx.get(url, headers={name: value}).status_code == 401
    for pair in (("alice", token), ("", token), ("token", token), (token, "")):
        assert httpx.get(url, auth=pair).status_code == 401


def test_auth_27_two_authorizations_are_one_too_many(door: Door) -> None:
    token = door.token("repository:public/p:pull")
    for other in (f"Bearer {token}", "Basic YWxpY2U6d29uZGVy", "x"):
        headers = [("Authorization", f"Bearer {token}"), ("authorization", other)]
        assert httpx.get(f"{door.url}/v2/", headers=headers).status_code == 400


# Certificates


def presented(certificate: str | None, headers: dict[str, str] | None = None) -> Presented:
    shown = ClientCertificate(certificate) if certificate else None
    return Presented(headers or {}, "-", shown, Action.PULL)


def test_a_client_certificate_is_a_principal_unless_something_else_is_shown(tmp_path: Path) -> None:
    database = connect(f"sqlite:{tmp_path / 'a.db'}", MIGRATIONS)
    offload = Offload(database)
    deciders = Deciders(People({"bob": "builder"}), Rules([("cert:device", "alice/*", PULL)]), Badges())
    access, _ = build(Settings(auth="local", data=tmp_path), database, offload, deciders)

    async def names() -> list[str]:
        shown = [
            presented("cert:device"),
            presented("unknown"),
            presented(None),
            presented("cert:device", {"authorization": "Basic Ym9iOmJ1aWxkZXI="}),
        ]
        return [(await access.authenticate(each)).principal.name for each in shown]

    device = asyncio.run(access.authenticate(presented("cert:device")))
    assert asyncio.run(names()) == ["cert:device", "", "", "bob"]
    assert access.may(device, Action.PULL, RepositoryName("alice/x"))
    assert not access.may(device, Action.PUSH, RepositoryName("alice/x"))
    access.require(device, None, None)
    offload.close()
    database.close()


def test_auth_30_a_retired_key_is_refused_by_a_running_server(tmp_path: Path) -> None:
    with serving_behind(tmp_path) as door:
        headers = bearer(door.token("repository:public/p:pull"))
        assert httpx.get(f"{door.url}/v2/", headers=headers).status_code == 200
        database = connect(f"sqlite:{tmp_path / 'cargohold.db'}", MIGRATIONS)
        (jwk,) = httpx.get(f"{door.url}/token/jwks").json()["keys"]
        assert database.transaction(lambda db: keys.retire(db, jwk["kid"]))
        database.close()
        # Whoever asks for a token or for keys makes the worker look, as does a second that passes.
        assert jwk not in httpx.get(f"{door.url}/token/jwks").json()["keys"]

        response = httpx.get(f"{door.url}/v2/", headers=headers)
        assert refused(response, challenge(door, error="invalid_token"))
        assert httpx.get(f"{door.url}/v2/", headers=bearer(door.token())).status_code == 200


def test_a_push_by_token_is_written_down_under_its_subject(door: Door) -> None:
    door.push("alice/history", "v7")
    database = connect(f"sqlite:{door.settings.data / 'cargohold.db'}", MIGRATIONS)
    row = database.read(
        lambda db: db.execute("SELECT principal FROM tag_history WHERE name = 'v7'").fetchone()
    )
    database.close()

    assert row == ("alice",)


def test_iso_04_an_upload_is_of_who_began_it(door: Door) -> None:
    door.rules.rows.append(("bob", "shared/*", (Action.PULL, Action.PUSH)))
    door.rules.rows.append(("alice", "shared/*", (Action.PULL, Action.PUSH)))
    scope = "repository:shared/a:pull,push"
    with door.bearing(scope, auth=ALICE) as alice, door.bearing(scope, auth=BOB) as bob:
        location = Repository(alice, "shared/a").begin()
        assert bob.get(location).status_code == 404
        assert bob.patch(location, content=b"x").status_code == 404
        assert alice.patch(location, content=b"x").status_code == 202
