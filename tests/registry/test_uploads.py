"""/v2/<name>/blobs/uploads/ over a real server."""

from collections.abc import Iterator

import httpx
import pytest

from storage.oci.digest import Digest
from tests.registry.conftest import WAYS
from tests.registry.pushing import OCTETS, Repository, error_code, image, with_digest

pytestmark = pytest.mark.parametrize(
    "way",
    WAYS,
    indirect=True,
    scope="module",
)

CONTENT = b"0123456789" * 1000
DIGEST = Digest.of(CONTENT)


def patch(repository: Repository, location: str, content: object, **headers: str) -> httpx.Response:
    return repository.http.patch(location, content=content, headers={**OCTETS, **headers})  # type: ignore[arg-type]


def test_post_then_put_stores_the_blob(repository: Repository) -> None:
    response = repository.http.put(with_digest(repository.begin(), DIGEST), content=CONTENT, headers=OCTETS)

    assert response.status_code == 201
    assert response.headers["Location"] == f"{repository.url}/blobs/{DIGEST}"
    assert response.headers["Docker-Content-Digest"] == str(DIGEST)
    assert repository.http.get(response.headers["Location"]).content == CONTENT


def test_the_session_starts_empty_and_relative(repository: Repository) -> None:
    response = repository.http.post(f"{repository.url}/blobs/uploads/")

    assert response.status_code == 202
    assert response.headers["Location"].startswith(f"{repository.url}/blobs/uploads/")
    assert response.headers["Range"] == "0-0"
    assert response.headers["Docker-Upload-UUID"] in response.headers["Location"]


def test_chunks_are_appended_and_acknowledged(repository: Repository) -> None:
    location = repository.begin()
    for start in range(0, len(CONTENT), 4000):
        chunk = CONTENT[start : start + 4000]
        response = patch(
            repository, location, chunk, **{"Content-Range": f"{start}-{start + len(chunk) - 1}"}
        )
        assert response.status_code == 202
        assert response.headers["Range"] == f"0-{start + len(chunk) - 1}"
        location = response.headers["Location"]

    response = repository.http.put(with_digest(location, DIGEST))

    assert response.status_code == 201
    assert repository.get(f"blobs/{DIGEST}").content == CONTENT


def test_docker_streams_one_chunked_patch_and_closes_with_an_empty_put(repository: Repository) -> None:
    def stream() -> Iterator[bytes]:
        yield from (CONTENT[:7], CONTENT[7:8000], CONTENT[8000:])

    response = patch(repository, repository.begin(), stream())
    assert response.status_code == 202
    assert response.headers["Range"] == f"0-{len(CONTENT) - 1}"

    closed = repository.http.put(with_digest(response.headers["Location"], f"sha256%3A{DIGEST.hex}"))

    assert closed.status_code == 201
    assert repository.get(f"blobs/{DIGEST}").content == CONTENT


def test_the_last_chunk_may_come_with_the_put(repository: Repository) -> None:
    response = patch(repository, repository.begin(), CONTENT[:6000])

    closed = repository.http.put(
        with_digest(response.headers["Location"], DIGEST),
        content=CONTENT[6000:],
        headers={**OCTETS, "Content-Range": f"6000-{len(CONTENT) - 1}"},
    )

    assert closed.status_code == 201
    assert repository.get(f"blobs/{DIGEST}").content == CONTENT


def test_a_single_post_stores_the_blob(repository: Repository) -> None:
    response = repository.http.post(
        f"{repository.url}/blobs/uploads/?digest={DIGEST}", content=CONTENT, headers=OCTETS
    )

    assert response.status_code == 201
    assert repository.http.get(response.headers["Location"]).content == CONTENT


def test_a_post_with_a_digest_and_no_body_starts_a_session(repository: Repository) -> None:
    response = repository.http.post(f"{repository.url}/blobs/uploads/?digest={DIGEST}")

    assert response.status_code == 202


def test_digest_algorithm_makes_a_sha512_session(repository: Repository) -> None:
    digest = Digest.of(CONTENT, "sha512")
    response = patch(repository, repository.begin("?digest-algorithm=sha512"), CONTENT)

    closed = repository.http.put(with_digest(response.headers["Location"], digest))

    assert closed.status_code == 201
    assert repository.get(f"blobs/{digest}").content == CONTENT


def test_a_session_may_end_in_another_algorithm_than_it_began(repository: Repository) -> None:
    digest = Digest.of(CONTENT, "sha512")
    response = patch(repository, repository.begin(), CONTENT)

    assert repository.http.put(with_digest(response.headers["Location"], digest)).status_code == 201


def test_refuses_an_algorithm_it_does_not_compute(repository: Repository) -> None:
    response = repository.http.post(f"{repository.url}/blobs/uploads/?digest-algorithm=md5")

    assert (response.status_code, error_code(response)) == (400, "DIGEST_INVALID")


def test_status_tells_the_offset(repository: Repository) -> None:
    location = patch(repository, repository.begin(), CONTENT[:10]).headers["Location"]

    response = repository.http.get(location)

    assert response.status_code == 204
    assert response.headers["Range"] == "0-9"
    assert response.headers["Location"] == location


def test_cancel_ends_the_session(repository: Repository) -> None:
    location = patch(repository, repository.begin(), CONTENT).headers["Location"]

    assert repository.http.delete(location).status_code == 204

    response = repository.http.get(location)
    assert (response.status_code, error_code(response)) == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize(
    "content_range",
    [
        pytest.param("10-19", id="gap"),
        pytest.param("0-9", id="again"),
        pytest.param("4-13", id="overlap"),
    ],
)
def test_api_05_refuses_a_chunk_out_of_order(repository: Repository, content_range: str) -> None:
    location = patch(repository, repository.begin(), CONTENT[:5]).headers["Location"]

    response = patch(repository, location, CONTENT[:10], **{"Content-Range": content_range})

    assert (response.status_code, error_code(response)) == (416, "BLOB_UPLOAD_INVALID")
    assert response.headers["Range"] == "0-4"
    assert repository.http.get(location).headers["Range"] == "0-4"


def test_api_05_refuses_a_closing_chunk_out_of_order(repository: Repository) -> None:
    location = patch(repository, repository.begin(), CONTENT[:5]).headers["Location"]

    response = repository.http.put(
        with_digest(location, DIGEST),
        content=CONTENT[10:],
        headers={"Content-Range": f"10-{len(CONTENT) - 1}"},
    )

    assert response.status_code == 416


@pytest.mark.parametrize(
    ("content_range", "status"),
    [
        pytest.param("x-y", 416, id="letters"),
        pytest.param("-5-4", 416, id="negative"),
        pytest.param("0-" + "9" * 30, 416, id="overflow"),
        pytest.param("9-0", 400, id="backwards"),
        pytest.param("0-5", 400, id="other-length"),
    ],
)
def test_api_05_refuses_a_bad_content_range(repository: Repository, content_range: str, status: int) -> None:
    location = repository.begin()

    response = patch(repository, location, CONTENT[:10], **{"Content-Range": content_range})

    assert response.status_code == status
    assert repository.http.get(location).headers["Range"] == "0-0"


def test_api_03_a_wrong_digest_leaves_nothing(repository: Repository) -> None:
    wrong = Digest.of(b"something else")
    location = repository.begin()

    response = repository.http.put(with_digest(location, wrong), content=CONTENT, headers=OCTETS)

    assert (response.status_code, error_code(response)) == (400, "DIGEST_INVALID")
    assert repository.get(f"blobs/{wrong}").status_code == 404
    assert repository.get(f"blobs/{DIGEST}").status_code == 404


def test_api_03_a_wrong_digest_after_chunks_can_be_corrected(repository: Repository) -> None:
    location = patch(repository, repository.begin(), CONTENT).headers["Location"]
    assert repository.http.put(with_digest(location, Digest.of(b"x"))).status_code == 400

    assert repository.http.put(with_digest(location, DIGEST)).status_code == 201


def test_a_single_post_with_a_wrong_digest_leaves_no_session(
    repository: Repository, settings: object
) -> None:
    before = set((settings.data / "uploads").iterdir())  # type: ignore[attr-defined]
    response = repository.http.post(
        f"{repository.url}/blobs/uploads/?digest={Digest.of(b'x')}", content=CONTENT, headers=OCTETS
    )

    assert response.status_code == 400
    assert set((settings.data / "uploads").iterdir()) == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:zz"])
def test_a_put_needs_a_digest(repository: Repository, query: str) -> None:
    location = repository.begin()

    response = repository.http.put(location + query.replace("?", "&"))

    assert (response.status_code, error_code(response)) == (400, "DIGEST_INVALID")


def test_iso_04_a_session_belongs_to_its_repository(repository: Repository, other: Repository) -> None:
    location = repository.begin()
    elsewhere = location.replace(repository.name, other.name)

    for method in ("GET", "PATCH", "PUT", "DELETE"):
        response = repository.http.request(method, with_digest(elsewhere, DIGEST))
        assert (response.status_code, error_code(response)) == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda location: location.split("?")[0], id="unsigned"),
        pytest.param(lambda location: location[:-1] + ("A" if location[-1] != "A" else "B"), id="tampered"),
        pytest.param(lambda location: location.replace("uploads/", "uploads/..%2f"), id="traversal"),
        pytest.param(lambda location: location.replace("uploads/", "uploads/x"), id="long-id"),
    ],
)
def test_iso_04_only_a_signed_link_opens_a_session(repository: Repository, change: object) -> None:
    location: str = change(repository.begin())  # type: ignore[operator]

    response = repository.http.get(location)

    assert (response.status_code, error_code(response)) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_mounts_a_blob_of_another_repository(repository: Repository, other: Repository) -> None:
    digest = other.push_blob(b"mounted")

    # The encoding is docker's.
    response = repository.http.post(
        f"{repository.url}/blobs/uploads/?from={other.name.replace('/', '%2F')}&mount=sha256%3A{digest.hex}"
    )

    assert response.status_code == 201
    assert response.headers["Location"] == f"{repository.url}/blobs/{digest}"
    assert repository.get(f"blobs/{digest}").content == b"mounted"


def test_mounts_without_from_what_the_caller_may_read(repository: Repository, other: Repository) -> None:
    digest = other.push_blob(b"mounted from anywhere")

    response = repository.http.post(f"{repository.url}/blobs/uploads/?mount={digest}")

    assert response.status_code == 201


@pytest.mark.parametrize("source", ["no/such", "NOT%20A%20NAME", "..%2f..", ""])
def test_a_mount_from_the_wrong_place_starts_an_upload(
    repository: Repository, other: Repository, source: str
) -> None:
    digest = other.push_blob(b"not there")

    response = repository.http.post(f"{repository.url}/blobs/uploads/?mount={digest}&from={source}")

    assert response.status_code == 202
    assert repository.get(f"blobs/{digest}").status_code == 404


def test_iso_02_a_digest_held_elsewhere_is_no_link(repository: Repository, other: Repository) -> None:
    other.push_blob(b"private layer")
    repository.push_blob(b"{}")

    response = repository.put_manifest("v1", image(b"{}", b"private layer"))

    assert (response.status_code, error_code(response)) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert repository.get(f"blobs/{Digest.of(b'private layer')}").status_code == 404


def test_two_pushes_of_one_blob_keep_one_copy(
    repository: Repository, other: Repository, settings: object
) -> None:
    digest = repository.push_blob(b"twice")
    other.push_blob(b"twice")

    files = list(settings.data.glob(f"blobs/sha256/*/{digest.hex}*"))  # type: ignore[attr-defined]
    assert len(files) == 1
