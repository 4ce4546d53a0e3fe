"""/v2/<name>/referrers/<digest>."""

import re

import pytest

from storage.oci.digest import Digest
from storage.oci.manifest import MANIFEST_LIMIT
from storage.oci.media_types import IMAGE_CONFIG, IMAGE_INDEX, IMAGE_MANIFEST
from storage.oci.names import referrers_tag
from tests.registry.pushing import Repository, artifact, descriptor, error_code, image, index

SBOM = "application/vnd.example.sbom.v1"
SIGNATURE = "application/vnd.example.signature.v1"


def listed(repository: Repository, subject: Digest, query: str = "") -> list[dict[str, object]]:
    """Gather the descriptors of every page."""
    path, found = f"{repository.url}/referrers/{subject}{query}", []
    while path:
        response = repository.http.get(path)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == IMAGE_INDEX
        assert len(response.content) <= MANIFEST_LIMIT
        found += response.json()["manifests"]
        link = re.fullmatch(r'<([^>]+)>; rel="next"', response.headers.get("Link", ""))
        path = link[1] if link else ""
    return found


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


def test_the_type_is_the_configs_where_there_is_no_other(repository: Repository) -> None:
    subject = repository.push_image("v1")
    repository.push_image("v2", subject=descriptor(IMAGE_MANIFEST, subject))

    (found,) = listed(repository, Digest.of(subject))

    assert found["artifactType"] == IMAGE_CONFIG


def test_an_index_without_a_type_has_none(repository: Repository) -> None:
    subject = repository.push_image("v1")
    about = index(subject, subject=descriptor(IMAGE_MANIFEST, subject))
    assert repository.put_manifest("about", about, IMAGE_INDEX).headers["OCI-Subject"]

    (found,) = listed(repository, Digest.of(subject))

    assert "artifactType" not in found
    assert found["mediaType"] == IMAGE_INDEX


def test_filters_by_type_and_says_so(repository: Repository) -> None:
    subject = repository.push_image("v1")
    repository.push_artifact(subject, SBOM)
    signature = repository.push_artifact(subject, SIGNATURE)

    response = repository.get(f"referrers/{Digest.of(subject)}?artifactType={SIGNATURE}")

    assert response.headers["OCI-Filters-Applied"] == "artifactType"
    assert [item["digest"] for item in response.json()["manifests"]] == [str(Digest.of(signature))]
    unfiltered = repository.get(f"referrers/{Digest.of(subject)}")
    assert "OCI-Filters-Applied" not in unfiltered.headers


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


def test_an_unknown_subject_or_repository_has_an_empty_list(repository: Repository) -> None:
    assert listed(repository, Digest.of(b"nobody")) == []


def test_a_bad_digest_is_400(repository: Repository) -> None:
    response = repository.get("referrers/sha256:xyz")

    assert (response.status_code, error_code(response)) == (400, "DIGEST_INVALID")


def test_auth_17_a_referrer_shows_in_its_own_repository_only(
    repository: Repository, other: Repository
) -> None:
    subject = repository.push_image("v1")
    other.push_artifact(subject, SBOM)

    assert listed(repository, Digest.of(subject)) == []


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
