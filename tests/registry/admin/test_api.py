"""What an administrator, and a user, can do over HTTP, and when it counts."""

import uuid
from pathlib import Path

import httpx
import pytest

from tests.registry.admin.stand import ALICE, Stand, standing
from tests.registry.pushing import error_code


def name() -> str:
    return f"x{uuid.uuid4().hex[:10]}"


# Users


def test_makes_a_user_with_a_password(stand: Stand, root: httpx.Client) -> None:
    who = name()
    response = root.post("/users", json={"name": who, "password": "correct horse"})

    assert response.status_code == 201
    assert response.json() == {"name": who, "password": None}
    assert stand.ping((who, "correct horse")) == 200
    user = root.get(f"/users/{who}").json()
    assert user | {"created_at": "", "password_changed_at": "", "last_login_at": ""} == {
        "name": who,
        "is_admin": False,
        "is_disabled": False,
        "created_at": "",
        "password_changed_at": "",
        "last_login_at": "",
    }
    assert user["created_at"].endswith("Z")


def test_makes_a_password_up_and_shows_it_once(stand: Stand, root: httpx.Client) -> None:
    who = name()
    password = root.post("/users", json={"name": who}).json()["password"]

    assert len(password) >= 20
    assert stand.ping((who, password)) == 200
    assert password not in root.get(f"/users/{who}").text
    assert password not in stand.audit.read_text()


def test_knows_a_name_in_whatever_case(root: httpx.Client) -> None:
    response = root.post("/users", json={"name": "ALICE"})

    assert (response.status_code, error_code(response)) == (409, "DENIED")


def test_auth_21_shuts_a_user_out_and_lets_them_in(stand: Stand, root: httpx.Client) -> None:
    auth = stand.user()

    assert root.put(f"/users/{auth[0]}/disabled").status_code == 204
    assert stand.ping(auth) == 401
    assert stand.api(auth).get("/whoami").status_code == 401
    assert root.get(f"/users/{auth[0]}").json()["is_disabled"] is True
    assert root.delete(f"/users/{auth[0]}/disabled").status_code == 204
    assert stand.ping(auth) == 200


def test_makes_an_administrator_and_a_user_again(stand: Stand, root: httpx.Client) -> None:
    auth = stand.user()
    api = stand.api(auth)

    assert api.get("/users").status_code == 403
    assert root.put(f"/users/{auth[0]}/admin").status_code == 204
    assert api.get("/users").status_code == 200
    assert root.delete(f"/users/{auth[0]}/admin").status_code == 204
    assert api.get("/users").status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/users/root"), ("PUT", "/users/root/disabled"), ("DELETE", "/users/root/admin")],
)
def test_keeps_the_last_administrator(root: httpx.Client, method: str, path: str) -> None:
    for user in root.get("/users").json()["users"]:
        if user["is_admin"] and user["name"] != "root":
            assert root.delete(f"/users/{user['name']}").status_code == 204

    response = root.request(method, path)

    assert (response.status_code, error_code(response)) == (409, "DENIED")
    assert root.get("/whoami").json()["is_admin"] is True


def test_auth_19_whoever_is_called_the_same_begins_with_nothing(stand: Stand, root: httpx.Client) -> None:
    auth, group = stand.user(), name()
    rule = {"who": f"user:{auth[0]}", "repository": "left/**", "actions": ["pull"]}
    root.post("/policy/rules", json=rule)
    root.post("/groups", json={"name": group})
    root.put(f"/groups/{group}/members/{auth[0]}")
    root.delete(f"/users/{auth[0]}")
    root.post("/users", json={"name": auth[0], "password": auth[1]})
    question = {"principal": auth[0], "action": "pull", "repository": "left/behind"}

    assert root.post("/policy/explain", json=question).json()["is_allowed"] is False
    assert root.get(f"/groups/{group}").json()["members"] == []


def test_deletes_a_user_with_all_that_speaks_for_them(stand: Stand, root: httpx.Client) -> None:
    auth = stand.user()
    secret = stand.api(auth).post(f"/users/{auth[0]}/tokens", json={}).json()["secret"]
    stand.login(auth[0])
    assert stand.ping((auth[0], secret)) == 200

    assert root.delete(f"/users/{auth[0]}").status_code == 204

    assert stand.ping(auth) == stand.ping((auth[0], secret)) == 401
    assert root.get(f"/users/{auth[0]}/tokens").json() == {"tokens": []}
    assert auth[0] not in root.get("/refresh-tokens?n=1000").text


def test_changes_ones_own_password_by_the_old_one(stand: Stand) -> None:
    auth = stand.user()
    path, new = f"/users/{auth[0]}/password", "a new and better one"
    login = stand.login(auth[0])

    for current in (None, "", "wrong", new):
        body = {"password": new} | ({} if current is None else {"current": current})
        assert stand.api(auth).put(path, json=body).status_code == 403
    assert stand.ping(auth) == 200
    assert stand.api(auth).put(path, json={"password": new, "current": auth[1]}).status_code == 200

    assert (stand.ping(auth), stand.ping((auth[0], new))) == (401, 200)
    assert login not in stand.api().get("/refresh-tokens?n=1000").text


def test_auth_25_slows_guesses_of_the_old_password_down(tmp_path: Path) -> None:
    body = {"password": "a new and better one", "current": "a guess"}
    with standing(tmp_path, most_failures=10) as stand:
        answers = [stand.api(ALICE).put("/users/alice/password", json=body) for _ in range(12)]

    assert [each.status_code for each in answers] == [403] * 10 + [429] * 2
    assert answers[-1].headers["Retry-After"] == "60"


def test_gives_another_user_another_password(stand: Stand, root: httpx.Client) -> None:
    auth = stand.user()
    path = f"/users/{auth[0]}/password"

    assert root.put(path, json={"password": "chosen by root", "current": "x"}).status_code == 400
    assert root.put(path, json={"password": "chosen by root"}).json()["password"] is None
    assert stand.ping((auth[0], "chosen by root")) == 200
    made_up = root.put(path, json={}).json()["password"]
    assert stand.ping((auth[0], made_up)) == 200


def test_says_who_is_asking(stand: Stand, alice: httpx.Client) -> None:
    assert alice.get("/whoami").json() == {"name": "alice", "kind": "user", "is_admin": False, "groups": []}
    robot = stand.api(stand.robot).get("/whoami").json()
    assert robot == {"name": "robot:ci", "kind": "robot", "is_admin": False, "groups": []}
    assert stand.api(stand.scoped).get("/whoami").json()["is_admin"] is False


def test_shows_a_user_themselves(alice: httpx.Client) -> None:
    assert alice.get("/users/alice").json()["name"] == "alice"
    assert alice.get("/users/alice/tokens").status_code == 200
    assert alice.get("/users/nobody").status_code == alice.get("/users/bob").status_code == 403


# Groups


def test_looks_after_groups(stand: Stand, root: httpx.Client) -> None:
    group, auth = name(), stand.user()
    assert root.post("/groups", json={"name": group}).status_code == 201
    assert root.post("/groups", json={"name": group}).status_code == 409

    assert root.put(f"/groups/{group}/members/{auth[0]}").status_code == 204
    assert root.put(f"/groups/{group}/members/{auth[0]}").status_code == 204
    assert root.get(f"/groups/{group}").json() == {"name": group, "members": [auth[0]]}
    assert stand.api(auth).get("/whoami").json()["groups"] == [group]
    assert root.delete(f"/groups/{group}/members/{auth[0]}").status_code == 204
    assert stand.api(auth).get("/whoami").json()["groups"] == []
    assert root.delete(f"/groups/{group}/members/{auth[0]}").status_code == 404
    assert root.delete(f"/groups/{group}").status_code == 204
    assert root.get(f"/groups/{group}").status_code == 404


# Robots and tokens


def test_looks_after_robots(stand: Stand, root: httpx.Client) -> None:
    robot = name()
    made = root.post("/robots", json={"name": robot, "description": "deploys"}).json()
    assert (made["principal"], made["created_by"], made["is_disabled"]) == (f"robot:{robot}", "root", False)
    secret = root.post(f"/robots/{robot}/tokens", json={"description": "first"}).json()["secret"]
    auth = (f"robot:{robot}", secret)

    assert stand.ping(auth) == 200
    assert root.put(f"/robots/{robot}/disabled").status_code == 204
    assert stand.ping(auth) == 401
    assert root.delete(f"/robots/{robot}/disabled").status_code == 204
    assert stand.ping(auth) == 200
    assert [each["description"] for each in root.get(f"/robots/{robot}/tokens").json()["tokens"]] == ["first"]
    assert root.delete(f"/robots/{robot}").status_code == 204
    assert stand.ping(auth) == 401
    assert root.get(f"/robots/{robot}/tokens").status_code == 404


def test_makes_a_personal_token_and_shows_it_once(stand: Stand) -> None:
    auth = stand.user()
    api = stand.api(auth)
    body = {
        "description": "laptop",
        "limits": [{"repository": "team/**", "actions": ["push", "pull"]}],
        "expires_in_seconds": 3600,
    }
    made = api.post(f"/users/{auth[0]}/tokens", json=body)

    assert made.status_code == 201
    token, secret = made.json()["token"], made.json()["secret"]
    assert token["owner"] == auth[0]
    assert token["limits"] == [{"repository": "team/**", "actions": ["pull", "push"]}]
    assert stand.ping((auth[0], secret)) == 200
    listed = api.get("/tokens")
    assert [each["id"] for each in listed.json()["tokens"]] == [token["id"]]
    assert listed.json()["tokens"][0]["last_used_at"] is not None
    assert secret not in listed.text
    assert secret not in stand.audit.read_text()
    assert api.delete(f"/tokens/{token['id']}").status_code == 204
    assert stand.ping((auth[0], secret)) == 401
    assert api.delete(f"/tokens/{token['id']}").status_code == 404


def test_makes_no_token_of_nobody(root: httpx.Client) -> None:
    assert root.post("/users/nobody/tokens", json={}).status_code == 404
    assert root.post("/robots/nobody/tokens", json={}).status_code == 404


def test_tok_03_lists_and_ends_what_clients_keep(stand: Stand) -> None:
    auth = stand.user()
    form = {
        "grant_type": "password",
        "service": "registry.test",
        "client_id": "docker",
        "access_type": "offline",
    }
    form |= {"username": auth[0], "password": auth[1]}
    token = stand.api(None).post(f"{stand.door.url}/token", data=form).json()["refresh_token"]
    (login,) = stand.api(auth).get("/refresh-tokens").json()["refresh_tokens"]
    renewing = {"grant_type": "refresh_token", "service": "registry.test", "client_id": "docker"}
    renewing |= {"refresh_token": token}

    assert (login["principal"], login["client_id"]) == (auth[0], "docker")
    assert stand.api(None).post(f"{stand.door.url}/token", data=renewing).status_code == 200
    assert stand.api(auth).delete(f"/refresh-tokens/{login['id']}").status_code == 204
    assert stand.api(None).post(f"{stand.door.url}/token", data=renewing).status_code == 401
    assert stand.api(auth).get("/refresh-tokens").json() == {"refresh_tokens": []}


# Rules, quotas, keys


def test_adds_a_rule_that_counts_and_explains_it(root: httpx.Client) -> None:
    repository = f"{name()}/app"
    question = {"principal": "alice", "action": "pull", "repository": repository}
    rule = {"who": "user:alice", "repository": repository, "actions": ["pull"]}

    before = root.post("/policy/explain", json=question).json()
    number = root.post("/policy/rules", json=rule).json()["id"]
    after = root.post("/policy/explain", json=question).json()

    assert before["is_allowed"] is False
    assert after["is_allowed"] is True
    assert f"rule {number}" in after["text"]
    listed = [each for each in root.get("/policy/rules?n=1000").json()["rules"] if each["id"] == number]
    assert [each | {"created_at": ""} for each in listed] == [
        {**rule, "id": number, "created_by": "root", "created_at": ""}
    ]
    assert root.delete(f"/policy/rules/{number}").status_code == 204
    assert root.post("/policy/explain", json=question).json()["is_allowed"] is False
    assert root.delete(f"/policy/rules/{number}").status_code == 404


def test_explains_by_the_groups_of_the_moment(root: httpx.Client) -> None:
    group = name()
    root.post("/groups", json={"name": group})
    root.post("/policy/rules", json={"who": f"group:{group}", "repository": "shared/**", "actions": ["pull"]})
    question = {"principal": "bob", "action": "pull", "repository": "shared/app"}

    assert root.post("/policy/explain", json=question).json()["is_allowed"] is False
    root.put(f"/groups/{group}/members/bob")
    assert root.post("/policy/explain", json=question).json()["is_allowed"] is True


def test_looks_after_immutable_tags(root: httpx.Client) -> None:
    number = root.post("/immutable-tags", json={"repository": "team/**", "tags": "v*"}).json()["id"]
    listed = root.get("/immutable-tags").json()["immutable_rules"]

    assert {"id": number, "repository": "team/**", "tags": "v*"} in listed
    assert root.delete(f"/immutable-tags/{number}").status_code == 204
    assert root.delete(f"/immutable-tags/{number}").status_code == 404


def test_looks_after_quotas(root: httpx.Client) -> None:
    pattern = f"{name()}/**"
    for quota in ({"bytes": 1000, "tags": None}, {"bytes": None, "tags": 0}):
        body = {"repository": pattern} | {key: value for key, value in quota.items() if value is not None}
        assert root.put("/quotas", json=body).json() == {"repository": pattern, **quota}
        listed = [each for each in root.get("/quotas").json()["quotas"] if each["repository"] == pattern]
        assert listed == [{"repository": pattern, **quota}]
    assert root.delete("/quotas", params={"repository": pattern}).status_code == 204
    assert root.delete("/quotas", params={"repository": pattern}).status_code == 404


def test_auth_30_rotates_and_retires_keys(stand: Stand, root: httpx.Client) -> None:
    old = root.get("/keys").json()["keys"][0]
    assert old["retires_at"] is None
    new = root.post("/keys", json={}).json()["kid"]

    keys = {each["kid"]: each for each in root.get("/keys").json()["keys"]}
    assert keys[new]["retires_at"] is None
    assert keys[old["kid"]]["retires_at"] is not None
    assert set(keys[new]) == {"kid", "algorithm", "created_at", "retires_at"}
    assert root.delete(f"/keys/{old['kid']}").status_code == 204
    assert root.delete(f"/keys/{old['kid']}").status_code == 404
    published = stand.api(None).get(f"{stand.door.url}/token/jwks").json()["keys"]
    assert old["kid"] not in [each["kid"] for each in published]
    assert new in [each["kid"] for each in published]
