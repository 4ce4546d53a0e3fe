"""Archives of docker save: those of our days hold an OCI layout, older ones configurations and layers only.

Source: moby's image/spec/v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from client.errors import ContentMismatch
from client.places.archive import OciArchive, open_member
from client.places.contents import FileStream
from client.places.errors import PlaceInvalid
from client.places.place import Contents, Name
from client.places.tar_file import Member, TarFile
from client.sources import Source
from storage.oci import media_types, strict_json
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest, hasher
from storage.oci.errors import BlobUnknown, DigestInvalid, ManifestInvalid, ManifestUnknown, NameInvalid
from storage.oci.image_config import ImageConfig
from storage.oci.manifest import MANIFEST_LIMIT, Manifest
from storage.oci.names import ImageReference, Tag

_LIST_LIMIT = 16 * 1024 * 1024
_MEMBERS = frozenset({"Config", "RepoTags", "Layers"})
_COMPRESSED = {b"\x1f\x8b": media_types.LAYER_GZIP, b"\x28\xb5\x2f\xfd": media_types.LAYER_ZSTD}


def read(tar: TarFile) -> Contents:
    """Return the images of an archive, with the digests that they had if it holds an OCI layout."""
    if tar.find("index.json") is not None and tar.find("oci-layout") is not None:
        return OciArchive(tar, "docker-archive")
    return DockerArchive(tar)


@dataclass(frozen=True, slots=True)
class SavedImage:
    """An entry of manifest.json."""

    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]


class DockerArchive:
    """The images of an older archive. Their manifests are made here, of the layers that it has."""

    is_remote = False

    def __init__(self, tar: TarFile) -> None:
        self._tar = tar
        self._images = _images(tar)
        self._described: dict[str, Descriptor] = {}
        self._members: dict[Digest, Member] = {}
        self._manifests: dict[Digest, Manifest] = {}

    @property
    def name(self) -> str:
        return f"docker-archive:{self._tar.name}"

    @property
    def host(self) -> str:
        return self._tar.name

    def names(self) -> Sequence[str]:
        """Return what the archive's images are called."""
        return [tag for image in self._images for tag in image.tags]

    def contents(self) -> Iterator[tuple[str | None, Digest]]:
        """Yield all images, each under each of its names."""
        for image in self._images:
            digest = self._manifest_of(image).digest
            yield from ((tag, digest) for tag in image.tags or (None,))

    def resolve(self, reference: Digest | Name | None) -> Manifest:
        if reference is None and len(self._images) == 1:
            return self._manifest_of(self._images[0])
        for image in self._images:
            if reference is not None and self._is_meant(image, reference):
                return self._manifest_of(image)
        offer = ", ".join(self.names()[:10]) or "images without names, to be chosen by @digest"
        raise ManifestUnknown(
            f"{self.name} has no {reference or 'image that is the only one'}; it has {offer}"
        )

    def head(self, reference: Digest | Name | None) -> Digest | None:
        return None

    def manifest(self, descriptor: Descriptor) -> Manifest:
        found = self._manifests.get(descriptor.digest)
        if found is None:
            raise ManifestUnknown(f"{self.name} does not hold the manifest {descriptor.digest}")
        return found

    def sources(self) -> Sequence[Source]:
        return (self,)

    def open(self, blob: Descriptor, start: int, stop: int | None) -> FileStream:
        member = self._members.get(blob.digest)
        if member is None:
            raise BlobUnknown(f"{self.name} does not hold {blob.digest}")
        return open_member(self._tar, member, blob, start, stop)

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        return ()

    def homes(self) -> Sequence[ImageReference]:
        return ()

    def companions(self, digests: Collection[Digest]) -> Sequence[Tag]:
        return ()

    def _is_meant(self, image: SavedImage, reference: Digest | Name) -> bool:
        """Compare with the names as docker understands them, or with the digest of manifest or config."""
        if isinstance(reference, Digest):
            manifest = self._manifest_of(image)
            return reference in (manifest.digest, manifest.config and manifest.config.digest)
        try:
            wanted = ImageReference.parse(str(reference))
            return any(ImageReference.parse(tag) == wanted for tag in image.tags)
        except (NameInvalid, DigestInvalid):
            return False

    def _manifest_of(self, image: SavedImage) -> Manifest:
        config = self._describe(image.config, media_types.IMAGE_CONFIG)
        layers = [self._describe(each) for each in image.layers]
        self._check(image, layers)
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.IMAGE_MANIFEST,
            "config": config.to_json(),
            "layers": [each.to_json() for each in layers],
        }
        manifest = Manifest.parse(None, json.dumps(document, separators=(",", ":")).encode())
        return self._manifests.setdefault(manifest.digest, manifest)

    def _check(self, image: SavedImage, layers: Sequence[Descriptor]) -> None:
        """Hold the layers against the configuration: as many, and with its diffIDs where they are plain."""
        body = self._tar.read(self._file(image.config), MANIFEST_LIMIT)
        try:
            diff_ids = ImageConfig.parse(body).diff_ids
        except ManifestInvalid as error:
            raise PlaceInvalid(f"{self._tar.name}: {image.config}: {error.message}") from error
        if len(diff_ids) != len(layers):
            raise PlaceInvalid(
                f"{self._tar.name} has {len(layers)} layers where {image.config} names {len(diff_ids)}"
            )
        for name, layer, diff_id in zip(image.layers, layers, diff_ids, strict=True):
            if layer.media_type == media_types.LAYER and layer.digest != diff_id:
                raise ContentMismatch(f"{self._tar.name}: {name} is {layer.digest}, its image says {diff_id}")

    def _describe(self, name: str, media_type: str | None = None) -> Descriptor:
        """Hash a file of the archive, once."""
        if name not in self._described:
            member = self._file(name)
            hash_, start = hasher("sha256"), b""
            for block in self._tar.stream(member):
                start = start or block[:4]
                hash_.update(block)
            media_type = media_type or _layer_type(start)
            digest = Digest("sha256", hash_.hexdigest())
            self._described[name] = Descriptor(media_type, digest, member.size)
            self._members[digest] = member
        return self._described[name]

    def _file(self, name: str) -> Member:
        member = self._tar.find(name)
        if member is None:
            raise PlaceInvalid(f"{self._tar.name}: manifest.json names {name!r}, which is not there")
        return member


def _layer_type(start: bytes) -> str:
    for magic, media_type in _COMPRESSED.items():
        if start.startswith(magic):
            return media_type
    return media_types.LAYER


def _images(tar: TarFile) -> tuple[SavedImage, ...]:
    member = tar.find("manifest.json")
    if member is None:
        hint = f"; try oci-archive:{tar.name}" if tar.find("index.json") is not None else ""
        raise PlaceInvalid(f"{tar.name} is no archive of docker save: it has no manifest.json{hint}")
    try:
        document = strict_json.loads(tar.read(member, _LIST_LIMIT))
        if not isinstance(document, list):
            raise ManifestInvalid("manifest.json is no list")
        return tuple(_image(each, f"manifest.json[{index}]") for index, each in enumerate(document))
    except ManifestInvalid as error:
        raise PlaceInvalid(f"{tar.name}: {error.message}") from error


def _image(value: Any, where: str) -> SavedImage:
    members = strict_json.members(value, _MEMBERS, where)
    config = strict_json.string(members, "Config", where)
    if config is None:
        raise ManifestInvalid(f"{where} has no Config")
    return SavedImage(
        config, strict_json.strings(members, "RepoTags", where), strict_json.strings(members, "Layers", where)
    )
