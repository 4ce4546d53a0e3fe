"""Small content, and how a test pushes it: plain requests that show the wire."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

from storage.oci.digest import Digest
from storage.oci.media_types import (
    EMPTY,
    IMAGE_CONFIG,
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    LAYER_GZIP,
)

OCTETS = {"Content-Type": "application/octet-stream"}


def descriptor(media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def image(config: bytes, *layers: bytes, **more: Any) -> bytes:
    """Return an image manifest over a config and layers."""
    document = {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "config": descriptor(IMAGE_CONFIG, config),
        "layers": [descriptor(LAYER_GZIP, layer) for layer in layers],
        **more,
    }
    return json.dumps(document).encode()


def artifact(subject: bytes | None, artifact_type: str, **more: Any) -> bytes:
    """Return an artifact about `subject`, whose config and layer are the empty object."""
    document = {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor(EMPTY, b"{}"),
        "layers": [descriptor(EMPTY, b"{}")],
        **({"subject": descriptor(IMAGE_MANIFEST, subject)} if subject is not None else {}),
        **more,
    }
    return json.dumps(document).encode()


def index(*children: bytes, **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": IMAGE_INDEX,
        "manifests": [descriptor(IMAGE_MANIFEST, child) for child in children],
        **more,
    }
    return json.dumps(document).encode()


@dataclass(frozen=True)
class Repository:
    """A repository on the server under test."""

    http: httpx.Client
    name: str

    @property
    def url(self) -> str:
        return f"/v2/{self.name}"

    def begin(self, query: str = "") -> str:
        response = self.http.post(f"{self.url}/blobs/uploads/{query}")
        assert response.status_code == 202, response.text
        return response.headers["Location"]

    def push_blob(self, content: bytes, algorithm: str = "sha256") -> Digest:
        digest = Digest.of(content, algorithm)
        response = self.http.put(with_digest(self.begin(), digest), content=content, headers=OCTETS)
        assert response.status_code == 201, response.text
        return digest

    def put_manifest(
        self, reference: object, body: bytes, media_type: str = IMAGE_MANIFEST, **headers: str
    ) -> httpx.Response:
        return self.http.put(
            f"{self.url}/manifests/{reference}", content=body, headers={"Content-Type": media_type, **headers}
        )

    def push_image(self, tag: str, *layers: bytes, **more: Any) -> bytes:
        """Push config, layers and manifest; return the manifest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "tag": tag}).encode()
        for blob in (config, *layers):
            self.push_blob(blob)
        manifest = image(config, *layers, **more)
        response = self.put_manifest(tag, manifest)
        assert response.status_code == 201, response.text
        return manifest

    def push_artifact(self, subject: bytes | None, artifact_type: str, **more: Any) -> bytes:
        self.push_blob(b"{}")
        manifest = artifact(subject, artifact_type, **more)
        response = self.put_manifest(Digest.of(manifest), manifest)
        assert response.status_code == 201, response.text
        return manifest

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(f"{self.url}/{path}", headers=headers)


def with_digest(location: str, digest: object) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def error_code(response: httpx.Response) -> str:
    assert response.headers["Content-Type"] == "application/json"
    return str(response.json()["errors"][0]["code"])
