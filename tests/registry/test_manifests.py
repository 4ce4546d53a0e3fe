"""/v2/<name>/manifests/<reference> over a real server."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from storage.oci.digest import Digest
from storage.oci.manifest import MANIFEST_LIMIT
from storage.oci.media_types import (
    ARTIFACT_MANIFEST,
    DOCKER_MANIFEST,
    EMPTY,
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    LAYER_GZIP,
)
from tests.registry.conftest import WAYS
from tests.registry.pushing import Repository, descriptor, error_code, image, index

pytestmark = pytest.mark.parametrize(
    "way",
    WAYS,
    indirect=True,
    scope="module",
)


def test_api_07_serves_the_exact_bytes_by_tag_and_digest(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = json.dumps(json.loads(image(b"{}")), indent=7).encode()
    created = repository.put_manifest("v1", body)
    digest = Digest.of(body)

    assert created.status_code == 201
    assert created.headers["Location"] == f"{repository.url}/manifests/{digest}"
    for reference in ("v1", str(digest), f"sha256%3A{digest.hex}"):
        response = repository.get(f"manifests/{reference}")
        assert response.status_code == 200
        assert response.content == body
        assert response.headers["Content-Type"] == IMAGE_MANIFEST
        assert response.headers["Docker-Content-Digest"] == str(digest)
        assert response.headers["ETag"] == f'"{digest}"'


def test_head_has_the_headers_of_get(repository: Repository) -> None:
    body = repository.push_image("v1")

    response = repository.http.head(f"{repository.url}/manifests/v1")

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Length"] == str(len(body))
    assert response.headers["Docker-Content-Digest"] == str(Digest.of(body))
    assert response.headers["Content-Type"] == IMAGE_MANIFEST


def test_pushes_by_a_sha512_digest(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = image(b"{}")
    digest = Digest.of(body, "sha512")

    assert repository.put_manifest(digest, body).status_code == 201

    assert repository.get(f"manifests/{digest}").content == body
    assert repository.get(f"manifests/{Digest.of(body)}").status_code == 404, "API-04: not under another name"


def test_keeps_dockers_own_type(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = image(b"{}").replace(IMAGE_MANIFEST.encode(), DOCKER_MANIFEST.encode())

    repository.put_manifest("v1", body, DOCKER_MANIFEST)

    accept = {"Accept": f"{IMAGE_INDEX}, {DOCKER_MANIFEST}, */*"}
    assert repository.get("manifests/v1", **accept).headers["Content-Type"] == DOCKER_MANIFEST


def test_a_large_manifest_comes_back_whole(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = image(b"{}", annotations={"filler": "x" * (MANIFEST_LIMIT - 2000)})

    assert repository.put_manifest("large", body).status_code == 201

    assert repository.get("manifests/large").content == body
    assert repository.http.head(f"{repository.url}/manifests/large").headers["Content-Length"] == str(
        len(body)
    )


def test_api_08_refuses_more_than_4_mib(repository: Repository) -> None:
    response = repository.put_manifest("v1", b" " * (MANIFEST_LIMIT + 1))

    assert (response.status_code, error_code(response)) == (413, "MANIFEST_INVALID")


def test_several_tags_by_digest(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = image(b"{}")
    tags = ["1.2.3", "1.2", "1", "latest", *(f"t{n}" for n in range(20))]

    response = repository.put_manifest(f"{Digest.of(body)}?{'&'.join(f'tag={tag}' for tag in tags)}", body)

    assert response.status_code == 201
    assert response.headers["OCI-Tag"].split(", ") == tags
    assert repository.get("manifests/1.2").content == body


def test_a_bad_tag_among_several_moves_none(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = image(b"{}")

    response = repository.put_manifest(f"{Digest.of(body)}?tag=good&tag=-bad", body)

    assert response.status_code == 400
    assert repository.get("manifests/good").status_code == 404


def test_too_many_tags_are_a_long_uri(repository: Repository) -> None:
    body = image(b"{}")
    query = "&".join(f"tag=t{n}" for n in range(101))

    assert repository.put_manifest(f"{Digest.of(body)}?{query}", body).status_code == 414


def test_missing_blobs_are_all_named(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = image(b"{}", b"absent one", b"absent two")

    response = repository.put_manifest("v1", body)

    assert response.status_code == 400
    errors = response.json()["errors"]
    assert {error["code"] for error in errors} == {"MANIFEST_BLOB_UNKNOWN"}
    named = {error["detail"]["digest"] for error in errors}
    assert named == {str(Digest.of(b"absent one")), str(Digest.of(b"absent two"))}
    assert repository.get("manifests/v1").status_code == 404


def test_a_foreign_layer_may_be_absent(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = json.loads(image(b"{}"))
    body["layers"] = [descriptor(LAYER_GZIP, b"far away", urls=["https://example.com/layer"])]

    assert repository.put_manifest("v1", json.dumps(body).encode()).status_code == 201


def test_net_06_refuses_urls_that_are_not_http(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = json.loads(image(b"{}"))
    body["layers"] = [descriptor(LAYER_GZIP, b"far away", urls=["file:///etc/passwd"])]

    assert repository.put_manifest("v1", json.dumps(body).encode()).status_code == 400


def test_an_index_needs_its_children(repository: Repository) -> None:
    child = repository.push_image("child")
    missing = index(child, image(b"{}", b"never pushed"))

    response = repository.put_manifest("all", missing, IMAGE_INDEX)
    assert (response.status_code, error_code(response)) == (400, "MANIFEST_BLOB_UNKNOWN")

    assert repository.put_manifest("all", index(child), IMAGE_INDEX).status_code == 201


def test_api_11_refuses_a_descriptor_of_another_size(repository: Repository) -> None:
    repository.push_blob(b"{}")
    repository.push_blob(b"layer")
    body = json.loads(image(b"{}", b"layer"))
    body["layers"][0]["size"] += 1

    response = repository.put_manifest("v1", json.dumps(body).encode())

    assert (response.status_code, error_code(response)) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        pytest.param(b"", IMAGE_MANIFEST, id="empty"),
        pytest.param(b"not json", IMAGE_MANIFEST, id="no-json"),
        pytest.param(b"[" * 100_000, IMAGE_MANIFEST, id="api-09-deep"),
        pytest.param(b'{"schemaVersion":NaN}', IMAGE_MANIFEST, id="api-09-nan"),
        pytest.param(b'{"schemaVersion":2,"schemaVersion":2}', IMAGE_MANIFEST, id="api-09-duplicate"),
        pytest.param(b"\xef\xbb\xbf{}", IMAGE_MANIFEST, id="api-09-bom"),
        pytest.param(image(b"{}", manifests=[]), IMAGE_MANIFEST, id="api-10-image-and-index"),
        pytest.param(image(b"{}", Manifests=[]), IMAGE_MANIFEST, id="api-10-other-case"),
        pytest.param(index(layers=[]), IMAGE_INDEX, id="api-10-index-and-image"),
        pytest.param(image(b"{}"), IMAGE_INDEX, id="api-10-other-content-type"),
        pytest.param(image(b"{}"), "application/vnd.docker.distribution.manifest.v1+json", id="schema-1"),
        pytest.param(image(b"{}"), "text/html", id="unknown-type"),
    ],
)
def test_refuses_an_invalid_manifest(repository: Repository, body: bytes, media_type: str) -> None:
    repository.push_blob(b"{}")

    response = repository.put_manifest("v1", body, media_type)

    assert (response.status_code, error_code(response)) == (400, "MANIFEST_INVALID")


def test_api_07_refuses_a_digest_that_is_not_the_bodys(repository: Repository) -> None:
    repository.push_blob(b"{}")

    response = repository.put_manifest(Digest.of(b"other"), image(b"{}"))

    assert (response.status_code, error_code(response)) == (400, "DIGEST_INVALID")


def test_a_known_etag_gets_304(repository: Repository) -> None:
    digest = Digest.of(repository.push_image("v1"))

    for header in (f'"{digest}"', f'W/"{digest}"', "*", f'"x", "{digest}"'):
        response = repository.get("manifests/v1", **{"If-None-Match": header})
        assert (response.status_code, response.content) == (304, b""), header
        assert response.headers["ETag"] == f'"{digest}"'


def test_api_18_if_match_moves_a_tag_only_from_what_it_was(repository: Repository) -> None:
    first, second = repository.push_image("v1", b"one"), repository.push_image("other", b"two")
    old = f'"{Digest.of(first)}"'

    moved = repository.put_manifest("v1", second, **{"If-Match": old})
    lost = repository.put_manifest("v1", first, **{"If-Match": old})

    assert moved.status_code == 201
    assert (lost.status_code, error_code(lost)) == (412, "DENIED")
    assert repository.get("manifests/v1").content == second


def test_api_18_if_none_match_only_creates(repository: Repository) -> None:
    body = repository.push_image("other")

    assert repository.put_manifest("v1", body, **{"If-None-Match": "*"}).status_code == 201
    assert repository.put_manifest("v1", body, **{"If-None-Match": "*"}).status_code == 412


def test_api_18_one_of_many_creators_wins(repository: Repository, registry_url: str) -> None:
    bodies = [repository.push_image(f"source-{n}", b"%d" % n) for n in range(8)]

    def create(body: bytes) -> int:
        with httpx.Client(base_url=registry_url) as http:
            return (
                Repository(http, repository.name)
                .put_manifest("race", body, **{"If-None-Match": "*"})
                .status_code
            )

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(create, bodies))

    assert statuses == [201] + [412] * 7


def test_deleting_a_tag_leaves_the_manifest(repository: Repository) -> None:
    digest = Digest.of(repository.push_image("v1"))

    assert repository.http.delete(f"{repository.url}/manifests/v1").status_code == 202

    assert repository.get("manifests/v1").status_code == 404
    assert repository.get(f"manifests/{digest}").status_code == 200
    assert repository.http.delete(f"{repository.url}/manifests/v1").status_code == 404


def test_deleting_a_manifest_takes_its_tags(repository: Repository) -> None:
    body = repository.push_image("v1")
    repository.put_manifest("v2", body)

    assert repository.http.delete(f"{repository.url}/manifests/{Digest.of(body)}").status_code == 202

    for reference in ("v1", "v2", str(Digest.of(body))):
        response = repository.get(f"manifests/{reference}")
        assert (response.status_code, error_code(response)) == (404, "MANIFEST_UNKNOWN")


def test_inv_01_refuses_to_delete_a_child_of_an_index(repository: Repository) -> None:
    child = repository.push_image("child")
    repository.put_manifest("all", index(child), IMAGE_INDEX)
    digest = Digest.of(child)

    response = repository.http.delete(f"{repository.url}/manifests/{digest}")
    assert (response.status_code, error_code(response)) == (409, "DENIED")

    repository.http.delete(f"{repository.url}/manifests/{Digest.of(index(child))}")
    assert repository.http.delete(f"{repository.url}/manifests/{digest}").status_code == 202


def test_deleting_in_one_repository_leaves_the_other(repository: Repository, other: Repository) -> None:
    body = repository.push_image("v1", b"common")
    other.push_image("v1", b"common")

    repository.http.delete(f"{repository.url}/manifests/{Digest.of(body)}")

    assert other.get(f"manifests/{Digest.of(body)}").content == body


def test_an_artifact_manifest_is_taken_with_a_warning(repository: Repository) -> None:
    repository.push_blob(b"data")
    body = json.dumps(
        {
            "mediaType": ARTIFACT_MANIFEST,
            "artifactType": "application/vnd.example",
            "blobs": [descriptor("application/octet-stream", b"data")],
        }
    ).encode()

    response = repository.put_manifest("v1", body, ARTIFACT_MANIFEST)

    assert response.status_code == 201
    assert response.headers["Warning"].startswith('299 - "')


def test_an_unknown_config_type_is_an_artifact_like_any_other(repository: Repository) -> None:
    repository.push_blob(b"chart")
    body = json.loads(image(b"chart"))
    body["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"

    assert repository.put_manifest("chart", json.dumps(body).encode()).status_code == 201


def test_inline_data_is_checked_by_nobody_but_its_digest(repository: Repository) -> None:
    repository.push_blob(b"{}")
    body = json.loads(image(b"{}"))
    body["config"] = descriptor(EMPTY, b"{}", data="e30=")
    body["artifactType"] = "application/vnd.example"

    assert repository.put_manifest("v1", json.dumps(body).encode()).status_code == 201


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        pytest.param("-bad", "NAME_INVALID", id="tag-grammar"),
        pytest.param("a" * 129, "NAME_INVALID", id="tag-length"),
        pytest.param("v1%0a", "NAME_INVALID", id="api-01-newline"),
        pytest.param("v%31", "NAME_INVALID", id="http-03-encoded"),
        pytest.param("sha256:xyz", "DIGEST_INVALID", id="bad-digest"),
    ],
)
def test_api_01_refuses_a_bad_reference(repository: Repository, reference: str, code: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        response = repository.http.request(method, f"{repository.url}/manifests/{reference}")
        assert (response.status_code, error_code(response)) == (400, code)
