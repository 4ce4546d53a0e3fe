"""What real clients put on the wire, request by request (research/feasibility.md §4), and several at once."""

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import httpx
import pytest

from registry.settings import Settings
from storage.oci.digest import Digest
from storage.oci.media_types import (
    DOCKER_IMAGE_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    LAYER_GZIP,
)
from tests.registry.conftest import WAYS
from tests.registry.pushing import OCTETS, Repository, descriptor, error_code, image, index, with_digest
from tests.registry.wire import Answer, Wire, connect

HOST = "Host: registry.test\r\n"
CLOSE = "Connection: close\r\n"
DOCKER = f"{HOST}User-Agent: docker/20.10.24 go/go1.19.8 UpstreamClient(Docker-Client/20.10.24)\r\n{CLOSE}"
PODMAN = f"{HOST}User-Agent: containers/5.23.1\r\nDocker-Distribution-Api-Version: registry/2.0\r\n{CLOSE}"
CONTAINERD = f"{HOST}User-Agent: containerd/1.6.20\r\n"
NO_BODY = "Content-Length: 0\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
GZIP = "Accept-Encoding: gzip\r\n"
# Docker's order is random; each type is a line of its own.
ACCEPT_LINES = "".join(
    f"Accept: {media_type}\r\n"
    for media_type in (
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/json",
        DOCKER_MANIFEST,
        "application/vnd.docker.distribution.manifest.list.v2+json",
        IMAGE_INDEX,
        IMAGE_MANIFEST,
    )
)
LAYER = bytes(range(256)) * 1000  # crosses several of docker's 32 KiB chunks
DIGEST = Digest.of(LAYER)


class Send(Protocol):
    def __call__(self, head: str, body: bytes = b"") -> Answer: ...


@pytest.fixture(params=WAYS, scope="module", name="way")
def every_way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def exchange(wire: Wire, head: str, body: bytes = b"") -> Answer:
    wire.send(f"{head}\r\n".encode("latin-1") + body)
    answer = wire.answer(head_only=head.startswith("HEAD"))
    if " /v2/" in head:
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    return answer


@pytest.fixture
def once(registry_url: str) -> Send:
    """Send a request on a connection of its own, as docker and podman do, and see it closed."""

    def send(head: str, body: bytes = b"") -> Answer:
        with connect(registry_url) as wire:
            answer = exchange(wire, head, body)
            assert answer.headers["connection"] == "close"
            assert wire.is_closed()
            return answer

    return send


@pytest.fixture
def kept(registry_url: str) -> Iterator[Send]:
    """Send every request on the same connection, as containerd does."""
    with connect(registry_url) as wire:
        yield partial(exchange, wire)


def chunks(content: bytes, *sizes: int) -> bytes:
    """Write a body in the chunked coding, with chunks of `sizes`, over and over."""
    out, position, turn = bytearray(), 0, 0
    while position < len(content):
        piece = content[position : position + sizes[turn % len(sizes)]]
        out += b"%x\r\n%s\r\n" % (len(piece), piece)
        position, turn = position + len(piece), turn + 1
    return bytes(out + b"0\r\n\r\n")


def docker_image(config: bytes, layer: bytes) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(DOCKER_IMAGE_CONFIG, config),
        "layers": [descriptor(DOCKER_LAYER_GZIP, layer)],
    }
    return json.dumps(document, indent=3).encode()


# Push


def test_docker_pushes(repository: Repository, once: Send) -> None:
    assert once(f"GET /v2/ HTTP/1.1\r\n{DOCKER}{GZIP}").status == 200
    config = b'{"os":"linux"}'
    for content in (LAYER, config):
        digest = Digest.of(content)
        assert once(f"HEAD {repository.url}/blobs/{digest} HTTP/1.1\r\n{DOCKER}").status == 404
        begun = once(f"POST {repository.url}/blobs/uploads/ HTTP/1.1\r\n{DOCKER}{NO_BODY}{GZIP}")
        assert (begun.status, begun.headers["range"]) == (202, "0-0")
        assert begun.headers["docker-upload-uuid"]
        # One PATCH with the whole blob; neither Content-Type nor Content-Range.
        location = begun.headers["location"]
        patched = once(f"PATCH {location} HTTP/1.1\r\n{DOCKER}{CHUNKED}{GZIP}", chunks(content, 32768))
        assert (patched.status, patched.headers["range"]) == (202, f"0-{len(content) - 1}")
        location = with_digest(patched.headers["location"], f"sha256%3A{digest.hex}")
        closed = once(f"PUT {location} HTTP/1.1\r\n{DOCKER}{NO_BODY}{GZIP}")
        assert (closed.status, closed.headers["docker-content-digest"]) == (201, str(digest))
        assert once(f"HEAD {repository.url}/blobs/{digest} HTTP/1.1\r\n{DOCKER}").status == 200
    body = docker_image(config, LAYER)
    head = f"PUT {repository.url}/manifests/v1 HTTP/1.1\r\n{DOCKER}Content-Length: {len(body)}\r\n"

    stored = once(f"{head}Content-Type: {DOCKER_MANIFEST}\r\n{GZIP}", body)

    assert (stored.status, stored.headers["docker-content-digest"]) == (201, str(Digest.of(body)))
    assert repository.get("manifests/v1").content == body


def test_podman_compresses_while_it_pushes(repository: Repository, once: Send) -> None:
    begun = once(f"POST {repository.url}/blobs/uploads/ HTTP/1.1\r\n{PODMAN}{NO_BODY}")

    # What a gzip writer flushes: a few bytes, then much.
    patched = once(
        f"PATCH {begun.headers['location']} HTTP/1.1\r\n{PODMAN}{CHUNKED}", chunks(LAYER, 16, 10, 8, 40000)
    )
    assert patched.headers["range"] == f"0-{len(LAYER) - 1}"
    location = with_digest(patched.headers["location"], f"sha256%3A{DIGEST.hex}")
    assert once(f"PUT {location} HTTP/1.1\r\n{PODMAN}{NO_BODY}").status == 201

    assert repository.get(f"blobs/{DIGEST}").content == LAYER


def test_skopeo_pushes_with_a_length(repository: Repository, once: Send) -> None:
    for _ in range(2):
        assert once(f"HEAD {repository.url}/blobs/{DIGEST} HTTP/1.1\r\n{PODMAN}").status == 404
    begun = once(f"POST {repository.url}/blobs/uploads/ HTTP/1.1\r\n{PODMAN}{NO_BODY}")
    head = f"PATCH {begun.headers['location']} HTTP/1.1\r\n{PODMAN}Content-Length: {len(LAYER)}\r\n"

    patched = once(f"{head}Content-Type: application/octet-stream\r\n", LAYER)

    location = with_digest(patched.headers["location"], f"sha256%3A{DIGEST.hex}")
    assert once(f"PUT {location} HTTP/1.1\r\n{PODMAN}{NO_BODY}").status == 201
    assert repository.get(f"blobs/{DIGEST}").content == LAYER


def test_containerd_pushes_in_one_put_on_one_connection(repository: Repository, kept: Send) -> None:
    config = b'{"architecture":"arm64"}'
    for content, media_type in ((config, "application/vnd.oci.image.config.v1+json"), (LAYER, LAYER_GZIP)):
        digest = Digest.of(content)
        head = f"HEAD {repository.url}/blobs/{digest} HTTP/1.1\r\n{CONTAINERD}Accept: {media_type}, */*\r\n"
        assert kept(head).status == 404
        begun = kept(f"POST {repository.url}/blobs/uploads/ HTTP/1.1\r\n{CONTAINERD}{NO_BODY}")
        location = with_digest(begun.headers["location"], f"sha256%3A{digest.hex}")
        head = f"PUT {location} HTTP/1.1\r\n{CONTAINERD}Content-Length: {len(content)}\r\n"
        stored = kept(f"{head}Content-Type: application/octet-stream\r\n", content)
        assert (stored.status, stored.headers["docker-content-digest"]) == (201, str(digest))
    child = image(config, LAYER)
    for reference, body, media_type in (
        (Digest.of(child), child, IMAGE_MANIFEST),
        ("all", index(child), IMAGE_INDEX),
    ):
        head = f"HEAD {repository.url}/manifests/{reference} HTTP/1.1\r\n{CONTAINERD}"
        assert kept(f"{head}Accept: {media_type}, */*\r\n").status == 404
        head = f"PUT {repository.url}/manifests/{reference} HTTP/1.1\r\n{CONTAINERD}"
        stored = kept(f"{head}Content-Length: {len(body)}\r\nContent-Type: {media_type}\r\n", body)
        assert (stored.status, stored.headers["docker-content-digest"]) == (201, str(Digest.of(body)))


@pytest.mark.parametrize("order", ["behind", "before"])
def test_the_digest_may_stand_on_either_side_of_the_state(repository: Repository, order: str) -> None:
    path, _, state = repository.begin().partition("?")
    query = f"{state}&digest={DIGEST}" if order == "behind" else f"digest={DIGEST}&{state}"

    assert repository.http.put(f"{path}?{query}", content=LAYER, headers=OCTETS).status_code == 201


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        pytest.param("", b"", id="no-length"),
        pytest.param(NO_BODY, b"", id="length-0"),
        pytest.param(CHUNKED, b"0\r\n\r\n", id="chunked-empty"),
    ],
)
@pytest.mark.parametrize("path", ["blobs/uploads/", "blobs/uploads"])
def test_a_session_begins_however_nothing_is_sent(
    repository: Repository, kept: Send, path: str, framing: str, body: bytes
) -> None:
    answer = kept(f"POST {repository.url}/{path} HTTP/1.1\r\n{HOST}{framing}", body)

    assert answer.status == 202
    assert repository.http.get(answer.headers["location"]).headers["Range"] == "0-0"


def test_each_session_has_an_id_of_its_own(repository: Repository) -> None:
    begun = [repository.http.post(f"{repository.url}/blobs/uploads/") for _ in range(20)]
    ids = {response.headers["Docker-Upload-UUID"] for response in begun}

    assert len(ids) == 20
    assert all(str(uuid.UUID(id_)).replace("-", "") == id_ for id_ in ids)
    assert all(response.headers["Docker-Upload-UUID"] in response.headers["Location"] for response in begun)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_whole_blob_may_be_streamed_with_its_digest(
    repository: Repository, kept: Send, method: str
) -> None:
    target = repository.begin() if method == "PUT" else f"{repository.url}/blobs/uploads/"

    answer = kept(
        f"{method} {with_digest(target, DIGEST)} HTTP/1.1\r\n{HOST}{CHUNKED}", chunks(LAYER, 1, 5000)
    )

    assert answer.status == 201
    assert repository.get(f"blobs/{DIGEST}").content == LAYER


def test_a_manifest_may_be_streamed(repository: Repository, kept: Send) -> None:
    repository.push_blob(b"{}")
    body = image(b"{}")
    head = f"PUT {repository.url}/manifests/v1 HTTP/1.1\r\n{HOST}{CHUNKED}Content-Type: {IMAGE_MANIFEST}\r\n"

    assert kept(head, chunks(body, 7)).status == 201

    assert repository.get("manifests/v1").content == body


def test_parameters_of_a_content_type_are_ignored(repository: Repository, kept: Send) -> None:
    repository.push_blob(b"{}")
    body = image(b"{}")
    for sent in (f"{IMAGE_MANIFEST}; charset=utf-8", f"{IMAGE_MANIFEST};x=y; z"):
        head = f"PUT {repository.url}/manifests/v1 HTTP/1.1\r\n{HOST}Content-Length: {len(body)}\r\n"
        assert kept(f"{head}Content-Type: {sent}\r\n", body).status == 201

    assert repository.get("manifests/v1").headers["Content-Type"] == IMAGE_MANIFEST


@pytest.mark.parametrize(
    ("framing", "sent"),
    [
        pytest.param(f"Content-Length: {len(LAYER)}\r\n", LAYER[:-1], id="length"),
        pytest.param(CHUNKED, chunks(LAYER, 5000).removesuffix(b"0\r\n\r\n"), id="chunked"),
    ],
)
def test_http_12_a_body_that_ends_early_commits_nothing(
    repository: Repository, registry_url: str, framing: str, sent: bytes
) -> None:
    posted = f"POST {repository.url}/blobs/uploads/?digest={DIGEST}"
    closed = f"PUT {with_digest(repository.begin(), DIGEST)}"
    named = f"PUT {repository.url}/manifests/v1"
    for target in (posted, closed, named):
        with connect(registry_url) as wire:
            wire.send(f"{target} HTTP/1.1\r\n{HOST}{framing}\r\n".encode() + sent)
            wire.sock.shutdown(socket.SHUT_WR)
            while wire.sock.recv(65536):
                pass  # an answer, if there is one, and then the end

    assert repository.get(f"blobs/{DIGEST}").status_code == 404
    assert repository.get("manifests/v1").status_code == 404


def test_an_empty_patch_changes_nothing(repository: Repository, kept: Send) -> None:
    location = repository.begin()
    for framing, body in (
        (NO_BODY, b""),
        (CHUNKED, b"0\r\n\r\n"),
        (CHUNKED, chunks(b"abc", 3)),
        (NO_BODY, b""),
    ):
        answer = kept(f"PATCH {location} HTTP/1.1\r\n{HOST}{framing}", body)
        assert answer.status == 202
        location = answer.headers["location"]

    assert answer.headers["range"] == "0-2"
    assert repository.http.put(with_digest(location, Digest.of(b"abc"))).status_code == 201


def test_a_stream_longer_than_its_content_range_is_not_kept(repository: Repository, kept: Send) -> None:
    location = repository.begin()
    head = f"PATCH {location} HTTP/1.1\r\n{HOST}{CHUNKED}Content-Range: 0-9\r\n"

    for size in (9, 11):
        answer = kept(head, chunks(LAYER[:size], 4))
        assert answer.status == 400
        assert repository.http.get(location).headers["Range"] == "0-0"

    assert kept(head, chunks(LAYER[:10], 4)).headers["range"] == "0-9"


# Mount


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("?from={escaped}&mount=sha256%3A{hex}", id="docker"),
        pytest.param("?mount=sha256:{hex}&from={name}", id="containerd"),
        pytest.param("?mount=sha256%3a{hex}&from={escaped}", id="lower-case-escape"),
        pytest.param("?mount=sha256:{hex}", id="without-from"),
        pytest.param("?mount=sha256:{hex}&from={name}&origin=x", id="unknown-parameter"),
    ],
)
def test_mounts_however_it_is_spelled(
    repository: Repository, other: Repository, kept: Send, query: str
) -> None:
    digest = other.push_blob(LAYER)
    target = query.format(hex=digest.hex, name=other.name, escaped=other.name.replace("/", "%2F"))

    answer = kept(f"POST {repository.url}/blobs/uploads/{target} HTTP/1.1\r\n{HOST}{NO_BODY}")

    assert (answer.status, answer.headers["docker-content-digest"]) == (201, str(digest))
    assert repository.http.get(answer.headers["location"]).content == LAYER


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("library/hello-world", id="unknown"),
        pytest.param("library%2Fhello-world", id="unknown-escaped"),
        pytest.param("docker.io%2Flibrary%2Fubuntu", id="with-a-host"),
        pytest.param("127.0.0.1:5000/app", id="with-a-port"),
        pytest.param("UPPER", id="upper-case"),
        pytest.param("..%2F..%2Fetc", id="traversal"),
        pytest.param("a%00b", id="nul"),
        pytest.param("", id="empty"),
    ],
)
def test_a_mount_from_a_wrong_source_becomes_the_upload_that_follows(
    repository: Repository, other: Repository, once: Send, source: str
) -> None:
    other.push_blob(LAYER)
    target = f"{repository.url}/blobs/uploads/?from={source}&mount=sha256%3A{DIGEST.hex}"

    begun = once(f"POST {target} HTTP/1.1\r\n{DOCKER}{NO_BODY}")
    assert begun.status == 202
    assert repository.get(f"blobs/{DIGEST}").status_code == 404

    patched = once(f"PATCH {begun.headers['location']} HTTP/1.1\r\n{DOCKER}{CHUNKED}", chunks(LAYER, 32768))
    location = with_digest(patched.headers["location"], f"sha256%3A{DIGEST.hex}")
    assert once(f"PUT {location} HTTP/1.1\r\n{DOCKER}{NO_BODY}").status == 201


def test_a_mount_of_a_malformed_digest_is_refused(repository: Repository) -> None:
    response = repository.http.post(f"{repository.url}/blobs/uploads/?mount=sha256:zz&from=a")

    assert (response.status_code, error_code(response)) == (400, "DIGEST_INVALID")


# Pull


def test_docker_pulls(repository: Repository, once: Send) -> None:
    body = repository.push_image("v1", LAYER)
    tag = once(f"HEAD {repository.url}/manifests/v1 HTTP/1.1\r\n{DOCKER}{ACCEPT_LINES}")
    assert tag.status == 200
    assert tag.headers["content-length"] == str(len(body))
    assert tag.headers["content-type"] == IMAGE_MANIFEST

    digest = tag.headers["docker-content-digest"]
    found = once(f"GET {repository.url}/manifests/{digest} HTTP/1.1\r\n{DOCKER}{ACCEPT_LINES}{GZIP}")
    assert found.body == body
    assert "content-encoding" not in found.headers

    layer = once(f"GET {repository.url}/blobs/{DIGEST} HTTP/1.1\r\n{DOCKER}{GZIP}")
    assert layer.body == LAYER
    assert "content-encoding" not in layer.headers


def test_docker_resumes_a_cut_blob(repository: Repository, once: Send) -> None:
    repository.push_blob(LAYER)

    rest = once(f"GET {repository.url}/blobs/{DIGEST} HTTP/1.1\r\n{DOCKER}Range: bytes=100000-\r\n")

    assert (rest.status, rest.body) == (206, LAYER[100000:])
    assert rest.headers["content-range"] == f"bytes 100000-{len(LAYER) - 1}/{len(LAYER)}"


def test_containerd_pulls_and_names_the_upstream_it_wants(repository: Repository, kept: Send) -> None:
    body = repository.push_image("v1", LAYER)
    accept = f"Accept: {IMAGE_MANIFEST}, {IMAGE_INDEX}, */*\r\n"

    assert kept(
        f"HEAD {repository.url}/manifests/v1?ns=docker.io HTTP/1.1\r\n{CONTAINERD}{accept}", b""
    ).headers["docker-content-digest"] == str(Digest.of(body))
    target = f"{repository.url}/blobs/{DIGEST}?ns=docker.io"
    assert kept(f"GET {target} HTTP/1.1\r\n{CONTAINERD}Accept: {LAYER_GZIP}, */*\r\n{GZIP}").body == LAYER


def test_a_client_that_was_redirected_here_says_from_where(repository: Repository, once: Send) -> None:
    repository.push_blob(LAYER)
    referer = "Referer: https://registry-1.docker.io/v2/library/debian/blobs/sha256:0\r\n"

    answer = once(f"GET {repository.url}/blobs/{DIGEST} HTTP/1.1\r\n{DOCKER}{referer}")

    assert (answer.status, answer.body) == (200, LAYER)


@pytest.mark.parametrize("accept", ["Accept: text/html\r\n", "Accept: */*;q=0\r\n", "Accept: \r\n", ""])
def test_a_manifest_has_one_form_whatever_is_accepted(
    repository: Repository, once: Send, accept: str
) -> None:
    body = repository.push_image("v1")

    answer = once(f"GET {repository.url}/manifests/v1 HTTP/1.1\r\n{DOCKER}{accept}")

    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == IMAGE_MANIFEST


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_known_etag_is_304_to_get_and_head(repository: Repository, kept: Send, method: str) -> None:
    """RFC 9110 §13.1.2: If-None-Match means the same to both."""
    body = repository.push_image("v1", LAYER)
    for path, etag in (
        ("manifests/v1", f'"{Digest.of(body)}"'),
        (f"manifests/{Digest.of(body)}", "*"),
        (f"blobs/{DIGEST}", f'"{DIGEST}"'),
        (f"blobs/{DIGEST}", f'W/"{DIGEST}"'),
    ):
        answer = kept(f"{method} {repository.url}/{path} HTTP/1.1\r\n{HOST}If-None-Match: {etag}\r\n")
        assert (answer.status, answer.body) == (304, b""), path
        assert answer.headers["etag"]


def test_podman_search_falls_back_to_the_catalog(repository: Repository, once: Send) -> None:
    repository.push_image("v1")

    assert once(f"GET /v1/search?n=25&q=debian HTTP/1.1\r\n{PODMAN}").status == 404
    assert repository.name in once(f"GET /v2/_catalog HTTP/1.1\r\n{PODMAN}").body.decode()


def test_connection_close_is_kept_by_every_kind_of_answer(repository: Repository, once: Send) -> None:
    repository.push_image("v1", LAYER)
    for method, path, status in (
        ("GET", f"blobs/{DIGEST}", 200),
        ("HEAD", f"blobs/{DIGEST}", 200),
        ("GET", "blobs/sha256:bad", 400),
        ("GET", "manifests/none", 404),
        ("HEAD", "manifests/none", 404),
        ("GET", "tags/list", 200),
        ("POST", "manifests/v1", 405),
        ("DELETE", "manifests/v1", 202),
    ):
        assert once(f"{method} {repository.url}/{path} HTTP/1.1\r\n{DOCKER}").status == status


def test_a_kept_connection_survives_every_kind_of_answer(repository: Repository, kept: Send) -> None:
    repository.push_image("v1", LAYER)
    location = repository.begin()
    for method, target, body, status in (
        ("GET", f"{repository.url}/blobs/{DIGEST}", b"", 200),
        ("HEAD", f"{repository.url}/blobs/{DIGEST}", b"", 200),
        ("GET", f"{repository.url}/blobs/sha256:bad", b"", 400),
        ("HEAD", f"{repository.url}/manifests/none", b"", 404),
        ("PUT", f"{repository.url}/manifests/v1", b"no json", 400),
        ("POST", f"{repository.url}/manifests/v1", b"a body that nobody reads", 405),
        ("PATCH", location.replace("uploads/", "uploads/0"), b"neither this", 404),
        ("PATCH", location, b"but this", 202),
        ("GET", location, b"", 204),
        ("DELETE", location, b"", 204),
        ("DELETE", f"{repository.url}/manifests/v1", b"", 202),
        ("GET", "/v2/", b"", 200),
    ):
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        assert kept(f"{method} {target} HTTP/1.1\r\n{CONTAINERD}{length}", body).status == status


# Several at once


def test_api_05_of_two_writers_on_one_session_one_wins(repository: Repository, registry_url: str) -> None:
    location = repository.begin()
    head = f"PATCH {location} HTTP/1.1\r\n{HOST}Content-Range: 0-4\r\nContent-Length: 5\r\n"
    with connect(registry_url) as first, connect(registry_url) as second:
        first.send(f"{head}Expect: 100-continue\r\n\r\n")
        # The server asks for the body once the session is the first writer's.
        assert first.answer(head_only=True).status == 100

        second.send(f"{head}\r\nWRONG")
        lost = second.answer()
        cancelled = repository.http.delete(location)

        first.send("right")
        won = first.answer()

    assert (lost.status, json.loads(lost.body)["errors"][0]["code"]) == (416, "BLOB_UPLOAD_INVALID")
    assert (cancelled.status_code, error_code(cancelled)) == (416, "BLOB_UPLOAD_INVALID")
    assert (won.status, won.headers["range"]) == (202, "0-4")
    closed = repository.http.put(with_digest(won.headers["location"], Digest.of(b"right")))
    assert closed.status_code == 201


def test_api_05_of_many_writers_at_one_offset_one_wins(repository: Repository, registry_url: str) -> None:
    location, start = repository.begin(), threading.Barrier(8)

    def append(number: int) -> int:
        with httpx.Client(base_url=registry_url) as http:
            start.wait()
            return http.patch(
                location, content=b"%05d" % number, headers={"Content-Range": "0-4"}
            ).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(append, range(8)))

    assert sorted(statuses) == [202] + [416] * 7
    winner = b"%05d" % statuses.index(202)
    assert repository.http.get(location).headers["Range"] == "0-4"
    assert repository.http.put(with_digest(location, Digest.of(winner))).status_code == 201


def test_a_session_is_closed_once(repository: Repository, registry_url: str) -> None:
    location, start = repository.begin(), threading.Barrier(4)
    repository.http.patch(location, content=LAYER)

    def close(_: int) -> int:
        with httpx.Client(base_url=registry_url) as http:
            start.wait()
            return http.put(with_digest(location, DIGEST)).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(close, range(4)))

    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 404, 416}


def test_parallel_pushes_of_one_blob_keep_one_copy(
    registry_url: str, repository: Repository, settings: Settings
) -> None:
    content, start = repository.name.encode() * 10_000, threading.Barrier(8)
    digest = Digest.of(content)

    def push(number: int) -> bytes:
        with httpx.Client(base_url=registry_url) as http:
            mine = Repository(http, f"{repository.name}/{number % 4}")
            location = mine.begin()
            start.wait()
            assert http.put(with_digest(location, digest), content=content).status_code == 201
            return mine.get(f"blobs/{digest}").content

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, range(8))) == {content}

    assert len(list(settings.data.glob(f"blobs/sha256/*/{digest.hex}*"))) == 1


def test_crash_07_parallel_pushes_and_deletes_of_one_tag_have_one_order(
    registry_url: str, repository: Repository
) -> None:
    body = repository.push_image("v1", LAYER)

    def work(number: int) -> list[int]:
        with httpx.Client(base_url=registry_url) as http:
            mine = Repository(http, repository.name)
            if number % 2:
                return [http.delete(f"{mine.url}/manifests/v1").status_code for _ in range(10)]
            return [mine.put_manifest("v1", body).status_code for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        pushed, deleted, *more = pool.map(work, range(4))

    assert set(pushed) | set(more[0]) == {201}
    assert set(deleted) | set(more[1]) <= {202, 404}
    last = repository.get("manifests/v1")
    assert last.status_code == 404 or last.content == body
    assert repository.put_manifest("v1", body).status_code == 201
