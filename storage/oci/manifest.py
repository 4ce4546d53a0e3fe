"""Manifests of OCI and docker (images, indexes, artifacts): read once, kept as bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from storage.oci import media_types, strict_json
from storage.oci.descriptor import Descriptor, read_artifact_type
from storage.oci.digest import Digest
from storage.oci.errors import ManifestInvalid, ManifestTooLarge

MANIFEST_LIMIT = 4 * 1024 * 1024
DESCRIPTOR_LIMIT = 10_000

_MEMBERS = frozenset(
    {
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "blobs",
        "subject",
        "annotations",
        "fsLayers",
    }
)
# What another kind of manifest is made of must not stand beside what this kind is made of.
_FORBIDDEN = {
    media_types.IMAGE_MANIFEST: ("manifests", "fsLayers"),
    media_types.DOCKER_MANIFEST: ("manifests", "fsLayers"),
    media_types.IMAGE_INDEX: ("config", "layers", "fsLayers"),
    media_types.DOCKER_MANIFEST_LIST: ("config", "layers", "fsLayers"),
    media_types.ARTIFACT_MANIFEST: ("config", "layers", "manifests", "fsLayers"),
}
# What programs send that do not know the type, so that only the body can tell.
_GENERIC = ("", media_types.OCTET_STREAM, "application/json", "text/plain")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest refers to, beside its bytes, which are the truth and are never written anew."""

    body: bytes = field(repr=False)
    media_type: str
    digest: Digest
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    # The children that are manifests themselves; what else an index lists is in `blobs`.
    manifests: tuple[Descriptor, ...] = ()
    # The blobs that must be present, each once: not those that may live elsewhere.
    blobs: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    # What referrers lists show: `artifactType`, else the config's media type.
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, content_type: str | None, body: bytes, algorithm: str = "sha256") -> Self:
        """Read a manifest whose media type is a function of its bytes, and agrees with `content_type`.

        Raises ManifestTooLarge above MANIFEST_LIMIT; ManifestInvalid for JSON or a structure that two
        readers could understand differently, an unsupported type, or bad descriptors; DigestInvalid for an
        `algorithm` we do not compute.
        Source: image-spec manifest.md and image-index.md; distribution-spec spec.md, "Pushing Manifests".
        """
        if len(body) > MANIFEST_LIMIT:
            raise ManifestTooLarge(f"manifest is larger than {MANIFEST_LIMIT} bytes", size=len(body))
        digest = Digest.of(body, algorithm)
        document = strict_json.members(strict_json.loads(body), _MEMBERS, "manifest")
        media_type = _media_type(content_type, document)
        _check_structure(media_type, document)
        _check_descriptor_count(media_type, document)
        config = _descriptor(document, "config")
        layers = _descriptors(document, "layers")
        children = _descriptors(document, "manifests")
        manifests = tuple(child for child in children if media_types.is_manifest(child.media_type))
        other_children = tuple(child for child in children if not media_types.is_manifest(child.media_type))
        return cls(
            body=body,
            media_type=media_type,
            digest=digest,
            config=config,
            layers=layers,
            manifests=manifests,
            blobs=_local_blobs(config, layers + other_children + _artifact_blobs(media_type, document)),
            subject=_descriptor(document, "subject"),
            artifact_type=read_artifact_type(document, "manifest") or (config.media_type if config else None),
            annotations=strict_json.string_map(document, "annotations", "manifest"),
        )

    @property
    def size(self) -> int:
        return len(self.body)


def _media_type(content_type: str | None, document: Mapping[str, Any]) -> str:
    """Take the type that the body declares or, when it is silent, implies; the header may only agree.

    Source: distribution-spec spec.md, "Pushing Manifests"; image-spec media-types.md.
    """
    sent = media_types.essence(content_type or "")
    declared = strict_json.string(document, "mediaType", "manifest")
    if sent in media_types.SCHEMA1 or declared in media_types.SCHEMA1 or document.get("schemaVersion") == 1:
        raise ManifestInvalid("docker schema 1 manifests are not supported; push as schema 2 or OCI")
    if sent not in _GENERIC and not media_types.is_manifest(sent):
        raise ManifestInvalid(f"Content-Type is not a supported manifest type: {sent[:150]!r}")
    if declared is not None and not media_types.is_manifest(declared):
        raise ManifestInvalid(f"mediaType is not a supported manifest type: {declared[:150]!r}")
    media_type = declared or _implied_type(document)
    if sent not in _GENERIC and sent != media_type:
        source = "its mediaType" if declared else "it has no mediaType and its structure"
        raise ManifestInvalid(f"Content-Type is {sent}, but {source} says {media_type}")
    return media_type


def _implied_type(document: Mapping[str, Any]) -> str:
    is_index = "manifests" in document
    is_image = "config" in document and "layers" in document
    if is_index == is_image:
        raise ManifestInvalid("manifest has no mediaType, and is neither an image manifest nor an index")
    return media_types.IMAGE_INDEX if is_index else media_types.IMAGE_MANIFEST


def _check_structure(media_type: str, document: Mapping[str, Any]) -> None:
    """Refuse a document that is not clearly a manifest of this type.

    One body that two readers take for two kinds has one digest and two meanings (CVE-2021-41190).
    """
    for name in _FORBIDDEN[media_type]:
        if name in document:
            raise ManifestInvalid(f"a manifest of type {media_type} may not have {name!r}")
    if media_type == media_types.ARTIFACT_MANIFEST:
        return
    version = document.get("schemaVersion")
    if version != 2 or not isinstance(version, int):
        raise ManifestInvalid("schemaVersion is not 2")
    if media_types.is_index(media_type):
        is_complete = "manifests" in document
    else:
        is_complete = document.get("config") is not None and "layers" in document
    if not is_complete:
        raise ManifestInvalid(f"a manifest of type {media_type} lacks its descriptors")


def _check_descriptor_count(media_type: str, document: Mapping[str, Any]) -> None:
    arrays = ("blobs",) if media_type == media_types.ARTIFACT_MANIFEST else ("layers", "manifests")
    count = sum(len(strict_json.array(document, name, "manifest")) for name in arrays)
    count += sum(name in document for name in ("config", "subject"))
    if count > DESCRIPTOR_LIMIT:
        raise ManifestInvalid(f"manifest has more than {DESCRIPTOR_LIMIT} descriptors")


def _descriptor(document: Mapping[str, Any], name: str) -> Descriptor | None:
    value = document.get(name)
    return None if value is None else Descriptor.from_json(value, name)


def _descriptors(document: Mapping[str, Any], name: str) -> tuple[Descriptor, ...]:
    values = strict_json.array(document, name, "manifest")
    return tuple(Descriptor.from_json(value, f"{name}[{index}]") for index, value in enumerate(values))


def _artifact_blobs(media_type: str, document: Mapping[str, Any]) -> tuple[Descriptor, ...]:
    # Other kinds do not know `blobs`, and unknown members are ignored.
    return _descriptors(document, "blobs") if media_type == media_types.ARTIFACT_MANIFEST else ()


def _local_blobs(config: Descriptor | None, others: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    """Pick the blobs that must be in the repository, each once.

    An index may list what is no manifest: buildkit's cache lists layers and its own config that way.
    Source: image-spec layer.md, "Non-Distributable Layers".
    """
    blobs = [config] if config else []
    blobs += (each for each in others if not each.is_foreign)
    return tuple({(blob.digest, blob.size): blob for blob in blobs}.values())
