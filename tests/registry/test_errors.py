"""What goes wrong is said in the spec's JSON, whoever notices: parser, matcher, registry, or our own bug."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from registry.settings import Settings
from storage.oci import errors
from storage.oci.digest import Digest
from storage.oci.media_types import ARTIFACT_MANIFEST, IMAGE_INDEX
from tests.registry.conftest import serving
from tests.registry.pushing import Repository, error_code, image, index
from tests.registry.wire import connect

# Source: distribution-spec spec.md, "Error Codes".
CODES = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
}
HOST = "Host: registry.test\r\n"
ABSENT = f"sha256:{'a' * 64}"


def check(body: bytes, content_type: str) -> str:
    """Hold a body against the spec's form; return its first code."""
    assert content_type == "application/json"
    assert body.isascii()
    document = json.loads(body)
    assert document.keys() == {"errors"}
    assert document["errors"]
    for entry in document["errors"]:
        assert entry.keys() <= {"code", "message", "detail"}
        assert re.fullmatch("[A-Z_]+", entry["code"])
        assert entry["message"]
        assert entry["message"].isprintable()
    return str(document["errors"][0]["code"])


def _classes(root: type[errors.RegistryError]) -> Iterator[type[errors.RegistryError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _classes(kind)


def test_an_answer_of_400_to_499_has_a_code_of_the_spec() -> None:
    kinds = [kind for kind in _classes(errors.RegistryError) if 400 <= kind.status < 500]

    assert len(kinds) > 20
    assert {kind.code for kind in kinds} <= CODES


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", f"blobs/{ABSENT}", 404, "BLOB_UNKNOWN", id="blob"),
        pytest.param("DELETE", f"blobs/{ABSENT}", 404, "BLOB_UNKNOWN", id="delete-blob"),
        pytest.param("GET", "manifests/none", 404, "MANIFEST_UNKNOWN", id="tag"),
        pytest.param("GET", f"manifests/{ABSENT}", 404, "MANIFEST_UNKNOWN", id="manifest"),
        pytest.param("DELETE", "manifests/none", 404, "MANIFEST_UNKNOWN", id="delete-tag"),
        pytest.param("DELETE", f"manifests/{ABSENT}", 404, "MANIFEST_UNKNOWN", id="delete-manifest"),
        pytest.param("GET", "tags/list", 404, "NAME_UNKNOWN", id="tags"),
        pytest.param("GET", f"blobs/uploads/{'0' * 32}", 404, "BLOB_UPLOAD_UNKNOWN", id="upload"),
        pytest.param("PATCH", f"blobs/uploads/{'0' * 32}", 404, "BLOB_UPLOAD_UNKNOWN", id="patch"),
        pytest.param(
            "PUT", f"blobs/uploads/{'0' * 32}?digest={ABSENT}", 404, "BLOB_UPLOAD_UNKNOWN", id="put"
        ),
        pytest.param("DELETE", "blobs/uploads/x", 404, "BLOB_UPLOAD_UNKNOWN", id="cancel"),
        pytest.param("GET", "blobs/sha256:a", 400, "DIGEST_INVALID", id="digest"),
        pytest.param("GET", "referrers/latest", 400, "DIGEST_INVALID", id="referrers"),
        pytest.param("GET", "manifests/-", 400, "NAME_INVALID", id="bad-tag"),
        pytest.param("PUT", "manifests/v1", 400, "MANIFEST_INVALID", id="no-manifest"),
        pytest.param("GET", "tags/list?n=x", 400, "UNSUPPORTED", id="bad-n"),
        pytest.param("GET", "nothing", 404, "UNSUPPORTED", id="no-endpoint"),
        pytest.param("POST", "blobs/uploads/?digest-algorithm=md5", 400, "DIGEST_INVALID", id="algorithm"),
    ],
)
def test_says_what_is_wrong(repository: Repository, method: str, path: str, status: int, code: str) -> None:
    response = repository.http.request(method, f"{repository.url}/{path}")

    assert response.status_code == status
    assert check(response.content, response.headers["Content-Type"]) == code


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param("GARBAGE\r\n\r\n", 400, id="no-http"),
        pytest.param("GET /v2/ HTTP/1.1\r\n\r\n", 400, id="no-host"),
        pytest.param(f"GET /v2/\xe9 HTTP/1.1\r\n{HOST}\r\n", 400, id="not-ascii"),
        pytest.param(f"GET /v2/{'a' * 9000} HTTP/1.1\r\n{HOST}\r\n", 414, id="long-target"),
        pytest.param(f"GET /v2/ HTTP/1.1\r\n{HOST}X: {'a' * 40000}\r\n\r\n", 431, id="long-header"),
        pytest.param(
            f"PUT /v2/a/manifests/b HTTP/1.1\r\n{HOST}Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
            415,
            id="encoded-body",
        ),
        pytest.param(
            f"PUT /v2/a/manifests/b HTTP/1.1\r\n{HOST}Content-Length: 5000000\r\n\r\n",
            413,
            id="long-manifest",
        ),
        pytest.param(f"GET /nothing HTTP/1.1\r\n{HOST}\r\n", 404, id="outside"),
        pytest.param(f"DELETE /livez HTTP/1.1\r\n{HOST}\r\n", 405, id="operations"),
    ],
)
def test_the_server_itself_says_it_in_the_same_form(registry_url: str, request_: str, status: int) -> None:
    with connect(registry_url) as wire:
        wire.send(request_)
        answer = wire.answer()

    assert answer.status == status
    assert check(answer.body, answer.headers["content-type"]) in CODES


@pytest.mark.parametrize("chunk", ["zz\r\n", "3\r\nabcX\r\n"], ids=["size", "end"])
def test_http_01_a_broken_chunk_of_a_manifest_is_refused_at_once(registry_url: str, chunk: str) -> None:
    with connect(registry_url, seconds=5) as wire:
        wire.send(f"PUT /v2/a/manifests/b HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{chunk}")
        answer = wire.answer()

        assert answer.status == 400
        assert check(answer.body, answer.headers["content-type"]) == "UNSUPPORTED"
        assert wire.is_closed()


def test_http_01_a_broken_chunk_behind_a_good_request_does_not_take_its_answer(
    registry_url: str, repository: Repository
) -> None:
    body = repository.push_image("v1")
    good = f"GET {repository.url}/manifests/v1 HTTP/1.1\r\n{HOST}\r\n"
    broken = f"PUT {repository.url}/manifests/v2 HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    with connect(registry_url, seconds=5) as wire:
        wire.send(good + broken)
        answer = wire.answer()

    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize("behind", ["", "GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["alone", "pipelined"])
def test_a_client_that_leaves_before_its_answer_is_no_fault_of_ours(
    registry_url: str, repository: Repository, caplog: pytest.LogCaptureFixture, behind: str
) -> None:
    body, blob = repository.push_image("v1", b"layer" * 1000), Digest.of(b"layer" * 1000)
    for request in (
        f"GET {repository.url}/manifests/v1 HTTP/1.1\r\n{HOST}\r\n",
        f"GET {repository.url}/blobs/{blob} HTTP/1.1\r\n{HOST}\r\n",
        f"GET {repository.url}/blobs/{blob} HTTP/1.1\r\n{HOST}Range: bytes=0-5,10-20\r\n\r\n",
        f"GET {repository.url}/tags/list HTTP/1.1\r\n{HOST}\r\n",
        f"PUT {repository.url}/manifests/v1 HTTP/1.1\r\n{HOST}"
        f"Content-Length: {len(body)}\r\n\r\n{body.decode()}",
    ):
        for _ in range(10):
            with connect(registry_url) as wire:
                wire.send(request + behind)
    # What was left behind is done before this one: one writer takes them in order.
    assert repository.put_manifest("v2", body).status_code == 201

    told = {str((record.exc_info or ("", ""))[1]) for record in caplog.records if record.levelname == "ERROR"}
    assert told == set()


def test_each_missing_part_is_an_error_of_its_own(repository: Repository) -> None:
    absent = [b"layer %d" % number for number in range(300)]

    response = repository.put_manifest("v1", image(b"absent config", *absent))

    assert check(response.content, response.headers["Content-Type"]) == "MANIFEST_BLOB_UNKNOWN"
    entries = response.json()["errors"]
    assert {entry["code"] for entry in entries} == {"MANIFEST_BLOB_UNKNOWN"}
    named = [entry["detail"]["digest"] for entry in entries]
    assert sorted(named) == sorted(str(Digest.of(part)) for part in (b"absent config", *absent))


def test_what_is_in_the_way_of_a_delete_is_named(repository: Repository) -> None:
    child = repository.push_image("child", b"layer")
    repository.put_manifest("all", index(child), IMAGE_INDEX)

    manifest = repository.http.delete(f"{repository.url}/manifests/{Digest.of(child)}")
    blob = repository.http.delete(f"{repository.url}/blobs/{Digest.of(b'layer')}")

    for response, holder in ((manifest, index(child)), (blob, child)):
        assert (response.status_code, error_code(response)) == (409, "DENIED")
        assert response.json()["errors"][0]["detail"]["manifests"] == [str(Digest.of(holder))]


def test_a_warning_has_the_specs_form(repository: Repository) -> None:
    """Source: distribution-spec spec.md, "Warnings"."""
    body = json.dumps({"mediaType": ARTIFACT_MANIFEST, "artifactType": "application/vnd.example"}).encode()

    warnings = repository.put_manifest("v1", body, ARTIFACT_MANIFEST).headers.get_list("Warning")

    assert len(warnings) == 1
    assert re.fullmatch(r'299 - "[^"\\]+"', warnings[0]), "neither a date nor another agent"
    assert len(warnings[0]) < 4096


# Methods

ALLOWED = {
    "/v2/": "GET HEAD",
    "/v2/_catalog": "GET HEAD",
    "/v2/a/manifests/b": "GET HEAD PUT DELETE",
    f"/v2/a/blobs/{ABSENT}": "GET HEAD DELETE",
    "/v2/a/blobs/uploads/": "POST",
    f"/v2/a/blobs/uploads/{'0' * 32}": "GET HEAD PATCH PUT DELETE",
    "/v2/a/tags/list": "GET HEAD",
    f"/v2/a/referrers/{ABSENT}": "GET HEAD",
    "/": "GET HEAD",
    "/livez": "GET HEAD",
    "/readyz": "GET HEAD",
    "/metrics": "GET HEAD",
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ALLOWED)
def test_a_method_is_there_or_405_says_which_are(http: httpx.Client, path: str, method: str) -> None:
    response = http.request(method, path)

    if method in ALLOWED[path].split():
        assert response.status_code != 405
        return
    assert response.status_code == 405
    assert sorted(response.headers["Allow"].split(", ")) == sorted(ALLOWED[path].split())
    if method != "HEAD":
        assert check(response.content, response.headers["Content-Type"]) == "UNSUPPORTED"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND"])
def test_http_05_a_method_that_nothing_has_is_refused_as_the_rfc_asks(registry_url: str, method: str) -> None:
    """RFC 9110 §15.5.6: a 405 names the methods there are; §15.6.2: 501 is for a method that nobody knows."""
    with connect(registry_url) as wire:
        wire.send(f"{method} /v2/ HTTP/1.1\r\n{HOST}\r\n")
        answer = wire.answer()

    assert check(answer.body, answer.headers["content-type"]) == "UNSUPPORTED"
    assert answer.status in (400, 501) or (answer.status == 405 and "GET" in answer.headers["allow"])


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_auth_14_no_header_makes_another_method_of_it(repository: Repository, header: str) -> None:
    repository.push_image("v1")

    assert repository.get("manifests/v1", **{header: "DELETE"}).status_code == 200
    assert repository.get("manifests/v1").status_code == 200


@pytest.mark.parametrize(
    "path", ["manifests/none", f"blobs/{ABSENT}", "tags/list", "referrers/x", "manifests/-", "nothing"]
)
def test_an_error_to_head_has_the_headers_and_no_body(repository: Repository, path: str) -> None:
    get = repository.get(path)
    head = repository.http.head(f"{repository.url}/{path}")

    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["Content-Type"] == "application/json"
    assert head.headers["Content-Length"] == str(len(get.content))


# What errors must not tell (API-17)


@pytest.mark.parametrize(
    ("path", "longest"),
    [
        pytest.param('/v2/"><script>alert(1)</script>/tags/list', 400, id="markup"),
        pytest.param("/v2/%1b[31m%0d%0aX:y/tags/list", 400, id="terminal"),
        pytest.param(f"/v2/{'x' * 8000}/tags/list", 700, id="long-name"),
        pytest.param(f"/v2/a/manifests/{'x' * 8000}", 700, id="long-tag"),
        pytest.param(f"/v2/a/blobs/sha256:{'x' * 8000}", 700, id="long-digest"),
        pytest.param(f"/v2/a/tags/list?n={'x' * 8000}", 300, id="long-number"),
        pytest.param(f"/v2/{'a/' * 4000}", 300, id="long-path"),
        pytest.param("/v2/a/blobs/uploads/..%2f..%2fetc%2fpasswd", 300, id="traversal"),
    ],
)
def test_api_17_what_was_sent_comes_back_short_and_escaped(
    registry_url: str, path: str, longest: int
) -> None:
    with connect(registry_url) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\n{HOST}\r\n")
        answer = wire.answer()

    assert answer.status in (400, 404)
    check(answer.body, answer.headers["content-type"])
    assert len(answer.body) <= longest
    assert not re.search(rb"[\x00-\x1f\x7f]", answer.body)


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[tuple[Repository, Callable[[str], None]]]:
    """A server of its own, and a way to damage its database behind its back."""

    def damage(statement: str) -> None:
        with closing(sqlite3.connect(tmp_path / "cargohold.db")) as database, database:
            database.execute(statement)

    with serving(Settings(data=tmp_path, access_log=False)) as url, httpx.Client(base_url=url) as http:
        yield Repository(http, "a/b"), damage


def test_api_17_a_fault_of_ours_is_500_and_only_the_log_says_more(
    damaged: tuple[Repository, Callable[[str], None]], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    repository, damage = damaged
    subject = repository.push_image("v1")
    repository.push_artifact(subject, "application/vnd.example")
    damage("UPDATE manifest SET annotations = '{broken'")

    response = repository.get(f"referrers/{Digest.of(subject)}")

    assert response.status_code == 500
    assert check(response.content, response.headers["Content-Type"]) == "UNKNOWN"
    assert not re.search(r"Traceback|JSON|broken|\.py", response.text)
    assert str(tmp_path) not in response.text
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info
    assert repository.get("manifests/v1").content == subject, "the next request is answered"


def test_crash_19_a_database_that_fails_is_503_and_to_be_tried_again(
    damaged: tuple[Repository, Callable[[str], None]], tmp_path: Path
) -> None:
    repository, damage = damaged
    repository.push_image("v1")
    repository.push_blob(b"{}")
    damage("ALTER TABLE manifest_body RENAME TO elsewhere")

    pull = repository.get("manifests/v1")
    push = repository.put_manifest("v2", image(b"{}"))

    for response in (pull, push):
        assert response.status_code == 503
        assert check(response.content, response.headers["Content-Type"]) == "UNAVAILABLE"
        assert int(response.headers["Retry-After"]) > 0
        assert str(tmp_path) not in response.text
    assert repository.get("tags/list").json()["tags"] == ["v1"], "what needs no broken part is answered"
