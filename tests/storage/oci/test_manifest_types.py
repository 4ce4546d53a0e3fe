from typing import Any

import pytest

from storage.oci import media_types
from storage.oci.errors import ManifestInvalid
from storage.oci.manifest import Manifest
from tests.storage.oci.documents import (
    ABSENT,
    CHILDREN,
    CONFIG,
    DOCUMENTS,
    IMAGE,
    INDEX,
    encode,
)


@pytest.mark.parametrize(
    ("content_type", "declared", "document", "media_type"),
    [
        pytest.param(None, ABSENT, IMAGE, media_types.IMAGE_MANIFEST, id="silent-image"),
        pytest.param(None, ABSENT, INDEX, media_types.IMAGE_INDEX, id="silent-index"),
        pytest.param("", None, IMAGE, media_types.IMAGE_MANIFEST, id="null-media-type"),
        pytest.param("", "", IMAGE, media_types.IMAGE_MANIFEST, id="empty-media-type"),
        pytest.param("application/json", ABSENT, INDEX, media_types.IMAGE_INDEX, id="json"),
        pytest.param("Text/Plain; charset=utf-8", ABSENT, IMAGE, media_types.IMAGE_MANIFEST, id="text"),
        pytest.param("application/octet-stream", ABSENT, IMAGE, media_types.IMAGE_MANIFEST, id="octets"),
        pytest.param(
            media_types.IMAGE_MANIFEST, ABSENT, IMAGE, media_types.IMAGE_MANIFEST, id="header-alone"
        ),
        pytest.param(
            f"{media_types.IMAGE_MANIFEST.upper()} ; a=b",
            ABSENT,
            IMAGE,
            media_types.IMAGE_MANIFEST,
            id="header-form",
        ),
        pytest.param(None, media_types.DOCKER_MANIFEST, IMAGE, media_types.DOCKER_MANIFEST, id="body-alone"),
        pytest.param(
            "application/json",
            media_types.DOCKER_MANIFEST_LIST,
            INDEX,
            media_types.DOCKER_MANIFEST_LIST,
            id="generic",
        ),
    ],
)
def test_takes_the_type_from_the_body(
    content_type: str | None, declared: object, document: dict[str, Any], media_type: str
) -> None:
    assert Manifest.parse(content_type, encode(document, mediaType=declared)).media_type == media_type


@pytest.mark.parametrize(
    ("content_type", "declared", "document"),
    [
        pytest.param(
            media_types.IMAGE_MANIFEST, media_types.DOCKER_MANIFEST, IMAGE, id="header-and-body-differ"
        ),
        pytest.param(
            media_types.IMAGE_INDEX, media_types.IMAGE_MANIFEST, IMAGE, id="index-header-image-body"
        ),
        pytest.param(media_types.DOCKER_MANIFEST, ABSENT, IMAGE, id="docker-without-media-type"),
        pytest.param(media_types.DOCKER_MANIFEST_LIST, ABSENT, INDEX, id="docker-list-without-media-type"),
        pytest.param(media_types.IMAGE_INDEX, ABSENT, IMAGE, id="index-header-image-structure"),
        pytest.param(media_types.IMAGE_MANIFEST, ABSENT, INDEX, id="image-header-index-structure"),
        pytest.param(
            media_types.IMAGE_INDEX, media_types.IMAGE_INDEX, IMAGE, id="index-type-image-structure"
        ),
        pytest.param(
            media_types.IMAGE_MANIFEST, media_types.IMAGE_MANIFEST, INDEX, id="image-type-index-structure"
        ),
        pytest.param(media_types.ARTIFACT_MANIFEST, ABSENT, {"blobs": []}, id="artifact-without-media-type"),
        pytest.param("image/png", media_types.IMAGE_MANIFEST, IMAGE, id="other-header"),
        pytest.param("rubbish", media_types.IMAGE_MANIFEST, IMAGE, id="bad-header"),
        pytest.param(None, "image/png", IMAGE, id="other-media-type"),
        pytest.param(None, media_types.IMAGE_MANIFEST.upper(), IMAGE, id="upper-case-media-type"),
        pytest.param(None, f"{media_types.IMAGE_MANIFEST}; a=b", IMAGE, id="media-type-with-parameter"),
        pytest.param(None, 1, IMAGE, id="number-media-type"),
        pytest.param(None, ABSENT, {"schemaVersion": 2}, id="neither"),
        pytest.param(None, ABSENT, {"schemaVersion": 2, "config": CONFIG}, id="config-alone"),
        pytest.param(None, ABSENT, IMAGE | INDEX, id="both"),
    ],
)
def test_api_10_refuses_a_type_that_does_not_agree(
    content_type: str | None, declared: object, document: dict[str, Any]
) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(content_type, encode(document, mediaType=declared))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        pytest.param(media_types.IMAGE_MANIFEST, {"manifests": []}, id="image-with-manifests"),
        pytest.param(media_types.IMAGE_MANIFEST, {"manifests": None}, id="image-with-null-manifests"),
        pytest.param(media_types.IMAGE_MANIFEST, {"fsLayers": []}, id="image-with-fs-layers"),
        pytest.param(media_types.DOCKER_MANIFEST, {"manifests": []}, id="docker-image-with-manifests"),
        pytest.param(media_types.IMAGE_INDEX, {"layers": []}, id="index-with-layers"),
        pytest.param(media_types.IMAGE_INDEX, {"config": CONFIG}, id="index-with-config"),
        pytest.param(media_types.IMAGE_INDEX, {"fsLayers": []}, id="index-with-fs-layers"),
        pytest.param(media_types.DOCKER_MANIFEST_LIST, {"layers": []}, id="docker-list-with-layers"),
        pytest.param(media_types.ARTIFACT_MANIFEST, {"manifests": []}, id="artifact-with-manifests"),
        pytest.param(media_types.ARTIFACT_MANIFEST, {"layers": []}, id="artifact-with-layers"),
        pytest.param(media_types.IMAGE_MANIFEST, {"Manifests": []}, id="manifests-in-another-case"),
        pytest.param(media_types.IMAGE_MANIFEST, {"Layers": []}, id="layers-twice-by-case"),
        pytest.param(media_types.IMAGE_INDEX, {"LAYERS": []}, id="layers-in-another-case"),
        pytest.param(media_types.IMAGE_MANIFEST, {"fslayers": []}, id="fs-layers-in-another-case"),
        pytest.param(media_types.IMAGE_MANIFEST, {"layer\u017f": []}, id="layers-with-a-long-s"),
        pytest.param(media_types.IMAGE_MANIFEST, {"MediaType": "a/b"}, id="media-type-in-another-case"),
        pytest.param(media_types.IMAGE_MANIFEST, {"Subject": CHILDREN[0]}, id="subject-in-another-case"),
        pytest.param(media_types.IMAGE_MANIFEST, {"x": 1, "X": 1}, id="unknown-names-by-case"),
    ],
)
def test_api_10_refuses_two_meanings(kind: str, change: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(kind, encode(DOCUMENTS[kind], mediaType=kind, **change))


@pytest.mark.parametrize("kind", [kind for kind in DOCUMENTS if kind != media_types.ARTIFACT_MANIFEST])
@pytest.mark.parametrize(
    "version",
    [
        pytest.param(ABSENT, id="absent"),
        pytest.param(1, id="one"),
        pytest.param(3, id="three"),
        pytest.param("2", id="string"),
        pytest.param(2.0, id="float"),
        pytest.param(True, id="boolean"),
        pytest.param(None, id="null"),
    ],
)
def test_requires_schema_version_2(kind: str, version: object) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(kind, encode(DOCUMENTS[kind], mediaType=kind, schemaVersion=version))


@pytest.mark.parametrize(
    ("content_type", "document"),
    [
        pytest.param(media_types.DOCKER_SCHEMA1, {"schemaVersion": 1, "fsLayers": []}, id="header"),
        pytest.param(media_types.DOCKER_SCHEMA1_SIGNED + "; a=b", {"schemaVersion": 1}, id="signed-header"),
        pytest.param("application/json", {"schemaVersion": 1, "fsLayers": []}, id="version"),
        pytest.param(None, {"mediaType": media_types.DOCKER_SCHEMA1}, id="body"),
    ],
)
def test_refuses_schema_1_with_advice(content_type: str | None, document: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalid, match=r"schema 1 .* push as schema 2 or OCI"):
        Manifest.parse(content_type, encode(document))
