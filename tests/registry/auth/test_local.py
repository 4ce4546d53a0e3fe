"""The whole of `auth = local` with its own people and rules: what an operator configures is what happens."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import argon2
import bcrypt
import httpx
import pytest

from registry import self_test
from registry.app import MIGRATIONS, create_app
from registry.auth import accounts
from registry.auth.passwords import Passwords
from registry.metadata import refresh_tokens
from registry.settings import Settings
from storage.database import Connection, SqliteDatabase, connect
from tests.registry.auth.doors import bearer, serving_local
from tests.registry.pushing import Repository, image

RULES = (
    {"who": "anonymous", "repository": "**", "allow": ("pull",)},
    {"who": "group:team", "repository": "**", "allow": ("pull", "push")},
    {"who": "user:maker", "repository": "made/**", "allow": ("pull", "tag-create")},
    {"who": "robot:ci", "repository": "ci/**", "allow": ("pull", "push", "delete")},
)
PASSWORD = "correct horse battery"
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Anonymous pull, team push; and who is in between."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local")


@pytest.fixture(scope="module")
def url(data: Path) -> Iterator[str]:
    htpasswd = data / "users"
    htpasswd.write_bytes(b"filed:" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)) + b"\n")
    with serving_local(data, policy=RULES, htpasswd=htpasswd) as (url, _):
        yield url


@pytest.fixture(scope="module")
def database(data: Path, url: str) -> Iterator[SqliteDatabase]:
    """The database beside the server, as the commands on its machine have it."""
    database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)
    stored = Passwords(CHEAP).hash_now(PASSWORD)

    def unit(db: Connection) -> None:
        accounts.create_group(db, "team")
        for name in ("ann", "maker", "gone", "outsider"):
            accounts.create_user(db, name, stored)
        for name in ("ann", "gone"):
            accounts.add_member(db, "team", name)

    database.transaction(unit)
    yield database
    database.close()


def login(url: str, name: str, *scopes: str, **more: str) -> httpx.Response:
    params = httpx.QueryParams([*(("scope", scope) for scope in scopes), *more.items()])
    return httpx.get(f"{url}/token", params=params, auth=(name, PASSWORD))


def granted(url: str, name: str, *scopes: str) -> httpx.Client:
    response = login(url, name, *scopes)
    assert response.status_code == 200, response.text
    return httpx.Client(base_url=url, headers=bearer(response.json()["token"]))


def test_everybody_pulls_and_the_team_pushes(url: str, database: SqliteDatabase) -> None:
    scope = "repository:app/web:pull,push"
    with granted(url, "ann", scope) as ann:
        manifest = Repository(ann, "app/web").push_image("v1", b"layer")

    assert httpx.get(f"{url}/v2/app/web/manifests/v1").content == manifest
    assert httpx.put(f"{url}/v2/app/web/manifests/v2", content=manifest).status_code == 401
    with granted(url, "outsider", scope) as outsider:
        assert outsider.get("/v2/app/web/manifests/v1").content == manifest
        assert outsider.post("/v2/app/web/blobs/uploads/").status_code == 401
    with httpx.Client(base_url=url, auth=("ann", PASSWORD)) as ann:
        Repository(ann, "app/basic").push_image("v1", b"layer")


def test_auth_18_who_may_only_make_tags_cannot_move_them(url: str, database: SqliteDatabase) -> None:
    for client in (
        granted(url, "maker", "repository:made/a:pull,push"),
        httpx.Client(base_url=url, auth=("maker", PASSWORD)),
    ):
        with client:
            repository = Repository(client, "made/a")
            tag = "by-token" if "Authorization" in client.headers else "by-basic"
            manifest = repository.push_image(tag, b"layer")
            other = image(b"{}", b"layer")
            repository.push_blob(b"{}")
            assert repository.put_manifest(tag, manifest).status_code == 201, "the same again"
            assert repository.put_manifest(tag, other).status_code == 403
            assert client.get(f"/v2/made/a/manifests/{tag}").content == manifest


def test_auth_21_who_is_disabled_is_out_at_the_next_call(url: str, database: SqliteDatabase) -> None:
    answer = login(url, "gone", offline_token="true").json()
    form = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
    assert httpx.post(f"{url}/token", data=form).status_code == 200
    assert httpx.get(f"{url}/v2/", auth=("gone", PASSWORD)).status_code == 200

    database.transaction(lambda db: accounts.disable_user(db, "gone"))

    assert httpx.post(f"{url}/token", data=form).status_code == 401
    assert login(url, "gone").status_code == 401
    assert httpx.get(f"{url}/v2/", auth=("gone", PASSWORD)).status_code == 401


def test_auth_21_who_leaves_a_group_loses_its_rights(url: str, database: SqliteDatabase) -> None:
    scope = "repository:app/left:pull,push"
    with granted(url, "ann", scope) as ann:
        assert ann.post("/v2/app/left/blobs/uploads/").status_code == 202
    database.transaction(lambda db: accounts.remove_member(db, "team", "ann"))
    with granted(url, "ann", scope) as ann:
        assert ann.post("/v2/app/left/blobs/uploads/").status_code == 401
    database.transaction(lambda db: accounts.add_member(db, "team", "ann"))


def test_a_user_of_the_file_logs_in(url: str, database: SqliteDatabase) -> None:
    answer = login(url, "filed", "registry:catalog:*", offline_token="true").json()

    assert httpx.get(f"{url}/v2/_catalog", headers=bearer(answer["token"])).status_code == 200
    form = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
    assert httpx.post(f"{url}/token", data=form).status_code == 200


def test_tok_03_what_a_login_left_is_listed(url: str, database: SqliteDatabase) -> None:
    login(url, "outsider", offline_token="true", client_id="docker")

    (kept,) = database.read(lambda db: refresh_tokens.listing(db, "outsider"))
    assert (kept.client_id, kept.handle) == ("docker", "user:outsider")


def test_a_robot_logs_in_as_every_client_can_write_it(url: str, database: SqliteDatabase) -> None:
    def unit(db: Connection) -> str:
        accounts.create_robot(db, "ci", "builds", "ann")
        return accounts.issue_secret(db, ("robot", "ci"), "for these tests").text

    secret = database.transaction(unit)
    for name in ("robot:ci", "robot$ci"):
        pair = base64.b64encode(f"{name}:{secret}".encode()).decode()
        response = httpx.get(
            f"{url}/token?scope=repository:ci/a:*&offline_token=true",
            headers={"Authorization": f"Basic {pair}"},
        )
        assert response.status_code == 200, response.text
        with httpx.Client(base_url=url, headers=bearer(response.json()["token"])) as client:
            Repository(client, "ci/a").push_image(f"v-{len(name)}", name.encode())


def test_the_first_administrator_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving_local(tmp_path) as (url, _):
        text = capfd.readouterr().err
        password = text.partition("with the password ")[2].split()[0]
        assert httpx.get(f"{url}/v2/", auth=("admin", password)).status_code == 200
        assert httpx.get(f"{url}/api/v1/users", auth=("admin", password)).status_code == 200
        assert httpx.get(f"{url}/api/v1/users", auth=("admin", "admin")).status_code == 401
    with serving_local(tmp_path):
        assert "password" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"auth": "local", "htpasswd": "ann:plain\n"}, "htpasswd"),
        ({"auth": "local", "htpasswd": None}, "htpasswd"),
        ({"auth": "local", "oidc_providers": "nonsense"}, "oidc_providers"),
        ({"auth": "local", "client_names": "[certificates]\n'CN:x' = 'y'"}, "client_names"),
        ({"auth": "external", "issuer_jwks": "{}"}, "issuer_jwks"),
        ({"auth": "external", "issuer_certificates": "none"}, "issuer_certificates"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start(
    tmp_path: Path, values: dict[str, Any], text: str
) -> None:
    issuer = {"issuer_realm": "https://x.example", "issuer_name": "x", "service": "x"}
    path = tmp_path / "file"
    if values[text] is not None:
        path.write_text(values[text])
    settings = Settings(**{**issuer, **values, text: path, "data": tmp_path / "data"})

    (problem,) = self_test.problems(settings)

    assert problem.startswith(f"{text} = {path} cannot be used: ")
    with pytest.raises((ValueError, OSError)):
        create_app(settings)
