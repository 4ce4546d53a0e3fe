"""Names and paths, byte for byte on the wire: what they may be, and that nothing else reaches anything."""

import json
from collections.abc import Callable

import httpx
import pytest

from storage.oci.digest import Digest
from tests.registry.pushing import Repository, error_code
from tests.registry.wire import Answer, connect

DIGEST = f"sha256:{'a' * 64}"
PATHS = {
    "manifest": ("GET", "/v2/{}/manifests/latest"),
    "manifest-head": ("HEAD", "/v2/{}/manifests/latest"),
    "manifest-put": ("PUT", "/v2/{}/manifests/latest"),
    "manifest-delete": ("DELETE", f"/v2/{{}}/manifests/{DIGEST}"),
    "blob": ("GET", f"/v2/{{}}/blobs/{DIGEST}"),
    "uploads": ("POST", "/v2/{}/blobs/uploads/"),
    "upload": ("PATCH", f"/v2/{{}}/blobs/uploads/{'0' * 32}"),
    "tags": ("GET", "/v2/{}/tags/list"),
    "referrers": ("GET", f"/v2/{{}}/referrers/{DIGEST}"),
}

Ask = Callable[[str, str], Answer]


@pytest.fixture
def ask(registry_url: str) -> Ask:
    """Send one request whose target nobody tidies up."""

    def ask(method: str, target: str) -> Answer:
        with connect(registry_url) as wire:
            wire.send(f"{method} {target} HTTP/1.1\r\nHost: registry.test\r\nContent-Length: 0\r\n\r\n")
            return wire.answer(head_only=method == "HEAD")

    return ask


def code(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/json"
    return str(json.loads(answer.body)["errors"][0]["code"])


@pytest.mark.parametrize(("method", "path"), PATHS.values(), ids=PATHS.keys())
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("A", id="upper-case"),
        pytest.param("a/B", id="upper-case-inside"),
        pytest.param("..", id="dot-dot"),
        pytest.param("a/../b", id="dot-dot-inside"),
        pytest.param("a/..", id="dot-dot-at-the-end"),
        pytest.param("./a", id="dot"),
        pytest.param("/a", id="double-slash-before"),
        pytest.param("a//b", id="double-slash-inside"),
        pytest.param("a/", id="double-slash-behind"),
        pytest.param("a%2fb", id="encoded-slash"),
        pytest.param("a%2Fb", id="encoded-slash-upper-case"),
        pytest.param("a%2f..%2fb", id="encoded-traversal"),
        pytest.param("%2e%2e", id="encoded-dots"),
        pytest.param("%61", id="encoded-letter"),
        pytest.param("a%5Cb", id="encoded-backslash"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("a%00", id="encoded-nul"),
        pytest.param("a%0a", id="encoded-newline"),
        pytest.param("a%0d%0aX:%20y", id="encoded-header"),
        pytest.param("a%", id="lone-percent"),
        pytest.param("a" * 256, id="256-characters"),
        pytest.param("a" * 300, id="300-characters"),
        pytest.param("/".join(["a"] * 129), id="129-parts"),
        pytest.param("_uploads", id="reserved"),
        pytest.param("_catalog", id="catalog"),
        pytest.param("-a", id="leading-hyphen"),
        pytest.param("a-", id="trailing-hyphen"),
        pytest.param("a___b", id="three-underscores"),
        pytest.param("a..b", id="two-dots"),
        pytest.param("a._b", id="two-separators"),
        pytest.param("a:b", id="colon"),
        pytest.param("a@b", id="at"),
        pytest.param("a;b", id="semicolon"),
        pytest.param("a+b", id="plus"),
        pytest.param("*", id="asterisk"),
    ],
)
def test_api_01_refuses_a_name_outside_the_grammar(ask: Ask, method: str, path: str, name: str) -> None:
    answer = ask(method, path.format(name))

    assert answer.status == 400
    assert method == "HEAD" or code(answer) == "NAME_INVALID"


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/v2/a\nb/tags/list", id="newline"),
        pytest.param("/v2/a\r\nb/tags/list", id="line-break"),
        pytest.param("/v2/a\0/tags/list", id="nul"),
        pytest.param("/v2/a\tb/tags/list", id="tab"),
        pytest.param("/v2/a b/tags/list", id="space"),
        pytest.param("/v2/a\x7f/tags/list", id="delete"),
        pytest.param("/v2/\xe9/tags/list", id="not-ascii"),
        pytest.param("/v2/a\xff\xfe/manifests/b", id="not-utf-8"),
    ],
)
def test_http_03_refuses_bytes_that_no_path_has(ask: Ask, target: str) -> None:
    answer = ask("GET", target)

    assert answer.status == 400
    assert code(answer) == "UNSUPPORTED"


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "0",
        "a__b",
        "a---b",
        "a.b_c-d/e.f__g--h",
        "/".join(["a"] * 128),
        # Each looks like a part of a path; what is what is decided from the right.
        "manifests",
        "manifests/latest/manifests",
        "blobs",
        "blobs/uploads",
        "blobs/uploads/blobs",
        "tags/list",
        "referrers",
        "v2/v2",
        "catalog",
    ],
)
def test_api_01_serves_every_name_of_the_grammar(http: httpx.Client, name: str) -> None:
    repository = Repository(http, name)
    body = repository.push_image("v1", b"layer")
    digest = Digest.of(body)

    assert repository.get("manifests/v1").content == body
    assert repository.get(f"manifests/{digest}").content == body
    assert repository.get(f"blobs/{Digest.of(b'layer')}").content == b"layer"
    assert repository.get("tags/list").json() == {"name": name, "tags": ["v1"]}
    assert repository.get(f"referrers/{digest}").json()["manifests"] == []
    assert http.get(repository.begin()).status_code == 204


def test_api_01_takes_a_name_of_255_characters(ask: Ask) -> None:
    assert code(ask("GET", f"/v2/{'a' * 255}/tags/list")) == "NAME_UNKNOWN"


@pytest.mark.parametrize(
    "spell",
    [
        pytest.param(lambda name: f"/v2/{name.replace('/', '%2f')}/manifests/v1", id="encoded-slash"),
        pytest.param(lambda name: f"/v2/{name.replace('/', '//')}/manifests/v1", id="double-slash"),
        pytest.param(lambda name: f"/v2/{name.replace('/', '/./')}/manifests/v1", id="dot"),
        pytest.param(lambda name: f"/v2/x/../{name}/manifests/v1", id="dot-dot"),
        pytest.param(lambda name: f"/v2/{name}/x/../manifests/v1", id="dot-dot-behind"),
        pytest.param(lambda name: f"/v2/{name.replace('t', '%74')}/manifests/v1", id="encoded-letter"),
        pytest.param(lambda name: f"/v2/{name.replace('/', chr(92))}/manifests/v1", id="backslash"),
        pytest.param(lambda name: f"/v2/{name.upper()}/manifests/v1", id="upper-case"),
        pytest.param(lambda name: f"/v2/{name}/manifests/v%31", id="encoded-tag"),
        pytest.param(lambda name: f"/v2/{name}/manifests/v1/", id="trailing-slash"),
        pytest.param(lambda name: f"/v2/{name}/manifests//v1", id="slash-before-the-tag"),
        pytest.param(lambda name: f"/v2/{name}/manifests%2fv1", id="encoded-slash-before-the-tag"),
        pytest.param(lambda name: f"/v2/{name}/Manifests/v1", id="upper-case-endpoint"),
        pytest.param(lambda name: f"/v2/{name}/manifests/v1;x=y", id="path-parameter"),
        pytest.param(lambda name: f"/v2/{name}/manifests/v1%00", id="nul-behind"),
        pytest.param(lambda name: f"/v2/{name}/manifests/v1%20", id="space-behind"),
        pytest.param(lambda name: f"/v2/{name}/manifests/v1%3f", id="encoded-question-mark"),
        pytest.param(lambda name: f"/v2//{name}/manifests/v1", id="slash-before-the-name"),
        pytest.param(lambda name: f"//v2/{name}/manifests/v1", id="two-slashes-first"),
        pytest.param(lambda name: f"/./v2/{name}/manifests/v1", id="dot-first"),
        pytest.param(lambda name: f"/%762/{name}/manifests/v1", id="encoded-root"),
        pytest.param(lambda name: f"/V2/{name}/manifests/v1", id="upper-case-root"),
        pytest.param(lambda name: f"http://registry.test/v2/{name}/manifests/v1", id="absolute-form"),
    ],
)
def test_http_03_only_one_spelling_reaches_a_manifest(
    ask: Ask, repository: Repository, spell: Callable[[str], str]
) -> None:
    repository.push_image("v1")
    assert ask("GET", f"/v2/{repository.name}/manifests/v1").status == 200

    answer = ask("GET", spell(repository.name))

    assert answer.status in (400, 404)
    assert code(answer) in ("NAME_INVALID", "UNSUPPORTED")


def test_a_query_is_no_part_of_the_path(ask: Ask, repository: Repository) -> None:
    repository.push_image("v1")

    # What containerd adds when it asks a mirror, and what nobody would.
    for query in ("?ns=docker.io", "?", "?x=%2f%00&y=../.."):
        assert ask("GET", f"/v2/{repository.name}/manifests/v1{query}").status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/v2//_catalog",
        "/v2/_catalog/",
        "/v2/_catalog//",
        "/v2/%5Fcatalog",
        "/v2/%5fcatalog",
        "/v2/_Catalog",
        "/v2/./_catalog",
        "/v2/a/../_catalog",
        "/v2/a/%2e%2e/_catalog",
        "/v2/_catalog%00",
        "/v2/_catalog%2f",
        "/v2/_catalog;x",
        "/v2/a/_catalog",
        "/V2/_catalog",
        "/v2\\_catalog",
        "/v2%2f_catalog",
        "//v2/_catalog",
        "/_catalog",
        "/api/v2/_catalog",
    ],
)
def test_auth_15_the_catalog_has_one_path(ask: Ask, repository: Repository, target: str) -> None:
    repository.push_image("v1")
    assert repository.name in ask("GET", "/v2/_catalog").body.decode()

    answer = ask("GET", target)

    assert answer.status in (400, 404)
    assert repository.name.encode() not in answer.body
    assert code(answer) in ("NAME_INVALID", "UNSUPPORTED")


TAGS = {
    "-a": False,
    ".a": False,
    "a" * 128: True,
    "a" * 129: False,
    "_": True,
    "A.b-c_D": True,
    "0": True,
    "sha256-abc.sig": True,
    "a b": False,
    "a%20b": False,
    "a%0a": False,
    "a+b": False,
    "a,b": False,
    "a=b": False,
    "a~b": False,
    "%61": False,
    "a%2fb": False,
}


@pytest.mark.parametrize(("tag", "is_tag"), TAGS.items(), ids=[tag[:20] for tag in TAGS])
def test_api_01_a_tag_follows_the_grammar(ask: Ask, repository: Repository, tag: str, is_tag: bool) -> None:
    body = repository.push_image("source")
    if is_tag:
        assert repository.put_manifest(tag, body).status_code == 201
        assert repository.get(f"manifests/{tag}").content == body
        return
    for method in ("GET", "PUT", "DELETE"):
        answer = ask(method, f"{repository.url}/manifests/{tag}")
        assert answer.status == 400
        assert code(answer) in ("NAME_INVALID", "UNSUPPORTED")


@pytest.mark.parametrize("tag", ["-a", "a" * 129, "a%0a", "a%00", "a%2Fb", "", "%FF"])
def test_api_01_a_tag_in_a_query_follows_the_grammar_too(repository: Repository, tag: str) -> None:
    body = repository.push_image("source")

    response = repository.put_manifest(f"{Digest.of(body)}?tag=good&tag={tag}", body)

    assert (response.status_code, error_code(response)) == (400, "NAME_INVALID")
    assert repository.get("tags/list").json()["tags"] == ["source"]


@pytest.mark.parametrize("where", ["manifests", "blobs", "referrers"])
@pytest.mark.parametrize(
    "digest",
    [
        pytest.param(f"sha256:{'A' * 64}", id="upper-case"),
        pytest.param(f"SHA256:{'a' * 64}", id="upper-case-algorithm"),
        pytest.param(f"sha256:{'a' * 63}", id="short"),
        pytest.param(f"sha256:{'a' * 65}", id="long"),
        pytest.param(f"sha256:{'g' * 64}", id="no-hex"),
        pytest.param(f"sha512:{'a' * 64}", id="sha512-of-sha256-length"),
        pytest.param(f"sha384:{'a' * 96}", id="sha384"),
        pytest.param(f"md5:{'a' * 32}", id="md5"),
        pytest.param("sha256:", id="empty"),
        pytest.param(f":{'a' * 64}", id="no-algorithm"),
        pytest.param(f"sha256:{'a' * 64}%0a", id="newline"),
        pytest.param(f"sha256:{'a' * 64}%00", id="nul"),
        pytest.param(f"sha256:{'a' * 63}%61", id="encoded-letter"),
        pytest.param(f"sha256:..%2f..%2f{'a' * 54}", id="traversal"),
        pytest.param(f"sha256:{'a' * 5000}", id="5000-characters"),
    ],
)
def test_api_02_refuses_a_malformed_digest(ask: Ask, where: str, digest: str) -> None:
    answer = ask("GET", f"/v2/a/{where}/{digest}")

    assert answer.status == 400
    assert code(answer) == "DIGEST_INVALID"
    assert len(answer.body) < 1000, "what was sent comes back cut"


@pytest.mark.parametrize(
    "target",
    [
        "/v2/a",
        "/v2/a/",
        "/v2/a/tags",
        "/v2/a/tags/",
        "/v2/a/tags/list/",
        "/v2/a/tags/list/x",
        "/v2/a/manifests",
        "/v2/a/manifests/",
        "/v2/a/blobs",
        "/v2/a/blobs/",
        "/v2/a/referrers/",
        "/v2/tags/list",
        "/v2/manifests/latest",
        "/v2//manifests/latest",
        "/v2//tags/list",
        "/v2//",
        "/v2/.",
        "/v2/..",
        "/v1/",
        "/v1/search?q=a",
        "/v3/",
        "/v2x",
        "/favicon.ico",
    ],
)
def test_a_path_outside_the_api_is_404(ask: Ask, target: str) -> None:
    answer = ask("GET", target)

    assert (answer.status, code(answer)) == (404, "UNSUPPORTED")
