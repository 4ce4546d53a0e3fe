"""Tags, the catalog, the base, and the settings that change what they answer."""

import re
import uuid
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from registry.settings import Settings
from storage.oci.digest import Digest
from storage.oci.media_types import IMAGE_INDEX, IMAGE_MANIFEST
from tests.registry.conftest import serving
from tests.registry.pushing import Repository, error_code, image, index, with_digest

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


@pytest.mark.parametrize("query", ["n=0&last=a", "n=00", "last=a&n=0"])
def test_n_zero_is_empty_whatever_stands_beside_it(repository: Repository, query: str) -> None:
    push_tags(repository)

    response = repository.get(f"tags/list?{query}")

    assert response.json() == {"name": repository.name, "tags": []}
    assert "Link" not in response.headers


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("../../etc/passwd", id="path"),
        pytest.param("%00", id="nul"),
        pytest.param("%ff%fe", id="not-utf-8"),
        pytest.param("'%20OR%201=1--", id="sql"),
        pytest.param("%25", id="percent"),
        pytest.param("zzz" * 2000, id="long"),
        pytest.param("%C3%A9", id="not-ascii"),
    ],
)
def test_api_14_last_is_compared_and_nothing_else(repository: Repository, last: str) -> None:
    push_tags(repository)

    response = repository.get(f"tags/list?last={last}")

    assert response.status_code == 200
    assert response.json()["tags"] == [tag for tag in NAMES if tag.encode() > unquote_to_bytes(last)]


@pytest.mark.parametrize("n", ["100000", "2147483647", "4294967296", "9223372036854775807"])
def test_api_14_a_large_n_is_all_there_is(repository: Repository, n: str) -> None:
    push_tags(repository)

    response = repository.get(f"tags/list?n={n}")

    assert response.status_code == 200, response.text
    assert response.json()["tags"] == NAMES


def test_a_tag_that_goes_away_between_two_pages_loses_no_other(repository: Repository) -> None:
    push_tags(repository)
    first = repository.get("tags/list?n=4")

    repository.http.delete(f"{repository.url}/manifests/{first.json()['tags'][-1]}")
    link = re.fullmatch(r'<([^>]+)>; rel="next"', first.headers["Link"])

    assert link is not None
    assert repository.http.get(link[1]).json()["tags"] == NAMES[4:8]


@profile(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True), min_size=1, max_size=60),
    st.integers(1, 70),
)
def test_any_tags_are_listed_bytewise(http: httpx.Client, tags: set[str], n: int) -> None:
    repository = Repository(http, f"sorted/{uuid.uuid4().hex[:12]}")
    body = repository.push_image("0")
    query = "&".join(f"tag={tag}" for tag in tags)
    assert repository.put_manifest(f"{Digest.of(body)}?{query}", body).status_code == 201

    found = [tag for page in pages(http, f"{repository.url}/tags/list?n={n}", "tags") for tag in page]

    assert found == sorted({*tags, "0"}, key=str.encode)


@pytest.mark.parametrize(
    "path", ["/v2/{}/tags/list", "/v2/_catalog", "/v2/{}/referrers/" + str(Digest.of(b""))]
)
@pytest.mark.parametrize("n", ["-1", "x", "1.5", "", "9" * 30, "1%00", "+1", "0x1", "1e3", "%D9%A3"])
def test_api_14_refuses_an_n_that_is_no_number(repository: Repository, path: str, n: str) -> None:
    push_tags(repository)

    response = repository.http.get(f"{path.format(repository.name)}?n={n}")

    assert (response.status_code, error_code(response)) == (400, "UNSUPPORTED")


def test_an_unknown_repository_has_no_list(repository: Repository) -> None:
    response = repository.get("tags/list")

    assert (response.status_code, error_code(response)) == (404, "NAME_UNKNOWN")


def test_a_repository_whose_tags_are_gone_lists_none(repository: Repository) -> None:
    repository.push_image("v1")
    repository.http.delete(f"{repository.url}/manifests/v1")

    assert repository.get("tags/list").json()["tags"] == []


def test_a_repository_with_a_blob_and_no_tag_lists_none(repository: Repository) -> None:
    repository.begin()
    assert repository.get("tags/list").status_code == 404, "a session alone makes no repository"

    repository.push_blob(b"x")

    assert repository.get("tags/list").json() == {"name": repository.name, "tags": []}


def test_a_push_that_was_refused_makes_no_repository(repository: Repository) -> None:
    assert repository.put_manifest("v1", image(b"absent")).status_code == 400

    assert error_code(repository.get("tags/list")) == "NAME_UNKNOWN"


def test_the_catalog_lists_repositories_that_hold_a_manifest(http: httpx.Client) -> None:
    prefix = f"catalog-{uuid.uuid4().hex[:8]}"
    names = [f"{prefix}/{name}" for name in ("a", "a-b", "a/b", "a.b", "ab")]
    for name in names:
        Repository(http, name).push_image("v1")
    Repository(http, f"{prefix}/only-a-blob").push_blob(b"x")

    for n in (1, 2, 100):
        found = [name for page in pages(http, f"/v2/_catalog?n={n}", "repositories") for name in page]
        assert [name for name in found if name.startswith(prefix)] == sorted(names)


def test_the_catalog_goes_on_behind_last(http: httpx.Client) -> None:
    prefix = f"last-{uuid.uuid4().hex[:8]}"
    for name in ("a", "b", "c"):
        Repository(http, f"{prefix}/{name}").push_image("v1")

    response = http.get(f"/v2/_catalog?n=1&last={prefix}/a")

    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == {"repositories": [f"{prefix}/b"]}
    assert response.headers["Link"] == f'</v2/_catalog?n=1&last={prefix.replace("/", "%2F")}%2Fb>; rel="next"'
    assert http.get("/v2/_catalog?last=zzzz").json() == {"repositories": []}
    empty = http.get("/v2/_catalog?n=0")
    assert (empty.json(), "Link" in empty.headers) == ({"repositories": []}, False)


def test_a_repository_leaves_the_catalog_with_its_last_manifest(repository: Repository) -> None:
    body = repository.push_image("v1")
    repository.http.delete(f"{repository.url}/manifests/{Digest.of(body)}")

    assert repository.name not in repository.http.get("/v2/_catalog").json()["repositories"]


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


def test_a_page_is_never_longer_than_the_operator_allows(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(data=tmp_path_factory.mktemp("paged"), access_log=False, list_page=3)
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        repositories = [Repository(http, f"paged/{letter}") for letter in "abcde"]
        for repository in repositories:
            repository.push_image("v1")
        push_tags(repositories[0])
        for query in ("", "?n=100", "?n=3"):
            found = list(pages(http, f"/v2/paged/a/tags/list{query}", "tags"))
            assert [tag for page in found for tag in page] == NAMES
            assert max(map(len, found)) == 3
            listed = list(pages(http, f"/v2/_catalog{query}", "repositories"))
            assert [len(page) for page in listed] == [3, 2]


def test_a_sparse_index_is_taken_where_it_is_allowed(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(data=tmp_path_factory.mktemp("sparse"), access_log=False, sparse_index=True)
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        repository = Repository(http, "sparse/app")
        present, absent = repository.push_image("amd64", b"layer"), image(b"absent")
        body = index(present, absent)

        assert repository.put_manifest("all", body, IMAGE_INDEX).status_code == 201
        assert repository.get("manifests/all").content == body
        assert repository.get(f"manifests/{Digest.of(absent)}").status_code == 404

        response = repository.put_manifest("image", image(b"{}", b"absent layer"))
        assert (response.status_code, error_code(response)) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_a_sparse_index_is_refused_where_it_is_not(repository: Repository) -> None:
    body = index(repository.push_image("amd64"), image(b"absent"))

    response = repository.put_manifest("all", body, IMAGE_INDEX)

    assert (response.status_code, error_code(response)) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_a_minimum_chunk_is_told_when_a_session_begins(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(data=tmp_path_factory.mktemp("chunks"), access_log=False, chunk_min_length=5)
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        repository = Repository(http, "chunks/app")
        begun = http.post(f"{repository.url}/blobs/uploads/")
        assert begun.headers["OCI-Chunk-Min-Length"] == "5"
        # A stream knows no chunks, and the last one may be short.
        closed = http.put(with_digest(begun.headers["Location"], Digest.of(b"abc")), content=b"abc")
        assert closed.status_code == 201


def test_without_a_minimum_nothing_is_told(repository: Repository) -> None:
    begun = repository.http.post(f"{repository.url}/blobs/uploads/")

    assert "OCI-Chunk-Min-Length" not in begun.headers


@pytest.mark.parametrize("base", ["", "/registry"], ids=["the proxy strips it", "the proxy leaves it"])
def test_a_prefix_shows_in_every_link(tmp_path_factory: pytest.TempPathFactory, base: str) -> None:
    settings = Settings(data=tmp_path_factory.mktemp("prefix"), access_log=False, path_prefix="/registry")
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        begun = http.post(f"{base}/v2/a/b/blobs/uploads/")
        stored = http.put(
            with_digest(_below(begun.headers["Location"], base), Digest.of(b"{}")), content=b"{}"
        )
        assert stored.headers["Location"] == f"/registry/v2/a/b/blobs/{Digest.of(b'{}')}"
        mounted = http.post(f"{base}/v2/c/blobs/uploads/?mount={Digest.of(b'{}')}&from=a/b")
        assert mounted.headers["Location"] == f"/registry/v2/c/blobs/{Digest.of(b'{}')}"
        for tag in ("v1", "v2"):
            pushed = http.put(
                f"{base}/v2/a/b/manifests/{tag}",
                content=image(b"{}"),
                headers={"Content-Type": IMAGE_MANIFEST},
            )
            assert pushed.headers["Location"] == f"/registry/v2/a/b/manifests/{Digest.of(image(b'{}'))}"
        listed = http.get(f"{base}/v2/a/b/tags/list?n=1")
        assert listed.headers["Link"] == '</registry/v2/a/b/tags/list?n=1&last=v1>; rel="next"'
        for path in ("/", "/livez", "/readyz", "/metrics", "/v2/", "/v2/_catalog"):
            assert http.get(f"{base}{path}").status_code == 200
        for path in ("/registryx/v2/", "/registry/registry/v2/", "/registry", "/other/v2/"):
            assert http.get(path).status_code == 404


def _below(location: str, base: str) -> str:
    """Return a location as the registry is asked for it, by a proxy that strips the prefix or not."""
    assert location.startswith("/registry/v2/a/b/blobs/uploads/")
    return base + location.removeprefix("/registry")


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
