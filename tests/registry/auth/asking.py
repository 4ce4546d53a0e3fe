"""How tests ask /token, as clients do."""

from typing import Any

import httpx
import jwt

from tests.registry.auth.doors import SERVICE, Door

ALICE, BOB = ("alice", "wonder"), ("bob", "builder")


def ask(door: Door, *scopes: str, auth: tuple[str, str] | None = None, **more: str) -> httpx.Response:
    params = httpx.QueryParams([*(("scope", scope) for scope in scopes), *more.items()])
    return httpx.get(f"{door.url}/token", params=params, auth=auth)


def post(door: Door, **form: str) -> httpx.Response:
    return httpx.post(f"{door.url}/token", data=form)


def post_password(door: Door, **form: str) -> httpx.Response:
    usual = {"grant_type": "password", "service": SERVICE, "client_id": "tests"}
    return post(door, **(usual | {"username": "alice", "password": "wonder"} | form))


def claims_of(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    claims: dict[str, Any] = jwt.decode(response.json()["access_token"], options={"verify_signature": False})
    return claims


def access_of(response: httpx.Response) -> dict[str, list[str]]:
    return {f"{each['type']}:{each['name']}": each["actions"] for each in claims_of(response)["access"]}


def refresh(door: Door, token: str, **form: str) -> httpx.Response:
    return post(door, **({"grant_type": "refresh_token", "refresh_token": token, "service": SERVICE} | form))


def login(door: Door) -> str:
    token = ask(door, auth=ALICE, offline_token="true", client_id="docker").json()["refresh_token"]
    assert isinstance(token, str)
    return token
