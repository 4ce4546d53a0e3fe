"""What the admin API does not take."""

from typing import Any

import httpx
import pytest

from registry.endpoints.admin.reading import BODY_LIMIT
from tests.registry.admin.stand import Stand
from tests.registry.pushing import error_code

RULE = {"who": "user:alice", "repository": "team/**", "actions": ["pull"]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/users", {}, id="nothing-of-it"),
        pytest.param("/users", {"name": "", "password": "a long password"}, id="empty-name"),
        pytest.param("/users", {"name": "a" * 129}, id="long-name"),
        pytest.param("/users", {"name": "a/b"}, id="slash"),
        pytest.param("/users", {"name": "robot:ci"}, id="robots-name"),
        pytest.param("/users", {"name": "anonymous"}, id="reserved-name"),
        pytest.param("/users", {"name": "x\u0000y"}, id="nul-in-name"),
        pytest.param("/users", {"name": "jos\u00e9"}, id="not-ascii"),
        pytest.param("/users", {"name": 5}, id="number-for-a-name"),
        pytest.param("/users", {"name": ["a"]}, id="list-for-a-name"),
        pytest.param("/users", {"name": "carol", "password": ""}, id="empty-password"),
        pytest.param("/users", {"name": "carol", "password": "short"}, id="short-password"),
        pytest.param("/users", {"name": "carol", "password": "p" * 1025}, id="long-password"),
        pytest.param("/users", {"name": "carol", "password": "nul\u0000 in it"}, id="nul-in-password"),
        pytest.param("/users", {"name": "carol", "password": "\u00e9" * 600}, id="password-of-many-bytes"),
        pytest.param("/users", {"name": "carol", "password": 12345678}, id="number-for-a-password"),
        pytest.param("/users", {"Name": "carol"}, id="other-case"),
        pytest.param("/users", [{"name": "carol"}], id="list"),
        pytest.param("/users", "carol", id="string"),
        pytest.param("/groups", {"name": "a b"}, id="space-in-group"),
        pytest.param("/robots", {"name": "r", "description": "x" * 501}, id="long-description"),
        pytest.param("/robots", {"name": "r", "description": "a\u001b[31mb"}, id="escape-in-description"),
        pytest.param("/users/bob/tokens", {"limits": []}, id="no-limit"),
        pytest.param("/users/bob/tokens", {"limits": [{"repository": "a", "actions": []}]}, id="no-action"),
        pytest.param(
            "/users/bob/tokens", {"limits": [{"repository": "a", "actions": ["admin"]}]}, id="admin-token"
        ),
        pytest.param(
            "/users/bob/tokens", {"limits": [{"repository": "A", "actions": ["pull"]}]}, id="bad-pattern"
        ),
        pytest.param(
            "/users/bob/tokens",
            {"limits": [{"repository": "a", "actions": ["pull"], "user": "root"}]},
            id="member-in-limit",
        ),
        pytest.param("/users/bob/tokens", {"expires_in_seconds": 0}, id="expired"),
        pytest.param("/users/bob/tokens", {"expires_in_seconds": 1.5}, id="fraction"),
        pytest.param("/users/bob/tokens", {"expires_in_seconds": True}, id="bool-for-a-number"),
        pytest.param("/users/bob/tokens", {"expires_in_seconds": "60"}, id="string-for-a-number"),
        pytest.param("/users/bob/tokens", {"expires_in_seconds": 10**10}, id="too-long"),
        pytest.param("/policy/rules", {**RULE, "who": "alice"}, id="who-without-kind"),
        pytest.param("/policy/rules", {**RULE, "who": "oidc:github ref=main"}, id="everybodys-main"),
        pytest.param("/policy/rules", {**RULE, "repository": "team/(a+)+"}, id="regular-expression"),
        pytest.param("/policy/rules", {**RULE, "actions": ["push", "sudo"]}, id="unknown-action"),
        pytest.param("/policy/rules", {**RULE, "actions": "pull"}, id="string-for-a-list"),
        pytest.param("/policy/rules", {**RULE, "created_by": "alice"}, id="created-by"),
        pytest.param(
            "/policy/explain",
            {"principal": "group:team", "action": "pull", "repository": "a"},
            id="group-asks",
        ),
        pytest.param("/immutable-tags", {"repository": "team/**", "tags": "v/1"}, id="slash-in-tags"),
        pytest.param("/immutable-tags", {"repository": "{user}/**", "tags": "*"}, id="user-in-immutable"),
        pytest.param("/keys", {"algorithm": "none"}, id="algorithm"),
    ],
)
def test_auth_19_refuses(root: httpx.Client, path: str, body: Any) -> None:
    response = root.post(path, json=body)

    assert response.status_code == 400
    assert error_code(response) == "UNSUPPORTED"
    assert root.get("/users/carol").status_code == 404


def test_refuses_to_explain_what_is_no_repository(root: httpx.Client) -> None:
    response = root.post(
        "/policy/explain", json={"principal": "alice", "action": "pull", "repository": "a//b"}
    )

    assert (response.status_code, error_code(response)) == (400, "NAME_INVALID")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"repository": "team/**"}, id="no-limit"),
        pytest.param({"repository": "team/**", "bytes": -1}, id="negative"),
        pytest.param({"repository": "team/**", "bytes": 2**63}, id="more-than-64-bits"),
        pytest.param({"repository": "team/**", "tags": 1e3}, id="float"),
        pytest.param({"repository": "", "tags": 1}, id="no-pattern"),
    ],
)
def test_refuses_a_quota_of(root: httpx.Client, body: dict[str, Any]) -> None:
    assert root.put("/quotas", json=body).status_code == 400


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param(b'{"name":"carol","name":"root"}', "application/json", 400, id="named-twice"),
        pytest.param(b'{"name":"carol"', "application/json", 400, id="cut"),
        pytest.param(b"", "application/json", 400, id="empty"),
        pytest.param(b'{"name":"car\xff"}', "application/json", 400, id="no-utf8"),
        pytest.param(b'{"name":"\\ud800"}', "application/json", 400, id="lone-surrogate"),
        pytest.param(b'{"name":NaN}', "application/json", 400, id="nan"),
        pytest.param(b"null", "application/json", 400, id="null"),
        pytest.param(b"[" * 5000, "application/json", 400, id="deep"),
        pytest.param(b'{"name":"' + b"x" * BODY_LIMIT + b'"}', "application/json", 400, id="large"),
        pytest.param(b'{"name":"carol"}', "text/plain", 415, id="what-a-form-of-any-page-can-send"),
        pytest.param(b"name=carol", "application/x-www-form-urlencoded", 415, id="form"),
        pytest.param(b'{"name":"carol"}', "application/jsonp", 415, id="other-json"),
    ],
)
def test_reads_json_alone(root: httpx.Client, body: bytes, content_type: str, status: int) -> None:
    response = root.post("/users", content=body, headers={"Content-Type": content_type})

    assert response.status_code == status
    assert root.get("/users/carol").status_code == 404


def test_reads_json_that_is_sent_in_chunks(root: httpx.Client) -> None:
    parts = iter([b'{"na', b'me": "chunked-', b'crew"}'])
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}

    assert root.post("/groups", content=parts, headers=headers).json() == {
        "name": "chunked-crew",
        "members": [],
    }


@pytest.mark.parametrize(
    ("path", "query"),
    [
        pytest.param("/users", "n=0", id="none"),
        pytest.param("/users", "n=1001", id="too-many"),
        pytest.param("/users", "n=-1", id="negative"),
        pytest.param("/users", "n=1.0", id="fraction"),
        pytest.param("/users", "n=%D9%A1", id="other-digits"),
        pytest.param("/users", "n=1_0", id="underscore"),
        pytest.param("/users", "n=", id="empty"),
        pytest.param("/users", "n=1&n=2", id="twice"),
        pytest.param("/users", "sort=password_hash", id="ops-07-sort"),
        pytest.param("/users", "last=" + "x" * 257, id="long-last"),
        pytest.param("/policy/rules", "last=x", id="no-number"),
        pytest.param("/policy/rules", "last=9223372036854775808", id="more-than-64-bits"),
        pytest.param("/whoami", "as=root", id="where-none-is"),
        pytest.param("/keys", "n=1", id="list-without-pages"),
    ],
)
def test_refuses_the_query(root: httpx.Client, path: str, query: str) -> None:
    assert root.get(f"{path}?{query}").status_code == 400


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "0x1", "%C2%B2", "9" * 19])
def test_refuses_a_rule_of_no_number(root: httpx.Client, number: str) -> None:
    assert root.delete(f"/policy/rules/{number}").status_code == 400
    assert root.delete(f"/immutable-tags/{number}").status_code == 400


def test_ops_02_repeats_nothing_of_a_password(root: httpx.Client, stand: Stand) -> None:
    canary = "c4n4ry"
    for body in (
        {"name": "carol", "password": [canary]},
        {"name": "carol", "password": canary},
        {"name": "carol", "pass": canary},
        {"name": "carol", "password": canary * 500},
        {"name": "root", "password": f"{canary} {canary}"},
    ):
        response = root.post("/users", json=body)
        assert response.status_code in (400, 409)
        assert canary not in response.text
    assert canary not in stand.audit.read_text()
