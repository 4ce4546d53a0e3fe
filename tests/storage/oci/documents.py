"""Manifests to change and to encode, for the tests of manifests."""

import json
from typing import Any

import pytest

from storage.oci import media_types
from storage.oci.digest import Digest
from storage.oci.manifest import Manifest

ABSENT = object()


def descriptor(content: str, media_type: str = media_types.LAYER_GZIP, **members: Any) -> dict[str, Any]:
    digest = Digest.of(content.encode())
    return {"mediaType": media_type, "digest": str(digest), "size": len(content), **members}


CONFIG = descriptor("config", media_types.IMAGE_CONFIG)
LAYERS = [descriptor("one"), descriptor("two")]
CHILDREN = [
    descriptor("child", media_types.IMAGE_MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
    descriptor("nested", media_types.IMAGE_INDEX),
]
DOCUMENTS: dict[str, dict[str, Any]] = {
    media_types.IMAGE_MANIFEST: {"schemaVersion": 2, "config": CONFIG, "layers": LAYERS},
    media_types.DOCKER_MANIFEST: {"schemaVersion": 2, "config": CONFIG, "layers": LAYERS},
    media_types.IMAGE_INDEX: {"schemaVersion": 2, "manifests": CHILDREN},
    media_types.DOCKER_MANIFEST_LIST: {"schemaVersion": 2, "manifests": CHILDREN},
    media_types.ARTIFACT_MANIFEST: {"artifactType": "application/vnd.example", "blobs": LAYERS},
}
every_kind = pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.split(".", 2)[-1])
IMAGE = DOCUMENTS[media_types.IMAGE_MANIFEST]
INDEX = DOCUMENTS[media_types.IMAGE_INDEX]


def encode(document: object, **change: Any) -> bytes:
    """Write a document with members changed, or left out when ABSENT."""
    if isinstance(document, dict):
        document = {name: value for name, value in (document | change).items() if value is not ABSENT}
    return json.dumps(document).encode()


def digests(manifest: Manifest) -> list[str]:
    return [str(blob.digest) for blob in manifest.blobs]


def referenced(values: list[dict[str, Any]]) -> list[str]:
    return [value["digest"] for value in values]
