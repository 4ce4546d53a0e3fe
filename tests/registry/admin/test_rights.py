"""Who may send what to the admin API: every row of its table, for every kind of caller."""

from pathlib import Path

import httpx
import pytest

from registry.endpoints.admin.asking import Right
from registry.endpoints.admin.operation import Operation
from registry.endpoints.admin.table import OPERATIONS
from registry.settings import Settings
from tests.registry.admin.stand import ALICE, SAMPLES, Auth, Stand
from tests.registry.auth.doors import bearer
from tests.registry.conftest import serving
from tests.registry.pushing import error_code

ROWS = [pytest.param(each, id=f"{each.method} {each.path}") for each in OPERATIONS]


def send(
    stand: Stand, operation: Operation, auth: Auth | None, headers: dict[str, str] | None = None
) -> httpx.Response:
    sample = SAMPLES[operation.id]
    return stand.api(auth).request(
        operation.method,
        operation.path.format(**sample.path),
        params=dict(sample.query),
        json=sample.body,
        headers=headers,
    )


def test_has_a_sample_of_every_row() -> None:
    assert {each.id for each in OPERATIONS} == set(SAMPLES)
    assert len({each.id for each in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize("operation", ROWS)
def test_auth_19_tells_the_anonymous_to_log_in(stand: Stand, operation: Operation) -> None:
    response = send(stand, operation, None)

    assert response.status_code == 401
    assert error_code(response) == "UNAUTHORIZED"
    assert response.headers.get_list("WWW-Authenticate") == ['Basic realm="registry.test",charset="UTF-8"']


@pytest.mark.parametrize("operation", ROWS)
def test_auth_22_tells_a_wrong_password_the_same(stand: Stand, operation: Operation) -> None:
    response = send(stand, operation, None, headers={"Authorization": "Basic !"})

    assert response.status_code == 401
    assert response.headers.get_list("WWW-Authenticate") == ['Basic realm="registry.test",charset="UTF-8"']


@pytest.mark.parametrize("operation", ROWS)
def test_auth_07_takes_no_access_token(stand: Stand, operation: Operation) -> None:
    token = stand.door.token("registry:catalog:*", auth=("root", "toor toor"))

    assert send(stand, operation, None, headers=bearer(token)).status_code == 401


@pytest.mark.parametrize("operation", ROWS)
def test_auth_19_lets_a_user_do_what_is_their_own(stand: Stand, operation: Operation) -> None:
    response = send(stand, operation, ALICE)

    if operation.right in (Right.ADMIN, Right.SELF):
        assert (response.status_code, error_code(response)) == (403, "DENIED")
    else:
        assert response.status_code in (200, 404)


@pytest.mark.parametrize("operation", ROWS)
@pytest.mark.parametrize("who", ["robot", "scoped"])
def test_auth_19_a_lesser_credential_makes_no_better_one(
    stand: Stand, operation: Operation, who: str
) -> None:
    response = send(stand, operation, getattr(stand, who))

    assert response.status_code == (200 if operation.right is Right.ANYBODY else 403)


@pytest.mark.parametrize("operation", ROWS)
def test_lets_an_administrator_do_everything(stand: Stand, operation: Operation) -> None:
    response = send(stand, operation, ("root", "toor toor"))

    path = SAMPLES[operation.id].path
    is_there = (
        path.get("name") in ("bob", "ci") if path else not SAMPLES[operation.id].query.get("repository")
    )
    assert response.status_code == (
        (204 if operation.answer is None else operation.status) if is_there else 404
    )
    if is_there:
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/users", id="collection"),
        pytest.param("/users/alice", id="item"),
        pytest.param("/quotas", id="put-and-delete"),
    ],
)
def test_answers_other_methods_with_those_there_are(root: httpx.Client, path: str) -> None:
    there = {each.method for each in OPERATIONS if each.match(path[1:].split("/")) is not None}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - there:
        response = root.request(method, path)
        assert response.status_code == 405
        named = set(response.headers["Allow"].split(", "))
        assert named == there | ({"HEAD"} if "GET" in there else set())


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/users/",
        "/users/a/b",
        "/Users",
        "//users",
        "/users/alice/",
        "/openapi.yaml",
        "/%75sers",
    ],
)
def test_knows_no_other_paths(root: httpx.Client, path: str) -> None:
    assert root.get(f"{root.base_url}"[:-1] + path).status_code == 404


def test_a_slash_in_a_name_separates_nothing(root: httpx.Client) -> None:
    assert root.get("/users/alice%2Ftokens").status_code == 404
    assert root.get("/users/%ff").status_code == 400
    assert root.get("/users/%61lice").json()["name"] == "alice"


def test_a_token_without_limits_is_its_owner(stand: Stand) -> None:
    auth = stand.user(is_admin=True)
    secret = stand.api(auth).post(f"/users/{auth[0]}/tokens", json={}).json()["secret"]
    with_token = stand.api((auth[0], secret))

    assert with_token.get("/users").status_code == 200
    # Who found it must not lock its owner out.
    body = {"password": "the finder's password", "current": secret}
    assert with_token.put(f"/users/{auth[0]}/password", json=body).status_code == 403
    assert stand.ping(auth) == 200


def test_auth_19_others_tokens_are_not_there(stand: Stand, root: httpx.Client, alice: httpx.Client) -> None:
    token = root.post("/users/bob/tokens", json={"description": "bob's"}).json()["token"]["id"]
    login = stand.login("bob")

    for path in (f"/tokens/{token}", f"/refresh-tokens/{login}", "/tokens/0000", "/refresh-tokens/0000"):
        response = alice.delete(path)
        assert (response.status_code, error_code(response)) == (404, "NAME_UNKNOWN")
    assert {each["owner"] for each in alice.get("/tokens").json()["tokens"]} <= {"alice"}
    assert {each["principal"] for each in alice.get("/refresh-tokens").json()["refresh_tokens"]} <= {"alice"}
    assert token in [each["id"] for each in root.get("/tokens").json()["tokens"]]
    assert root.delete(f"/tokens/{token}").status_code == 204
    assert root.delete(f"/refresh-tokens/{login}").status_code == 204


@pytest.mark.parametrize(
    "member",
    ["is_admin", "is_disabled", "id", "owner", "owner_name", "created_by", "password_hash", "__class__"],
)
@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.body], ids=lambda each: each.id)
def test_auth_19_refuses_members_that_are_not_the_callers_to_say(
    stand: Stand, operation: Operation, member: str
) -> None:
    sample = SAMPLES[operation.id]
    response = stand.api().request(
        operation.method,
        operation.path.format(**sample.path),
        json={**(sample.body or {}), member: True},
    )

    assert response.status_code == 400
    assert response.json()["errors"][0]["detail"]["faults"] == [
        {"where": member, "what": "Extra inputs are not permitted"}
    ]


def test_is_not_there_without_accounts(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, access_log=False, collect_every_seconds=0)
    with serving(settings) as url:
        assert httpx.get(f"{url}/api/v1/users").status_code == 404
        assert httpx.get(f"{url}/api/v1/openapi.json").status_code == 200


def test_answers_head_as_get_without_the_body(root: httpx.Client) -> None:
    response = root.head("/users/alice")

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Length"] == root.get("/users/alice").headers["Content-Length"]


def test_auth_27_takes_one_authorization(stand: Stand) -> None:
    twice = [("Authorization", "Basic cm9vdDp0b29yIHRvb3I=")] * 2

    assert stand.api(None).get("/whoami", headers=twice[:1]).json()["name"] == "root"
    assert stand.api(None).get("/whoami", headers=twice).status_code == 400
