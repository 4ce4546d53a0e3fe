"""/v2/<name>/referrers/<digest>."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest

from registry.app import MIGRATIONS
from registry.metadata import manifests
from registry.metadata.manifests import Push
from registry.settings import Settings
from storage.database import Connection, Database, connect
from storage.oci.digest import Digest
from storage.oci.manifest import MANIFEST_LIMIT, Manifest
from storage.oci.media_types import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    IMAGE_CONFIG,
    IMAGE_INDEX,
    IMAGE_MANIFEST,
)
from storage.oci.names import RepositoryName, referrers_tag
from tests.registry.pushing import Repository, artifact, descriptor, error_code, image, index

SBOM = "application/vnd.example.sbom.v1"
SIGNATURE = "application/vnd.example.signature.v1"
HELM = "application/vnd.cncf.helm.config.v1+json"
INDEXES = (IMAGE_INDEX, DOCKER_MANIFEST_LIST)


@pytest.fixture
def database(registry_url: str, data: Path) -> Iterator[Database]:
    """The server's own database, for more rows than anyone wants to push."""
    database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)
    yield database
    database.close()


def pages(repository: Repository, path: str) -> Iterator[httpx.Response]:
    """Follow `Link` to the end."""
    while path:
        response = repository.http.get(path)
        size = len(response.content)
        assert (response.status_code, response.headers["Content-Type"]) == (200, IMAGE_INDEX)
        assert size <= MANIFEST_LIMIT
        yield response
        link = re.fullmatch(r'<([^>]+)>; rel="next"', response.headers.get("Link", ""))
        path = link[1] if link else ""


def listed(repository: Repository, subject: Digest, query: str = "") -> list[dict[str, object]]:
    """Gather the descriptors of every page."""
    path = f"{repository.url}/referrers/{subject}{query}"
    return [item for page in pages(repository, path) for item in page.json()["manifests"]]


def test_lists_what_names_the_subject(repository: Repository) -> None:
    subject = repository.push_image("v1")
    sbom = repository.push_artifact(subject, SBOM, annotations={"format": "json"})

    (found,) = listed(repository, Digest.of(subject))

    assert found == {
        "mediaType": IMAGE_MANIFEST,
        "digest": str(Digest.of(sbom)),
        "size": len(sbom),
        "artifactType": SBOM,
        "annotations": {"format": "json"},
    }


def test_the_push_says_that_the_subject_was_seen_although_it_is_missing(repository: Repository) -> None:
    subject = image(b"{}", b"not here")
    repository.push_blob(b"{}")

    response = repository.put_manifest("sbom", artifact(subject, SBOM))

    assert response.status_code == 201
    assert response.headers["OCI-Subject"] == str(Digest.of(subject))
    assert len(listed(repository, Digest.of(subject))) == 1


def about(subject: bytes, media_type: str, algorithm: str = "sha256", **more: Any) -> bytes:
    """Return a manifest or index about `subject`; its config is `{}`, its child the subject."""
    named = {**descriptor(IMAGE_MANIFEST, subject), "digest": str(Digest.of(subject, algorithm))}
    document = json.loads(index(subject) if media_type in INDEXES else image(b"{}"))
    return json.dumps({**document, "mediaType": media_type, "subject": named, **more}).encode()


@pytest.mark.parametrize(
    ("media_type", "more", "artifact_type"),
    [
        pytest.param(IMAGE_MANIFEST, {"artifactType": SBOM}, SBOM, id="image"),
        pytest.param(IMAGE_MANIFEST, {}, IMAGE_CONFIG, id="image-without"),
        pytest.param(IMAGE_MANIFEST, {"artifactType": ""}, IMAGE_CONFIG, id="image-with-an-empty-one"),
        pytest.param(IMAGE_MANIFEST, {"artifactType": None}, IMAGE_CONFIG, id="image-with-null"),
        pytest.param(
            IMAGE_MANIFEST, {"config": descriptor(HELM, b"{}")}, HELM, id="image-with-another-config"
        ),
        pytest.param(DOCKER_MANIFEST, {}, IMAGE_CONFIG, id="docker-manifest"),
        pytest.param(IMAGE_INDEX, {"artifactType": SBOM}, SBOM, id="index"),
        pytest.param(IMAGE_INDEX, {}, None, id="index-without"),
        pytest.param(IMAGE_INDEX, {"artifactType": ""}, None, id="index-with-an-empty-one"),
        pytest.param(DOCKER_MANIFEST_LIST, {}, None, id="docker-list"),
    ],
)
def test_the_type_follows_the_specs_rules(
    repository: Repository, media_type: str, more: dict[str, Any], artifact_type: str | None
) -> None:
    subject = repository.push_image("v1")
    repository.push_blob(b"{}")
    body = about(subject, media_type, **more)

    pushed = repository.put_manifest(Digest.of(body), body, media_type)

    assert pushed.status_code == 201
    assert pushed.headers["OCI-Subject"] == str(Digest.of(subject))
    (found,) = listed(repository, Digest.of(subject))
    assert found.get("artifactType") == artifact_type
    assert ("artifactType" in found) == (artifact_type is not None)
    assert (found["mediaType"], found["size"]) == (media_type, len(body))


@pytest.mark.parametrize(
    ("annotations", "shown"),
    [
        pytest.param({"a": "b", "": "", "é\n\u2028": "<&>\x7f"}, True, id="any-text"),
        pytest.param({}, False, id="none"),
        pytest.param(None, False, id="null"),
    ],
)
def test_annotations_are_shown_as_they_were_pushed(
    repository: Repository, annotations: dict[str, str] | None, shown: bool
) -> None:
    subject = repository.push_image("v1")
    repository.push_artifact(subject, SBOM, annotations=annotations)

    (found,) = listed(repository, Digest.of(subject))

    assert found.get("annotations") == (annotations if shown else None)


def test_the_answer_is_an_index_with_nothing_else_in_it(repository: Repository) -> None:
    response = repository.get(f"referrers/{Digest.of(b'nobody')}")

    assert response.status_code == 200
    assert response.headers["Content-Type"] == IMAGE_INDEX
    assert response.json() == {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": []}
    assert "Link" not in response.headers


def test_a_subject_may_have_a_sha512_digest(repository: Repository) -> None:
    subject = repository.push_image("v1")
    digest = Digest.of(subject, "sha512")
    repository.push_blob(b"{}")
    body = about(subject, IMAGE_MANIFEST, "sha512")
    assert repository.put_manifest("sbom", body).headers["OCI-Subject"] == str(digest)

    assert len(listed(repository, digest)) == 1
    assert listed(repository, Digest.of(subject)) == [], "another digest is another name"


def test_a_push_without_a_subject_says_nothing_of_one(repository: Repository) -> None:
    body = repository.push_image("v1")

    assert "OCI-Subject" not in repository.put_manifest("v2", body).headers


def test_pushed_twice_and_under_many_tags_it_is_listed_once(repository: Repository) -> None:
    subject = repository.push_image("v1")
    body = repository.push_artifact(subject, SBOM)
    for reference in ("sbom", "other", Digest.of(body)):
        assert repository.put_manifest(reference, body).headers["OCI-Subject"] == str(Digest.of(subject))

    assert len(listed(repository, Digest.of(subject))) == 1
    repository.http.delete(f"{repository.url}/manifests/sbom")
    assert len(listed(repository, Digest.of(subject))) == 1, "a tag is not what makes it a referrer"


def test_a_referrer_may_have_referrers(repository: Repository) -> None:
    subject = repository.push_image("v1")
    sbom = repository.push_artifact(subject, SBOM)
    signature = repository.push_artifact(sbom, SIGNATURE)

    assert [item["digest"] for item in listed(repository, Digest.of(subject))] == [str(Digest.of(sbom))]
    assert [item["digest"] for item in listed(repository, Digest.of(sbom))] == [str(Digest.of(signature))]


def test_filters_by_type_and_says_so(repository: Repository) -> None:
    subject = repository.push_image("v1")
    repository.push_artifact(subject, SBOM)
    signature = repository.push_artifact(subject, SIGNATURE)

    response = repository.get(f"referrers/{Digest.of(subject)}?artifactType={SIGNATURE}")

    assert response.headers["OCI-Filters-Applied"] == "artifactType"
    assert [item["digest"] for item in response.json()["manifests"]] == [str(Digest.of(signature))]
    unfiltered = repository.get(f"referrers/{Digest.of(subject)}")
    assert "OCI-Filters-Applied" not in unfiltered.headers


@pytest.mark.parametrize(
    ("query", "types"),
    [
        pytest.param("", {SBOM, HELM, None}, id="no-filter"),
        pytest.param("?artifactType=", {SBOM, HELM, None}, id="an-empty-filter"),
        pytest.param(f"?artifactType={SBOM}", {SBOM}, id="type"),
        pytest.param(f"?artifactType={SBOM.replace('/', '%2F')}", {SBOM}, id="encoded"),
        pytest.param(f"?artifactType={HELM.replace('+', '%2B')}", {HELM}, id="the-configs-type"),
        pytest.param(f"?artifactType={SIGNATURE}", set(), id="none-of-that-type"),
        pytest.param("?artifactType=application/*", set(), id="no-pattern"),
        pytest.param(f"?artifactType={SBOM.upper()}", set(), id="other-case"),
    ],
)
def test_a_filter_is_told_exactly_when_it_was_applied(
    repository: Repository, query: str, types: set[str | None]
) -> None:
    subject = repository.push_image("v1")
    repository.push_artifact(subject, SBOM)
    for body, media_type in (
        (about(subject, IMAGE_MANIFEST, config=descriptor(HELM, b"{}")), IMAGE_MANIFEST),
        (about(subject, IMAGE_INDEX), IMAGE_INDEX),
    ):
        assert repository.put_manifest(Digest.of(body), body, media_type).status_code == 201

    response = repository.get(f"referrers/{Digest.of(subject)}{query}")

    assert response.status_code == 200
    assert {item.get("artifactType") for item in response.json()["manifests"]} == types
    is_filtered = query.partition("=")[2] != ""
    assert response.headers.get("OCI-Filters-Applied") == ("artifactType" if is_filtered else None)


def test_every_page_of_a_filtered_list_is_filtered_and_says_so(repository: Repository) -> None:
    subject = repository.push_image("v1")
    pushed = set()
    for number in range(5):
        body = repository.push_artifact(subject, HELM, annotations={"n": str(number)})
        pushed.add(str(Digest.of(body)))
        repository.push_artifact(subject, SBOM, annotations={"n": str(number)})

    path = f"{repository.url}/referrers/{Digest.of(subject)}?n=2&artifactType={quote_plus(HELM)}"
    found = list(pages(repository, path))

    assert [page.headers["OCI-Filters-Applied"] for page in found] == ["artifactType"] * 3
    digests = [item["digest"] for page in found for item in page.json()["manifests"]]
    assert sorted(digests) == sorted(pushed)


def test_what_comes_and_goes_between_two_pages_moves_no_other(repository: Repository) -> None:
    subject = repository.push_image("v1")
    bodies = [repository.push_artifact(subject, SBOM, annotations={"n": str(n)}) for n in range(6)]
    digests = sorted(str(Digest.of(body)) for body in bodies)
    first = repository.get(f"referrers/{Digest.of(subject)}?n=3")

    repository.http.delete(f"{repository.url}/manifests/{digests[2]}")
    for number in range(6, 12):
        repository.push_artifact(subject, SBOM, annotations={"n": str(number)})

    link = re.fullmatch(r'<([^>]+)>; rel="next"', first.headers["Link"])
    assert link is not None
    rest = [item["digest"] for page in pages(repository, link[1]) for item in page.json()["manifests"]]
    assert [digest for digest in rest if digest in digests] == digests[3:]


@pytest.mark.parametrize("n", [1, 3, 7, 100])
def test_api_13_pages_hold_each_referrer_once(repository: Repository, n: int) -> None:
    subject = repository.push_image("v1")
    pushed = {
        str(Digest.of(repository.push_artifact(subject, SBOM, annotations={"n": str(k)}))) for k in range(7)
    }

    found = [
        str(item["digest"]) for item in listed(repository, Digest.of(subject), f"?n={n}&artifactType={SBOM}")
    ]

    assert sorted(found) == sorted(pushed)


def test_api_13_a_page_stays_below_4_mib(repository: Repository) -> None:
    subject = repository.push_image("v1")
    for number in range(4):
        repository.push_artifact(subject, SBOM, annotations={"n": str(number), "large": "x" * 1_500_000})

    assert len(listed(repository, Digest.of(subject))) == 4


@pytest.mark.parametrize(
    "text",
    [pytest.param("é" * 1_900_000, id="two-bytes"), pytest.param("\N{CRAB}" * 950_000, id="four-bytes")],
)
def test_api_13_a_page_stays_below_4_mib_in_any_language(repository: Repository, text: str) -> None:
    subject = repository.push_image("v1")
    repository.push_blob(b"{}")
    for number in range(2):
        document = json.loads(artifact(subject, SBOM, annotations={"n": str(number), "text": text}))
        body = json.dumps(document, ensure_ascii=False).encode()
        assert repository.put_manifest(Digest.of(body), body).status_code == 201

    assert len(listed(repository, Digest.of(subject))) == 2


def test_api_13_a_manifest_that_is_all_annotations_fits(repository: Repository) -> None:
    subject = repository.push_image("v1")
    repository.push_blob(b"{}")
    size = MANIFEST_LIMIT - len(artifact(subject, SBOM, annotations={"": ""}))
    body = artifact(subject, SBOM, annotations={"": "x" * size})
    assert len(body) == MANIFEST_LIMIT
    assert repository.put_manifest(Digest.of(body), body).status_code == 201

    assert len(listed(repository, Digest.of(subject))) == 1


def test_api_13_ten_thousand_referrers_come_in_pages(
    repository: Repository, database: Database, settings: Settings
) -> None:
    subject = repository.push_image("v1")
    repository.push_blob(b"{}")
    name = RepositoryName(repository.name)
    documents = (artifact(subject, SBOM, annotations={"n": str(number)}) for number in range(10_000))
    pushes = [Push(name, Manifest.parse(IMAGE_MANIFEST, body), (), "") for body in documents]

    def push_all(db: Connection) -> None:
        for push in pushes:
            manifests.put(db, push, sparse=False)
        db.execute("DELETE FROM outbox")  # else the server journals them, which takes longer than the test

    database.transaction(push_all)

    first = repository.get(f"referrers/{Digest.of(subject)}")
    found = [str(item["digest"]) for item in listed(repository, Digest.of(subject))]

    assert len(first.json()["manifests"]) == settings.referrers_page
    assert found == sorted(str(push.manifest.digest) for push in pushes)


def test_an_unknown_subject_or_repository_has_an_empty_list(repository: Repository) -> None:
    assert listed(repository, Digest.of(b"nobody")) == []


def test_a_repository_that_never_was_has_no_404_either(other: Repository) -> None:
    for method in ("GET", "HEAD"):
        response = other.http.request(method, f"{other.url}/referrers/{Digest.of(b'nobody')}")
        assert response.status_code == 200


def test_a_bad_digest_is_400(repository: Repository) -> None:
    response = repository.get("referrers/sha256:xyz")

    assert (response.status_code, error_code(response)) == (400, "DIGEST_INVALID")


def test_auth_17_a_referrer_shows_in_its_own_repository_only(
    repository: Repository, other: Repository
) -> None:
    subject = repository.push_image("v1")
    other.push_artifact(subject, SBOM)

    assert listed(repository, Digest.of(subject)) == []


def test_auth_17_the_same_referrer_shows_where_it_was_pushed(
    repository: Repository, other: Repository
) -> None:
    subject = repository.push_image("v1")
    sbom = repository.push_artifact(subject, SBOM)
    other.push_artifact(subject, SBOM)

    repository.http.delete(f"{repository.url}/manifests/{Digest.of(sbom)}")

    assert listed(repository, Digest.of(subject)) == []
    assert len(listed(other, Digest.of(subject))) == 1


def test_inv_08_a_referrer_outlives_its_subject(repository: Repository) -> None:
    subject = repository.push_image("v1")
    repository.push_artifact(subject, SBOM)

    assert repository.http.delete(f"{repository.url}/manifests/{Digest.of(subject)}").status_code == 202
    assert len(listed(repository, Digest.of(subject))) == 1

    repository.push_image("v1")
    assert len(listed(repository, Digest.of(subject))) == 1


def test_inv_08_a_deleted_referrer_is_no_longer_listed(repository: Repository) -> None:
    subject = repository.push_image("v1")
    sbom = repository.push_artifact(subject, SBOM)

    repository.http.delete(f"{repository.url}/manifests/{Digest.of(sbom)}")

    assert listed(repository, Digest.of(subject)) == []


def test_what_an_old_client_listed_under_the_fallback_tag_is_here_too(repository: Repository) -> None:
    subject = repository.push_image("v1")
    repository.push_blob(b"{}")
    sbom = artifact(subject, SBOM)
    repository.put_manifest(Digest.of(sbom), sbom)
    fallback = referrers_tag(Digest.of(subject))
    assert repository.put_manifest(fallback, index(sbom), IMAGE_INDEX).status_code == 201

    assert [item["digest"] for item in listed(repository, Digest.of(subject))] == [str(Digest.of(sbom))]
    assert repository.get(f"manifests/{fallback}").content == index(sbom), "the tag stays what it was"


def test_the_fallback_tag_adds_nothing_that_has_no_subject(repository: Repository) -> None:
    subject = repository.push_image("v1")
    signature, sbom = repository.push_image("signature"), repository.push_artifact(subject, SBOM)
    fallback = referrers_tag(Digest.of(subject))
    assert repository.put_manifest(fallback, index(signature, sbom), IMAGE_INDEX).status_code == 201

    assert [item["digest"] for item in listed(repository, Digest.of(subject))] == [str(Digest.of(sbom))]


def test_an_old_client_keeps_the_fallback_tag_as_it_likes(repository: Repository) -> None:
    """Pull it, add a descriptor, push it: what oras and regclient do where there is no referrers API."""
    subject = repository.push_image("v1")
    fallback = referrers_tag(Digest.of(subject))
    assert repository.get(f"manifests/{fallback}").status_code == 404
    pushed: list[bytes] = []
    for number in range(3):
        pushed.append(repository.push_artifact(subject, SBOM, annotations={"n": str(number)}))
        before = repository.get(f"manifests/{fallback}")
        condition = {"If-Match": before.headers["ETag"]} if number else {"If-None-Match": "*"}
        response = repository.put_manifest(fallback, index(*pushed), IMAGE_INDEX, **condition)
        assert response.status_code == 201
    assert len(listed(repository, Digest.of(subject))) == 3

    assert repository.http.delete(f"{repository.url}/manifests/{fallback}").status_code == 202
    assert len(listed(repository, Digest.of(subject))) == 3
