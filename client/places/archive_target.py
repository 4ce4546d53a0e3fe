"""Writing archives: an OCI layout in a tar, and one that docker load reads as well.

Source: image-spec image-layout.md; moby's image/spec/v1.2, "Combined Image JSON + Filesystem Changeset
Format".
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client.places import layout_index
from client.places.contents import SourcedContent
from client.places.layout_index import IMAGE_NAME, REF_NAME, LayoutIndex
from client.places.place import Moving, Name, Place, Standing
from client.places.tar_writer import TarWriter, replacing
from client.progress import Advanced, Failed, Finished, Started
from storage.oci import media_types
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import DigestInvalid, NameInvalid, RegistryError
from storage.oci.manifest import Manifest
from storage.oci.names import ImageReference
from storage.oci.platform import Platform, best_match

STDOUT = Path("-")


class ArchiveTarget:
    """An archive that is being written; it may take several images. `finish` makes it whole."""

    kind = "oci-archive"
    is_remote = False

    def __init__(self, tar: TarWriter, name: str) -> None:
        self._tar = tar
        self._name = name
        self._written: set[Digest] = set()
        self._directories: set[str] = set()
        self._index = LayoutIndex()
        tar.add("oci-layout", len(layout_index.VERSION), [layout_index.VERSION])

    @property
    def name(self) -> str:
        return f"{self.kind}:{self._name}"

    def find(self, name: Name) -> Digest | None:
        found = [each for each in self._index.entries if str(name) in layout_index.names_of(each)]
        return found[0].digest if found else None

    def has_manifest(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self._written

    def standings(self, blobs: Sequence[Descriptor], source: Place) -> Sequence[Standing]:
        return [Standing.PRESENT if each.digest in self._written else Standing.ABSENT for each in blobs]

    def write_blobs(self, blobs: Sequence[Descriptor], source: Place, moving: Moving) -> None:
        """Write one after the other: a tar has no other way."""
        for blob in blobs:
            try:
                self._write_blob(blob, source, moving)
            except RegistryError as error:
                moving.progress(Failed(blob.digest, error.message))
                raise

    def put_child(self, manifest: Manifest) -> None:
        if manifest.digest not in self._written:
            self._add(manifest.digest, manifest.size, iter((manifest.body,)))

    def put_root(self, manifest: Manifest, name: Name | None) -> None:
        self.put_child(manifest)
        annotations = {} if name is None else self._annotations(name)
        self._index = self._index.with_entry(
            Descriptor(manifest.media_type, manifest.digest, manifest.size, annotations=annotations)
        )

    def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        for each in referrers:
            self._index = self._index.with_entry(
                Descriptor(each.media_type, each.digest, each.size, artifact_type=each.artifact_type)
            )

    def finish(self) -> None:
        """Write what lists the images, and the end."""
        self._add_document("index.json", self._index.render())
        self._tar.close()

    def _annotations(self, name: Name) -> dict[str, str]:
        return {REF_NAME: str(name)}

    def _write_blob(self, blob: Descriptor, source: Place, moving: Moving) -> None:
        if blob.digest in self._written:
            return
        moving.progress(Started(blob.digest, blob.size, 0))
        content = SourcedContent(blob, source.sources(), moving.deadline)

        def blocks() -> Iterator[bytes]:
            done = 0
            for block in content.read(0, blob.size):
                yield block
                done += len(block)
                moving.progress(Advanced(blob.digest, done))

        self._add(blob.digest, blob.size, blocks())
        moving.progress(Finished(blob.digest, blob.size, "fetched"))

    def _add(self, digest: Digest, size: int, blocks: Iterator[bytes]) -> None:
        for name in ("blobs/", f"blobs/{digest.algorithm}/"):
            if name not in self._directories:
                self._directories.add(name)
                self._tar.add_directory(name)
        self._tar.add(_path(digest), size, blocks)
        self._written.add(digest)

    def _add_document(self, name: str, document: bytes) -> None:
        self._tar.add(name, len(document), [document])


class DockerArchiveTarget(ArchiveTarget):
    """The same with docker's manifest.json, which names one image for each reference."""

    kind = "docker-archive"

    def __init__(self, tar: TarWriter, name: str) -> None:
        super().__init__(tar, name)
        self._manifests: dict[Digest, Manifest] = {}
        self._images: dict[Digest, list[str]] = {}

    def put_child(self, manifest: Manifest) -> None:
        self._manifests[manifest.digest] = manifest
        super().put_child(manifest)

    def put_root(self, manifest: Manifest, name: Name | None) -> None:
        super().put_root(manifest, name)
        image = self._image_of(manifest)
        if image is not None:
            tags = self._images.setdefault(image.digest, [])
            reference = None if name is None else _reference(name)
            if reference is not None and reference.tag is not None:
                tags.append(_tagged(reference).familiar())

    def finish(self) -> None:
        entries = [self._entry(digest, tags) for digest, tags in self._images.items()]
        self._add_document("manifest.json", json.dumps(entries).encode())
        super().finish()

    def _annotations(self, name: Name) -> dict[str, str]:
        """Name an image as docker save does: the whole reference, and its tag."""
        reference = _reference(name)
        if reference is None or reference.tag is None:
            return super()._annotations(name)
        return {IMAGE_NAME: str(_tagged(reference)), REF_NAME: str(reference.tag)}

    def _image_of(self, manifest: Manifest) -> Manifest | None:
        """Choose what docker gets to see of an index: this machine's image, else the first that is there."""
        if not media_types.is_index(manifest.media_type):
            is_image = manifest.config is not None and media_types.is_image_config(manifest.config.media_type)
            return manifest if is_image else None
        held = [each for each in manifest.manifests if each.digest in self._manifests]
        best = best_match(Platform.host(), [each.platform for each in held])
        if best is not None:
            held.insert(0, held[best])
        images = (self._image_of(self._manifests[each.digest]) for each in held)
        return next((each for each in images if each is not None), None)

    def _entry(self, digest: Digest, tags: list[str]) -> dict[str, Any]:
        manifest = self._manifests[digest]
        assert manifest.config is not None
        return {
            "Config": _path(manifest.config.digest),
            "RepoTags": tags or None,
            "Layers": [_path(each.digest) for each in manifest.layers],
        }


@contextmanager
def written(path: Path, kind: type[ArchiveTarget] = ArchiveTarget) -> Iterator[ArchiveTarget]:
    """Write an archive: it takes the place of `path` when the block ends well; `-` is the standard output."""
    if path == STDOUT:
        target = kind(TarWriter(sys.stdout.buffer, "standard output"), "-")
        yield target
        target.finish()
        return
    with replacing(path) as file:
        target = kind(TarWriter(file, str(path)), str(path))
        yield target
        target.finish()


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _reference(name: Name) -> ImageReference | None:
    try:
        return ImageReference.parse(str(name)) if ":" in str(name) or "/" in str(name) else None
    except (NameInvalid, DigestInvalid):
        return None


def _tagged(reference: ImageReference) -> ImageReference:
    return ImageReference(reference.host, reference.repository, reference.tag)
