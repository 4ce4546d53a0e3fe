"""/token as clients ask it: GET with Basic, POST with a form; what they get, and what they do not."""

import json
import time
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from registry.auth.access import Action, Limit
from registry.auth.guard import Deciders
from tests.registry.auth.asking import (
    ALICE,
    BOB,
    access_of,
    ask,
    claims_of,
    login,
    post,
    post_password,
    refresh,
)
from tests.registry.auth.doors import ALL, SERVICE, Cut, Door, People, Rules, bearer, serving_behind

BASIC_CHALLENGE = f'Basic realm="{SERVICE}",charset="UTF-8"'


# TOK-01: the two forms


def test_tok_01_a_get_answers_as_the_document_says(door: Door) -> None:
    response = ask(door, "repository:alice/a:push,pull", auth=ALICE, service=SERVICE, account="alice")

    answer, claims = response.json(), claims_of(response)
    assert answer.keys() == {"token", "access_token", "expires_in", "issued_at"}
    assert answer["token"] == answer["access_token"]
    assert answer["expires_in"] == 300 == claims["exp"] - claims["iat"]
    assert datetime.fromisoformat(answer["issued_at"]).timestamp() == claims["iat"]
    assert abs(claims["iat"] - time.time()) < 5
    assert (claims["iss"], claims["sub"], claims["aud"]) == (door.url, "alice", SERVICE)
    assert claims["nbf"] == claims["iat"]
    assert claims["access"] == [{"type": "repository", "name": "alice/a", "actions": ["pull", "push"]}]
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Type"] == "application/json"


def test_tok_01_a_post_also_tells_the_scope(door: Door) -> None:
    response = post_password(door, scope="repository:alice/a:pull,push repository(plugin):public/b:pull")

    assert response.json().keys() == {"token", "access_token", "expires_in", "issued_at", "scope"}
    assert response.json()["scope"] == "repository:alice/a:pull,push repository:public/b:pull"
    assert access_of(response) == {"repository:alice/a": ["pull", "push"], "repository:public/b": ["pull"]}
    assert response.headers["Cache-Control"] == "no-store"


def test_tok_01_a_form_may_come_in_chunks_as_podman_sends_it(door: Door) -> None:
    form = b"grant_type=password&username=alice&password=wonder&scope=repository:alice/a:pull"
    response = httpx.post(
        f"{door.url}/token",
        content=iter([form[:10], form[10:11], form[11:]]),
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    )

    assert response.request.headers["Transfer-Encoding"] == "chunked"
    assert access_of(response) == {"repository:alice/a": ["pull"]}


@pytest.mark.parametrize(
    ("scopes", "access"),
    [
        ((), {}),
        (("",), {}),
        (("repository:alice/a:push,pull",), {"alice/a": ["pull", "push"]}),
        (
            ("repository:alice/a:pull,push repository:public/b:pull",),
            {"alice/a": ["pull", "push"], "public/b": ["pull"]},
        ),
        (
            ("repository:alice/a:pull", "repository:public/b:pull"),
            {"alice/a": ["pull"], "public/b": ["pull"]},
        ),
        (("repository:alice/a:pull", "repository:alice/a:push"), {"alice/a": ["pull", "push"]}),
        (("repository(plugin):alice/a:pull",), {"alice/a": ["pull"]}),
        (("repository:alice/a:*",), {"alice/a": ["pull", "push", "delete"]}),
        (("repository:alice/a:delete",), {"alice/a": ["delete"]}),
        (("repository:alice/a:pull", "nonsense", "repository:A:pull"), {"alice/a": ["pull"]}),
        (("repository:alice/a:tag,admin,pull",), {"alice/a": ["pull"]}),
        (("repository:alice/a:admin",), {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_tok_01_auth_12_scopes_come_in_many_forms(
    door: Door, method: str, scopes: tuple[str, ...], access: dict[str, list[str]]
) -> None:
    if method == "GET":
        response = ask(door, *scopes, auth=ALICE)
    else:
        response = post_password(door, scope=" ".join(scopes))

    assert access_of(response) == {f"repository:{name}": actions for name, actions in access.items()}


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        pytest.param({"grant_type": "client_credentials"}, 400, "unsupported_grant_type", id="unknown-grant"),
        pytest.param({"grant_type": "authorization_code"}, 400, "unsupported_grant_type", id="reserved"),
        pytest.param({"scope": ""}, 400, "invalid_request", id="no-grant"),
        pytest.param(
            {"grant_type": "password", "username": "alice"}, 400, "invalid_request", id="no-password"
        ),
        pytest.param({"grant_type": "password", "password": "wonder"}, 400, "invalid_request", id="no-name"),
        pytest.param({"grant_type": "refresh_token"}, 400, "invalid_request", id="no-token"),
        pytest.param(
            {"grant_type": "refresh_token", "refresh_token": "x"}, 401, "invalid_grant", id="bad-token"
        ),
        pytest.param({"service": "other.example"}, 400, "invalid_request", id="other-service"),
    ],
)
def test_tok_01_errors_are_json(door: Door, form: dict[str, str], status: int, error: str) -> None:
    response = post(door, **form)

    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.json()["error_description"] == response.json()["errors"][0]["message"]
    assert response.headers["Cache-Control"] == "no-store"


def test_tok_01_a_service_that_is_not_ours_is_refused(door: Door) -> None:
    response = ask(door, auth=ALICE, service="other.example")

    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/json"
    assert "token" not in response.json()


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"grant_type=password&grant_type=password&username=alice&password=wonder", None, 400),
        (b"grant_type=password&username=alice&username=bob&password=wonder", None, 400),
        (b"grant_type=password&username=alice&password=%ff", None, 400),
        (b"&".join(b"a%d=1" % number for number in range(300)), None, 400),
        (b"a=" + b"x" * 70_000, None, 400),
        (b"\xff\xfe", None, 400),
        (b'{"grant_type":"password","username":"alice","password":"wonder"}', "application/json", 415),
        (b"grant_type=password&username=alice&password=wonder", "text/plain", 415),
    ],
)
def test_tok_01_a_form_that_is_none_is_refused(
    door: Door, body: bytes, content_type: str | None, status: int
) -> None:
    headers = {"Content-Type": content_type or "application/x-www-form-urlencoded"}

    assert httpx.post(f"{door.url}/token", content=body, headers=headers).status_code == status


# AUTH-13: no more than asked, no more than granted


def test_auth_13_what_is_issued_was_asked_and_granted(door: Door) -> None:
    wanted = ("repository:alice/a:pull,push,delete", "repository:public/p:pull,push", "repository:x:pull")

    assert access_of(ask(door, *wanted, auth=ALICE)) == {
        "repository:alice/a": ["pull", "push", "delete"],
        "repository:public/p": ["pull", "push"],
    }
    assert access_of(ask(door, *wanted, auth=BOB)) == {
        "repository:alice/a": ["pull"],
        "repository:public/p": ["pull"],
    }
    assert access_of(ask(door, *wanted)) == {"repository:public/p": ["pull"]}
    assert access_of(ask(door, "repository:alice/a:*", auth=BOB)) == {"repository:alice/a": ["pull"]}
    assert claims_of(ask(door, auth=ALICE))["access"] == []


def test_auth_13_a_scoped_credential_has_what_it_and_the_rules_allow(tmp_path: Path) -> None:
    limits: tuple[Limit, ...] = (
        Cut("team/*", (Action.PULL, Action.TAG_CREATE)),
        Cut("other/*", ALL),
        Cut("team/free", ALL),
    )
    people = People({"ci": "secret"}, {"ci": limits}, principals={"ci": "robot:ci"})
    rules = Rules([("robot:ci", "team/*", ALL), ("robot:ci", "mine/*", ALL)])
    with serving_behind(tmp_path, Deciders(people, rules)) as door:
        wanted = [f"repository:{name}:*" for name in ("team/a", "team/free", "other/a", "mine/a")]
        response = ask(door, *wanted, auth=("ci", "secret"))
        form = {"grant_type": "password", "username": "ci", "password": "secret"}
        told = post(door, **form, scope="repository:team/a:push").json()["scope"]

    assert access_of(response) == {
        "repository:team/a": ["pull", "tag-create"],
        "repository:team/free": ["pull", "push", "delete"],
    }
    assert told == "repository:team/a:push", "in a word that clients know"


def test_auth_15_the_catalog_is_for_who_can_be_found_again(door: Door) -> None:
    assert access_of(ask(door, "registry:catalog:*", auth=ALICE)) == {"registry:catalog": ["*"]}
    for other in (
        "registry:catalog:pull",
        "registry:other:*",
        "registry(x):catalog:",
        "repository:catalog:*",
    ):
        assert access_of(ask(door, other, auth=ALICE)) == {}
    assert access_of(ask(door, "registry:catalog:*")) == {}


# AUTH-22: anonymous, and wrong


def test_auth_22_without_credentials_a_token_is_anonymous(door: Door) -> None:
    response = ask(door, "repository:public/p:pull,push", "repository:alice/a:pull", account="alice")

    assert claims_of(response)["sub"] == ""
    assert access_of(response) == {"repository:public/p": ["pull"]}


@pytest.mark.parametrize(
    "authorization",
    [
        *(
            "Basic YWxpY2U6d3Jvbmc=",
            "Basic bm9ib2R5Ong=",
            "Basic Og==",
            "Basic",
            "Basic !",
            "Basic YWxpY2U=",
        ),
        *("basic YWxpY2U6d3Jvbmc=", "Bearer x", "Digest x", "", "YWxpY2U6d29uZGVy"),
        "Basic YWxpY2U6d29uZGVy YWxpY2U6d29uZGVy",
    ],
)
def test_auth_22_wrong_credentials_are_never_anonymous(door: Door, authorization: str) -> None:
    response = httpx.get(
        f"{door.url}/token?scope=repository:public/p:pull",
        headers={"Authorization": authorization},
    )

    assert response.status_code == 401
    assert response.headers.get_list("WWW-Authenticate") == [BASIC_CHALLENGE]
    assert response.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "form", [{"password": "wrong"}, {"username": "nobody"}, {"username": "", "password": ""}]
)
def test_auth_22_a_wrong_form_is_never_anonymous(door: Door, form: dict[str, str]) -> None:
    response = post_password(door, scope="repository:public/p:pull", **form)

    assert (response.status_code, response.json()["error"]) == (401, "invalid_grant")


def test_auth_27_two_authorizations_are_refused(door: Door) -> None:
    headers = [("Authorization", "Basic YWxpY2U6d29uZGVy"), ("Authorization", "Basic Ym9iOmJ1aWxkZXI=")]

    assert httpx.get(f"{door.url}/token", headers=headers).status_code == 400


def test_an_id_token_is_exchanged(tmp_path: Path) -> None:
    people = People({"ci": "id token"}, without_handle={"ci"}, principals={"ci": "oidc:ci"})
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "id token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "scope": "repository:built/a:pull,push",
    }
    with serving_behind(tmp_path, Deciders(people, Rules([("oidc:ci", "built/*", ALL)]))) as door:
        response = post(door, **form, access_type="offline")
        wrong = [
            post(door, **form | change)
            for change in (
                {"subject_token": "another"},
                {"subject_token_type": "urn:ietf:params:oauth:token-type:access_token"},
            )
        ]

    assert claims_of(response)["sub"] == "oidc:ci"
    assert access_of(response) == {"repository:built/a": ["pull", "push"]}
    assert response.json()["token_type"] == "Bearer"
    assert response.json()["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert "refresh_token" not in response.json()
    assert [each.status_code for each in wrong] == [401, 400]


def test_ops_11_an_issued_token_is_in_the_audit_log(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    with serving_behind(tmp_path, audit_log=str(log)) as door:
        response = ask(door, "repository:alice/a:pull", auth=ALICE)
        ask(door, auth=("alice", "wrong"))

    issued, failed = map(json.loads, log.read_text().splitlines())
    assert (issued["audit"], issued["outcome"], issued["user"]) == ("token.issue", "done", "alice")
    assert (issued["jti"], issued["scopes"]) == (claims_of(response)["jti"], ["repository:alice/a:pull"])
    assert (failed["audit"], failed["outcome"], failed["account"]) == ("login", "refused", "alice")
    assert failed["user"] == ""


@pytest.mark.parametrize("seconds", [60, 3600])
def test_auth_21_tokens_live_as_long_as_is_configured(tmp_path: Path, seconds: int) -> None:
    with serving_behind(tmp_path, token_seconds=seconds) as door:
        assert ask(door).json()["expires_in"] == seconds


def test_ops_02_a_login_is_written_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with serving_behind(tmp_path, access_log=True) as door:
        token = login(door)
        access = refresh(door, token).json()["token"]
        httpx.get(f"{door.url}/v2/", headers=bearer(access))
        post_password(door, password="canary-password")
        httpx.get(f"{door.url}/v2/", headers=bearer("canary-token"))
        metrics = httpx.get(f"{door.url}/metrics").text
    written = "".join(capfd.readouterr()) + caplog.text + metrics

    assert '"path":"/token"' in written
    for secret in ("wonder", "canary", token, access, "YWxpY2U6"):
        assert secret not in written
