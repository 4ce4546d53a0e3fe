"""/v2/<name>/blobs/<digest> over a real server."""

import re

import httpx
import pytest

from storage.oci.digest import Digest
from tests.registry.conftest import WAYS
from tests.registry.pushing import Repository, error_code

pytestmark = pytest.mark.parametrize(
    "way",
    WAYS,
    indirect=True,
    scope="module",
)

CONTENT = bytes(range(256)) * 40


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_serves_what_was_pushed(repository: Repository, algorithm: str) -> None:
    digest = repository.push_blob(CONTENT, algorithm)

    response = repository.get(f"blobs/{digest}")

    assert response.status_code == 200
    assert response.content == CONTENT
    assert response.headers["Docker-Content-Digest"] == str(digest)
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["ETag"] == f'"{digest}"'


def test_head_tells_size_and_digest(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.http.head(f"{repository.url}/blobs/{digest}")

    assert response.status_code == 200
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["Docker-Content-Digest"] == str(digest)


def test_serves_an_empty_blob(repository: Repository) -> None:
    digest = repository.push_blob(b"")

    response = repository.get(f"blobs/{digest}")

    assert (response.status_code, response.content) == (200, b"")


def test_accepts_an_encoded_colon(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)

    assert repository.get(f"blobs/sha256%3A{digest.hex}").status_code == 200


def test_answers_304_to_a_known_etag(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.get(f"blobs/{digest}", **{"If-None-Match": f'"{digest}"'})

    assert (response.status_code, response.content) == (304, b"")


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        pytest.param("bytes=0-0", 0, 1, id="first-byte"),
        pytest.param("bytes=100-", 100, 10240, id="open"),
        pytest.param("bytes=-100", 10140, 10240, id="suffix"),
        pytest.param("bytes=-99999", 0, 10240, id="long-suffix"),
        pytest.param("bytes=10000-99999999999", 10000, 10240, id="past-the-end"),
    ],
)
def test_http_09_serves_one_range(repository: Repository, header: str, start: int, stop: int) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.get(f"blobs/{digest}", Range=header)

    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert response.content == CONTENT[start:stop]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("bytes=10240-", id="at-the-end"),
        pytest.param("bytes=-0", id="empty-suffix"),
        pytest.param("bytes=99999-100000", id="behind"),
    ],
)
def test_http_09_refuses_a_range_outside(repository: Repository, header: str) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.get(f"blobs/{digest}", Range=header)

    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("bytes=5-4", id="backwards"),
        pytest.param("bytes=a-b", id="letters"),
        pytest.param("bytes=--1", id="negative"),
        pytest.param("lines=1-2", id="other-unit"),
        pytest.param("bytes=" + "9" * 40 + "-", id="huge-number"),
        pytest.param("bytes=0-100,50-150", id="overlapping"),
        pytest.param("bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(1025)), id="too-many"),
    ],
)
def test_http_09_ignores_a_range_it_does_not_take(repository: Repository, header: str) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.get(f"blobs/{digest}", Range=header)

    assert (response.status_code, response.content) == (200, CONTENT)


def test_serves_several_ranges_as_zstd_chunked_asks(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.get(f"blobs/{digest}", Range="bytes=0-9,100-199,-5")

    assert response.status_code == 206
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\w+)", response.headers["Content-Type"])
    assert boundary is not None
    parts = response.content.split(b"--" + boundary[1].encode())
    bodies = [part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for part in parts[1:-1]]
    assert bodies == [CONTENT[0:10], CONTENT[100:200], CONTENT[-5:]]
    assert b"Content-Range: bytes 100-199/10240" in parts[2]


def test_an_if_range_of_other_content_gets_all(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.get(f"blobs/{digest}", **{"Range": "bytes=0-9", "If-Range": '"other"'})

    assert response.status_code == 200


def test_iso_01_knowing_a_digest_is_no_permission(repository: Repository, other: Repository) -> None:
    digest = repository.push_blob(b"secret of one repository")
    other.push_blob(b"something else")

    for method in ("GET", "HEAD"):
        assert other.http.request(method, f"{other.url}/blobs/{digest}").status_code == 404
    assert error_code(other.get(f"blobs/{digest}")) == "BLOB_UNKNOWN"


def test_delete_takes_the_blob_from_this_repository_only(repository: Repository, other: Repository) -> None:
    digest = repository.push_blob(b"shared")
    other.push_blob(b"shared")

    assert repository.http.delete(f"{repository.url}/blobs/{digest}").status_code == 202

    assert repository.get(f"blobs/{digest}").status_code == 404
    assert other.get(f"blobs/{digest}").content == b"shared"
    again = repository.http.delete(f"{repository.url}/blobs/{digest}")
    assert (again.status_code, error_code(again)) == (404, "BLOB_UNKNOWN")


def test_crash_18_delete_then_the_same_push_is_stored_again(repository: Repository) -> None:
    digest = repository.push_blob(b"comes back")
    repository.http.delete(f"{repository.url}/blobs/{digest}")

    repository.push_blob(b"comes back")

    assert repository.get(f"blobs/{digest}").content == b"comes back"


def test_inv_01_refuses_to_delete_a_blob_that_a_manifest_uses(repository: Repository) -> None:
    repository.push_image("v1", b"layer in use")

    response = repository.http.delete(f"{repository.url}/blobs/{Digest.of(b'layer in use')}")

    assert (response.status_code, error_code(response)) == (409, "DENIED")
    assert repository.get(f"blobs/{Digest.of(b'layer in use')}").status_code == 200


def test_inv_05_a_push_heals_a_blob_whose_bytes_are_gone(
    repository: Repository, settings: object, http: httpx.Client
) -> None:
    digest = repository.push_blob(b"lost by the disk")
    for file in settings.data.glob(f"blobs/sha256/*/{digest.hex}*"):  # type: ignore[attr-defined]
        file.unlink()
    assert repository.get(f"blobs/{digest}").status_code == 404
    assert repository.http.head(f"{repository.url}/blobs/{digest}").status_code == 404, "or nobody sends it"

    repository.push_blob(b"lost by the disk")

    assert repository.get(f"blobs/{digest}").content == b"lost by the disk"


@pytest.mark.parametrize(
    "digest",
    [
        pytest.param("sha256:" + "A" * 64, id="upper-case"),
        pytest.param("sha256:" + "a" * 63, id="short"),
        pytest.param("md5:" + "a" * 32, id="other-algorithm"),
        pytest.param("latest", id="a-tag"),
        pytest.param("sha256:" + "a" * 64 + "%0a", id="newline"),
    ],
)
def test_api_02_refuses_a_bad_digest(repository: Repository, digest: str) -> None:
    response = repository.get(f"blobs/{digest}")

    assert (response.status_code, error_code(response)) == (400, "DIGEST_INVALID")
