"""Every route and method: what it needs is declared, and nobody without a token gets past it."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from registry.app import MIGRATIONS
from registry.auth import accounts
from registry.auth.passwords import Passwords
from registry.endpoints.admin.table import OPERATIONS
from registry.needs import NEEDS, Need, Undeclared, check
from registry.routes import Resource
from storage.database import connect
from storage.oci.digest import Digest
from tests.registry.auth.doors import bearer, serving_local
from tests.registry.pushing import Repository

ROOT = Path(__file__).parent.parent.parent.parent
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "FOO")
ALICE = ("alice", "correct horse battery")
CONTENT = b"layer of alice/routes"
PATHS = {
    Resource.BASE: "/v2/",
    Resource.CATALOG: "/v2/_catalog",
    Resource.MANIFEST: "/v2/alice/routes/manifests/v1",
    Resource.BLOB: f"/v2/alice/routes/blobs/{Digest.of(CONTENT)}",
    Resource.UPLOADS: "/v2/alice/routes/blobs/uploads/",
    Resource.UPLOAD: f"/v2/alice/routes/blobs/uploads/{'0' * 32}",
    Resource.TAGS: "/v2/alice/routes/tags/list",
    Resource.REFERRERS: f"/v2/alice/routes/referrers/{Digest.of(CONTENT)}",
    Resource.TOKEN: "/token",
    Resource.JWKS: "/token/jwks",
    Resource.CERTIFICATES: "/token/certificates",
    Resource.ADMIN: "/api/v1/users",
    Resource.OPENAPI: "/api/v1/openapi.json",
}
# What anybody may ask. A change here is a change of what the registry gives away.
PUBLIC = {
    (resource, method)
    for resource in (Resource.TOKEN, Resource.JWKS, Resource.CERTIFICATES, Resource.OPENAPI)
    for method in ("GET", "HEAD")
} | {(Resource.TOKEN, "POST")}
TABLE = [(resource, method) for resource in Resource for method in METHODS]


ADMIN = [(each.method, re.sub("{[^}]+}", "alice", f"/api/v1{each.path}")) for each in OPERATIONS]
RULES = ({"who": "user:alice", "repository": "alice/**", "allow": ("pull", "push", "delete")},)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with its own people, so that the admin API is there too, and with something to hide."""
    data = tmp_path_factory.mktemp("routes")
    with serving_local(data, policy=RULES) as (url, _):
        database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)
        stored = Passwords().hash_now(ALICE[1])
        database.transaction(lambda db: accounts.create_user(db, "alice", stored, is_admin=True))
        database.close()
        with httpx.Client(base_url=url, auth=ALICE) as client:
            Repository(client, "alice/routes").push_image("v1", CONTENT)
        yield url


@pytest.fixture(scope="module")
def token(url: str) -> dict[str, str]:
    """An access token of an administrator, for nothing."""
    return bearer(httpx.get(f"{url}/token", auth=ALICE).json()["token"])


def test_auth_10_the_table_of_paths_is_complete() -> None:
    assert PATHS.keys() == set(Resource) == NEEDS.keys()


def test_auth_10_the_public_list_is_this_one() -> None:
    declared = {
        (resource, method)
        for resource, methods in NEEDS.items()
        for method, need in methods.items()
        if need is Need.NOTHING
    }

    assert declared == PUBLIC


@pytest.mark.parametrize(("resource", "method"), TABLE, ids=str)
def test_auth_10_every_method_of_every_route_is_refused_without_a_token(
    url: str, resource: Resource, method: str
) -> None:
    response = httpx.request(method, url + PATHS[resource], content=b"" if method == "POST" else None)

    if (resource, method) in PUBLIC:
        assert response.status_code in (200, 415), "a POST without a form is no request for a token"
    elif method in NEEDS[resource]:
        assert response.status_code == 401
        assert len(response.headers.get_list("WWW-Authenticate")) == 1
    else:
        assert response.status_code in (400, 405), "not even a method"


@pytest.mark.parametrize(
    ("resource", "method"),
    [pair for pair in TABLE if pair[1] in NEEDS[pair[0]] and pair not in PUBLIC],
    ids=str,
)
def test_auth_10_a_token_without_access_opens_nothing_but_the_ping(
    url: str, token: dict[str, str], resource: Resource, method: str
) -> None:
    response = httpx.request(method, url + PATHS[resource], headers=token)

    assert response.status_code == (200 if resource is Resource.BASE else 401)


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_auth_10_every_row_of_the_admin_api_wants_a_password(
    url: str, token: dict[str, str], method: str, path: str
) -> None:
    for headers in ({}, token, bearer("x"), {"Cookie": "user=alice"}):
        response = httpx.request(method, url + path, headers=headers)
        assert (response.status_code, response.headers["WWW-Authenticate"][:5]) == (401, "Basic")


@pytest.mark.parametrize(
    "path",
    ["/", "/livez", "/readyz", "/metrics", "/v1/", "/v3/", "/token/", "/token/x", "/.well-known/x", "/v2x"],
)
def test_auth_10_what_is_no_route_knows_nothing_of_content(url: str, path: str) -> None:
    response = httpx.get(url + path)

    assert response.status_code in (200, 404)
    assert "alice" not in response.text


def test_auth_10_a_handler_without_a_need_stops_the_start() -> None:
    handlers = {resource: dict(methods) for resource, methods in NEEDS.items()}
    check(handlers)

    with pytest.raises(Undeclared, match=r"manifest: \['PATCH'\]"):
        check(handlers | {Resource.MANIFEST: {**handlers[Resource.MANIFEST], "PATCH": Need.PULL}})
    with pytest.raises(Undeclared, match="blob"):
        check(handlers | {Resource.BLOB: {}})
    with pytest.raises(Undeclared, match="tags"):
        check({resource: methods for resource, methods in handlers.items() if resource is not Resource.TAGS})
