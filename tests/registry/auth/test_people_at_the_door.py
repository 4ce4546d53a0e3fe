"""The people of a real registry: first start, passwords, robots and jobs over HTTP."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import jwt
import pytest

from registry.app import MIGRATIONS
from registry.auth import accounts
from storage.database import Unit, connect
from tests.registry.auth.doors import SERVICE, bearer, serving_local
from tests.registry.auth.issuer import AUDIENCE, ISSUER, RSA_KEY, claims, jwks, sign
from tests.registry.auth.people import T
from tests.registry.pushing import Repository

PASSWORD = "a long password"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
POLICY = [
    {"who": "robot:ci", "repository": "team/**", "allow": ["pull", "push"]},
    {"who": "authenticated", "repository": "{user}/**", "allow": ["admin"]},
    {"who": "group:readers", "repository": "team/**", "allow": ["pull"]},
    {"who": "oidc:github repository_id=74", "repository": "octo/**", "allow": ["pull", "push"]},
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("people")
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    (directory / "htpasswd").write_text("".join(f"user{number}:{stored}\n" for number in range(100)))
    (directory / "jwks.json").write_bytes(jwks(one=RSA_KEY))
    (directory / "oidc.toml").write_text(
        f'[[provider]]\nname = "github"\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\n'
        f'jwks_file = "{directory / "jwks.json"}"\n'
    )
    return directory


@pytest.fixture(scope="module")
def url(directory: Path) -> Iterator[str]:
    with serving_local(
        directory / "data",
        policy=POLICY,
        anonymous_pull=False,
        htpasswd=directory / "htpasswd",
        oidc_providers=directory / "oidc.toml",
    ) as (running, _):
        yield running


def do(directory: Path, unit: Unit[T]) -> T:
    """Change the database beside the server, as `cargohold user` does."""
    database = connect(f"sqlite:{directory / 'data' / 'cargohold.db'}", MIGRATIONS)
    try:
        return database.transaction(unit)
    finally:
        database.close()


def granted(url: str, auth: tuple[str, str], scope: str) -> list[str]:
    response = httpx.get(f"{url}/token", params={"service": SERVICE, "scope": scope}, auth=auth)
    assert response.status_code == 200, response.text
    return actions(response.json()["token"])


def actions(token: str) -> list[str]:
    access = jwt.decode(token, options={"verify_signature": False})["access"]
    return [action for entry in access for action in entry["actions"]]


def exchange(url: str, id_token: str, **more: str) -> httpx.Response:
    form = {
        "grant_type": EXCHANGE,
        "service": SERVICE,
        "scope": "repository:octo/app:pull,push",
        "subject_token": id_token,
        "subject_token_type": ID_TOKEN,
    }
    return httpx.post(f"{url}/token", data=form | more)


def test_OPS_01_prints_the_first_password_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving_local(tmp_path / "data") as (url, _):
        printed = capfd.readouterr().err
        password = printed.split("with the password ")[1].split()[0]
        assert httpx.get(f"{url}/v2/", auth=("admin", password)).status_code == 200
        assert httpx.get(f"{url}/v2/", auth=("admin", "admin")).status_code == 401
    with serving_local(tmp_path / "data"):
        assert "password" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "auth",
    [
        pytest.param(("robot$ci", "{}"), id="dollar"),
        pytest.param(("robot:ci", "{}"), id="colon"),
    ],
)
def test_a_robot_comes_in_by_basic(url: str, directory: Path, auth: tuple[str, str]) -> None:
    def make(db: Any) -> str:
        accounts.delete_robot(db, "ci") if db.execute("SELECT 1 FROM robot").fetchone() else None
        accounts.create_robot(db, "ci", "", "root")
        return accounts.issue_secret(db, ("robot", "ci"), "").text

    name, secret = auth[0], auth[1].format(do(directory, make))

    assert granted(url, (name, secret), "repository:team/app:pull,push") == ["pull", "push"]
    with httpx.Client(base_url=url, auth=(name, secret)) as client:
        Repository(client, "team/app").push_image("v1")


def test_TOK_05_a_user_of_the_file_owns_their_name_and_has_groups(url: str, directory: Path) -> None:
    def join(db: Any) -> None:
        accounts.create_group(db, "readers")
        accounts.add_member(db, "readers", "user1")

    do(directory, join)
    auth = ("user1", PASSWORD)

    assert granted(url, auth, "repository:user1/app:pull,push") == ["pull", "push"]
    assert granted(url, auth, "repository:user2/app:pull,push") == []
    assert granted(url, auth, "repository:team/app:pull,push") == ["pull"]
    do(directory, lambda db: accounts.remove_member(db, "readers", "user1"))
    assert granted(url, auth, "repository:team/app:pull,push") == []


def test_TOK_08_a_job_exchanges_its_id_token_for_a_short_one(url: str) -> None:
    response = exchange(url, sign(claims()), access_type="offline")

    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["expires_in"] <= 300
    assert answer.get("refresh_token") is None
    assert actions(answer["access_token"]) == ["pull", "push"]
    with httpx.Client(base_url=url, headers=bearer(answer["access_token"])) as client:
        Repository(client, "octo/app").push_image("v1")


def test_TOK_08_a_job_of_another_repository_gets_nothing(url: str) -> None:
    response = exchange(url, sign(claims(repository_id="75", repository_owner_id="66")))

    assert actions(response.json()["access_token"]) == []


def test_TOK_08_a_pull_request_pulls_only(url: str) -> None:
    response = exchange(url, sign(claims(event_name="pull_request")))

    assert actions(response.json()["access_token"]) == ["pull"]


def test_TOK_08_an_id_token_is_exchanged_once(url: str) -> None:
    token = sign(claims())

    assert [exchange(url, token).status_code for _ in range(2)] == [200, 401]


def test_TOK_08_skopeo_logs_in_with_an_id_token_as_its_password(url: str) -> None:
    """podman and skopeo send the password with every token call; docker wants no refresh token either."""
    auth = ("oidc", sign(claims()))

    for _ in range(2):
        assert granted(url, auth, "repository:octo/app:pull,push") == ["pull", "push"]
    offline = httpx.get(f"{url}/token", params={"offline_token": "true"}, auth=auth).json()
    assert "refresh_token" not in offline or not offline["refresh_token"]


def test_AUTH_07_an_id_token_is_no_access_token(url: str) -> None:
    assert httpx.get(f"{url}/v2/", headers=bearer(sign(claims()))).status_code == 401


def test_AUTH_25_a_hundred_logins_leave_pulls_answering(url: str) -> None:
    with httpx.Client(base_url=url, auth=("user0", PASSWORD)) as client:
        Repository(client, "user0/app").push_image("v1")
    token = httpx.get(
        f"{url}/token", params={"scope": "repository:user0/app:pull"}, auth=("user0", PASSWORD)
    ).json()["token"]
    first, done = threading.Event(), []

    def log_in(number: int) -> int:
        status = httpx.get(f"{url}/token", auth=(f"user{number}", PASSWORD), timeout=50).status_code
        done.append(number)
        first.set()
        return status

    with ThreadPoolExecutor(100) as threads, httpx.Client(base_url=url, headers=bearer(token)) as client:
        logins = [threads.submit(log_in, number) for number in range(100)]
        assert first.wait(30)
        pulls = [client.get("/v2/user0/app/manifests/v1").status_code for _ in range(10)]
        still_waiting = 100 - len(done)
        statuses = [login.result() for login in logins]

    assert pulls == [200] * 10
    assert still_waiting > 0
    assert statuses == [200] * 100


def test_AUTH_25_counts_basic_on_both_doors_together(tmp_path: Path) -> None:
    with serving_local(tmp_path / "data") as (url, _):
        for number in range(10):
            path = "/token" if number % 2 else "/v2/"
            assert httpx.get(url + path, auth=("admin", f"guess {number}")).status_code == 401

        for path in ("/token", "/v2/"):
            response = httpx.get(url + path, auth=("admin", "another guess"))
            assert response.status_code == 429
            assert response.headers["Retry-After"] == "60"
        # What needs no password goes on.
        assert httpx.get(f"{url}/token").status_code == 200
