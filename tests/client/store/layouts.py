"""Images made by hand: OCI layouts of layers of tar entries."""

import gzip
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from client.places.blob_directory import BlobDirectory
from client.places.layout import LayoutPlace
from client.places.layout_index import LayoutIndex
from storage.oci import media_types
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.platform import Platform
from tests.client.unpack.archives import END, directory, file

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64", "v8")
HOST = Platform.host()


def layer(*entries: bytes) -> bytes:
    return b"".join(entries) + END


BASE = layer(
    directory("etc/"), file("etc/hostname", b"base\n"), file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
)
TOP = layer(directory("app/"), file("app/run", b"#!/bin/sh\n", mode=0o755), file("etc/.wh.hostname"))


class Layout:
    """An OCI layout under construction."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: list[Descriptor] = []
        root.mkdir(parents=True, exist_ok=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data: bytes, media_type: str = media_types.OCTET_STREAM) -> Descriptor:
        digest = Digest.of(data)
        path = self.root / "blobs" / digest.algorithm / digest.hex
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return Descriptor(media_type, digest, len(data))

    def image(
        self,
        *layers: bytes,
        platform: Platform = HOST,
        config: Mapping[str, Any] | None = None,
        diff_ids: Sequence[str] | None = None,
    ) -> Descriptor:
        """An image of uncompressed tars, which are compressed here."""
        document = {
            **platform.to_json(),
            "created": "2026-01-02T03:04:05Z",
            "config": config or {"Cmd": ["/app/run"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids or [str(Digest.of(each)) for each in layers]},
            "history": [{"created_by": f"layer {number}"} for number in range(len(layers))],
        }
        described = self.blob(json.dumps(document).encode(), media_types.IMAGE_CONFIG)
        blobs = [self.blob(gzip.compress(each, mtime=0), media_types.LAYER_GZIP) for each in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_types.IMAGE_MANIFEST,
            "config": described.to_json(),
            "layers": [each.to_json() for each in blobs],
        }
        made = self.blob(json.dumps(manifest).encode(), media_types.IMAGE_MANIFEST)
        return replace(made, platform=platform)

    def index(self, *children: Descriptor) -> Descriptor:
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.IMAGE_INDEX,
            "manifests": [each.to_json() for each in children],
        }
        return self.blob(json.dumps(document).encode(), media_types.IMAGE_INDEX)

    def tag(self, descriptor: Descriptor, name: str = "latest") -> Descriptor:
        kept = [
            each for each in self.entries if each.annotations["org.opencontainers.image.ref.name"] != name
        ]
        named = replace(descriptor, annotations={"org.opencontainers.image.ref.name": name})
        self.entries = [*kept, named]
        index = {"schemaVersion": 2, "manifests": [each.to_json() for each in self.entries]}
        (self.root / "index.json").write_text(json.dumps(index))
        return descriptor

    def place(self) -> LayoutPlace:
        index = LayoutIndex.parse((self.root / "index.json").read_bytes(), str(self.root))
        return LayoutPlace(str(self.root), BlobDirectory(self.root), lambda: index)

    def lose(self, digest: Digest) -> None:
        (self.root / "blobs" / digest.algorithm / digest.hex).unlink()

    def remove(self) -> None:
        shutil.rmtree(self.root)
