"""Tags, the catalog, the base, and what lies outside the API."""

import re
import uuid
from collections.abc import Iterator

import httpx
import pytest

from registry.settings import Settings
from storage.oci.digest import Digest
from tests.registry.conftest import serving
from tests.registry.pushing import Repository, error_code

# Each is the beginning of another, and case and punctuation sort bytewise (API-15).
NAMES = ["A", "Z", "_x", "a", "a-b", "a.b", "aa", "ab", "b", "v1", "v1.0", "v10", "v2"]


def pages(http: httpx.Client, path: str, member: str) -> Iterator[list[str]]:
    """Follow `Link` to the end."""
    while path:
        response = http.get(path)
        assert response.status_code == 200
        yield response.json()[member]
        link = re.fullmatch(r'<([^>]+)>; rel="next"', response.headers.get("Link", ""))
        path = link[1] if link else ""


def push_tags(repository: Repository) -> None:
    body = repository.push_image("a")
    query = "&".join(f"tag={name}" for name in NAMES)
    assert repository.put_manifest(f"{Digest.of(body)}?{query}", body).status_code == 201


def test_the_base_says_that_this_is_a_registry(http: httpx.Client) -> None:
    for path in ("/v2/", "/v2"):
        response = http.get(path)
        assert (response.status_code, response.json()) == (200, {})
        assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_lists_all_tags_bytewise(repository: Repository) -> None:
    push_tags(repository)

    response = repository.get("tags/list")

    assert response.json() == {"name": repository.name, "tags": NAMES}
    assert "Link" not in response.headers


@pytest.mark.parametrize("n", [1, 2, 5, 12, 13, 14, 1000])
def test_api_15_each_tag_comes_once_over_all_page_sizes(repository: Repository, n: int) -> None:
    push_tags(repository)

    found = list(pages(repository.http, f"{repository.url}/tags/list?n={n}", "tags"))

    assert [tag for page in found for tag in page] == NAMES
    assert all(len(page) == n for page in found[:-1])


def test_last_is_where_the_list_goes_on(repository: Repository) -> None:
    push_tags(repository)

    assert repository.get("tags/list?last=v1").json()["tags"] == ["v1.0", "v10", "v2"]
    assert repository.get("tags/list?n=1&last=not-a-tag-there").json()["tags"] == ["v1"]
    assert repository.get("tags/list?last=zzz").json()["tags"] == []


def test_n_zero_is_an_empty_list_without_a_link(repository: Repository) -> None:
    push_tags(repository)

    response = repository.get("tags/list?n=0")

    assert response.json()["tags"] == []
    assert "Link" not in response.headers


@pytest.mark.parametrize("n", ["-1", "x", "1.5", "", "9" * 30, "1%00"])
def test_api_14_refuses_an_n_that_is_no_number(repository: Repository, n: str) -> None:
    push_tags(repository)

    response = repository.get(f"tags/list?n={n}")

    assert (response.status_code, error_code(response)) == (400, "UNSUPPORTED")


def test_an_unknown_repository_has_no_list(repository: Repository) -> None:
    response = repository.get("tags/list")

    assert (response.status_code, error_code(response)) == (404, "NAME_UNKNOWN")


def test_a_repository_whose_tags_are_gone_lists_none(repository: Repository) -> None:
    repository.push_image("v1")
    repository.http.delete(f"{repository.url}/manifests/v1")

    assert repository.get("tags/list").json()["tags"] == []


def test_the_catalog_lists_repositories_that_hold_a_manifest(http: httpx.Client) -> None:
    prefix = f"catalog-{uuid.uuid4().hex[:8]}"
    names = [f"{prefix}/{name}" for name in ("a", "a-b", "a/b", "a.b", "ab")]
    for name in names:
        Repository(http, name).push_image("v1")
    Repository(http, f"{prefix}/only-a-blob").push_blob(b"x")

    for n in (1, 2, 100):
        found = [name for page in pages(http, f"/v2/_catalog?n={n}", "repositories") for name in page]
        assert [name for name in found if name.startswith(prefix)] == sorted(names)


def test_a_repository_leaves_the_catalog_with_its_last_manifest(repository: Repository) -> None:
    body = repository.push_image("v1")
    repository.http.delete(f"{repository.url}/manifests/{Digest.of(body)}")

    assert repository.name not in repository.http.get("/v2/_catalog").json()["repositories"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2//_catalog",
        "/v2/_catalog/",
        "/v2/%5Fcatalog",
        "/v2/_Catalog",
        "/v1/search",
        "/v2/a/b/c",
        "/v3/",
        "/v2x",
    ],
)
def test_auth_15_nothing_else_is_a_path_of_the_api(http: httpx.Client, path: str) -> None:
    response = http.get(path)

    assert (response.status_code, error_code(response)) == (404, "UNSUPPORTED")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        pytest.param("POST", "/v2/", "GET, HEAD", id="base"),
        pytest.param("PUT", "/v2/_catalog", "GET, HEAD", id="catalog"),
        pytest.param("POST", "/v2/a/manifests/b", "GET, HEAD, PUT, DELETE", id="manifest"),
        pytest.param("PUT", f"/v2/a/blobs/sha256:{'a' * 64}", "GET, HEAD, DELETE", id="blob"),
        pytest.param("DELETE", "/v2/a/tags/list", "GET, HEAD", id="tags"),
        pytest.param("PATCH", f"/v2/a/referrers/sha256:{'a' * 64}", "GET, HEAD", id="referrers"),
        pytest.param("GET", "/v2/a/blobs/uploads/", "POST", id="uploads"),
    ],
)
def test_a_method_that_is_not_there_is_405_with_allow(
    http: httpx.Client, method: str, path: str, allow: str
) -> None:
    response = http.request(method, path)

    assert (response.status_code, error_code(response)) == (405, "UNSUPPORTED")
    assert set(response.headers["Allow"].split(", ")) == set(allow.split(", "))


def test_head_exists_wherever_get_does(repository: Repository) -> None:
    body = repository.push_image("v1")
    paths = [
        "manifests/v1",
        f"blobs/{repository.push_blob(b'x')}",
        "tags/list",
        f"referrers/{Digest.of(body)}",
    ]

    for path in [*(f"{repository.url}/{path}" for path in paths), "/v2/", "/v2/_catalog", repository.begin()]:
        get, head = repository.http.get(path), repository.http.head(path)
        assert head.status_code == get.status_code, path
        assert head.content == b""
        assert head.headers.get("Content-Length") == get.headers.get("Content-Length"), path


def test_auth_20_without_delete_everything_stays(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(data=tmp_path_factory.mktemp("kept"), access_log=False, delete_enabled=False)
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        repository = Repository(http, "kept/app")
        body = repository.push_image("v1", b"layer")
        for path in ("manifests/v1", f"manifests/{Digest.of(body)}", f"blobs/{Digest.of(b'layer')}"):
            response = http.delete(f"{repository.url}/{path}")
            assert (response.status_code, error_code(response)) == (405, "UNSUPPORTED")
            assert "DELETE" not in response.headers["Allow"]
        assert http.delete(repository.begin()).status_code == 204, "an upload can still be cancelled"


def test_read_only_refuses_what_changes(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("read-only")
    with serving(Settings(data=data, access_log=False)) as url, httpx.Client(base_url=url) as http:
        body = Repository(http, "a/b").push_image("v1")
    with (
        serving(Settings(data=data, access_log=False, read_only=True)) as url,
        httpx.Client(base_url=url) as http,
    ):
        repository = Repository(http, "a/b")
        assert repository.get("manifests/v1").content == body
        refused = [
            http.post("/v2/a/b/blobs/uploads/"),
            repository.put_manifest("v2", body),
            http.delete("/v2/a/b/manifests/v1"),
        ]
        assert [(response.status_code, error_code(response)) for response in refused] == [(403, "DENIED")] * 3


def test_a_sparse_index_is_taken_where_it_is_allowed(tmp_path_factory: pytest.TempPathFactory) -> None:
    from storage.oci.media_types import IMAGE_INDEX
    from tests.registry.pushing import image, index

    settings = Settings(
        data=tmp_path_factory.mktemp("sparse"), access_log=False, sparse_index=True, chunk_min_length=5
    )
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        repository = Repository(http, "sparse/app")
        assert repository.put_manifest("all", index(image(b"absent")), IMAGE_INDEX).status_code == 201
        begun = http.post(f"{repository.url}/blobs/uploads/")
        assert begun.headers["OCI-Chunk-Min-Length"] == "5"


def test_a_prefix_shows_in_every_link_and_may_be_stripped(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(data=tmp_path_factory.mktemp("prefix"), access_log=False, path_prefix="/registry")
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        for base in ("", "/registry"):
            response = http.post(f"{base}/v2/a/b/blobs/uploads/")
            assert response.headers["Location"].startswith("/registry/v2/a/b/blobs/uploads/")
            assert http.get(f"{base}/readyz").status_code == 200
        assert http.put(f"{response.headers['Location']}&digest={Digest.of(b'')}").status_code == 201


def test_operators_learn_how_it_is(http: httpx.Client) -> None:
    assert http.get("/livez").text == "alive\n"
    assert http.get("/readyz").text == "ready\n"
    assert "cargohold" in http.get("/").text
    assert "cargohold_free_bytes" in http.get("/metrics").text
    assert http.post("/livez").status_code == 405
    assert error_code(http.get("/nothing")) == "UNSUPPORTED"


def test_ops_09_below_the_floor_pushes_are_refused_and_pulls_go_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = tmp_path_factory.mktemp("full")
    with serving(Settings(data=data, access_log=False)) as url, httpx.Client(base_url=url) as http:
        body = Repository(http, "a/b").push_image("v1")
    full = Settings(data=data, access_log=False, free_space_floor=1 << 60)
    with serving(full) as url, httpx.Client(base_url=url) as http:
        repository = Repository(http, "a/b")
        for response in (http.post("/v2/a/b/blobs/uploads/"), repository.put_manifest("v2", body)):
            assert (response.status_code, error_code(response)) == (507, "INSUFFICIENT_STORAGE")
        assert http.get("/readyz").status_code == 507
        assert repository.get("manifests/v1").content == body
        assert http.delete(f"{repository.url}/manifests/v1").status_code == 202
