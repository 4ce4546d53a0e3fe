"""Descriptors: the typed, sized and addressed references between documents."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from storage.oci import media_types, strict_json
from storage.oci.digest import Digest
from storage.oci.errors import DigestInvalid, ManifestInvalid
from storage.oci.platform import Platform

SIZE_LIMIT = 2**63 - 1

_MEMBERS = frozenset(
    {"mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"}
)
# An http(s) URI with a host, of nothing but the characters that RFC 3986 lets stand.
_is_url = re.compile(
    r"https?://[A-Za-z0-9._~%!$&'()*+,;=:@\[\]-]+(?:[/?#][A-Za-z0-9._~%!$&'()*+,;=:@/?#\[\]-]*)?",
    re.IGNORECASE | re.ASCII,
).fullmatch


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Source: image-spec descriptor.md, "Properties"."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str | None = None
    urls: tuple[str, ...] = ()
    data: bytes | None = None

    @classmethod
    def from_json(cls, value: object, where: str = "descriptor") -> Self:
        """Read a descriptor; `where` names it in messages, as in layers[3]. Unknown members are ignored.

        Raises ManifestInvalid, also for embedded `data` that the digest does not describe.
        """
        members = strict_json.members(value, _MEMBERS, where)
        digest = _read_digest(members, where)
        size = _read_size(members, where)
        platform = members.get("platform")
        return cls(
            _read_media_type(members, "mediaType", where),
            digest,
            size,
            None if platform is None else Platform.from_json(platform, f"{where}.platform"),
            strict_json.string_map(members, "annotations", where),
            read_artifact_type(members, where),
            _read_urls(members, where),
            _read_data(members, digest, size, where),
        )

    def to_json(self) -> dict[str, Any]:
        members: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.urls:
            members["urls"] = list(self.urls)
        if self.annotations:
            members["annotations"] = dict(self.annotations)
        if self.data is not None:
            members["data"] = base64.b64encode(self.data).decode("ascii")
        if self.artifact_type:
            members["artifactType"] = self.artifact_type
        if self.platform:
            members["platform"] = self.platform.to_json()
        return members

    @property
    def is_foreign(self) -> bool:
        """Whether the content may live elsewhere only: it has `urls`, or may not be redistributed.

        Source: image-spec layer.md, "Non-Distributable Layers".
        """
        return bool(self.urls) or media_types.is_foreign_layer(self.media_type)


def read_artifact_type(members: Mapping[str, Any], where: str) -> str | None:
    """Read an optional `artifactType`; empty is absent.

    Source: image-spec manifest.md, "Image Manifest Property Descriptions".
    """
    if strict_json.string(members, "artifactType", where) is None:
        return None
    return _read_media_type(members, "artifactType", where)


def _read_media_type(members: Mapping[str, Any], name: str, where: str) -> str:
    text = strict_json.string(members, name, where)
    if text is None or not media_types.is_valid(text):
        raise ManifestInvalid(f"{where}.{name} is not a media type: {(text or '')[:150]!r}")
    return text


def _read_digest(members: Mapping[str, Any], where: str) -> Digest:
    text = strict_json.string(members, "digest", where)
    try:
        return Digest.parse(text or "")
    except DigestInvalid as error:
        raise ManifestInvalid(f"{where}.digest: {error.message}") from error


def _read_size(members: Mapping[str, Any], where: str) -> int:
    size = members.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= SIZE_LIMIT:
        raise ManifestInvalid(f"{where}.size is not an integer from 0 to 2^63-1")
    return size


def _read_urls(members: Mapping[str, Any], where: str) -> tuple[str, ...]:
    urls = strict_json.strings(members, "urls", where)
    for url in urls:
        if _is_url(url) is None:
            raise ManifestInvalid(f"{where}.urls has one that is not http or https: {url[:150]!r}")
    return urls


def _read_data(members: Mapping[str, Any], digest: Digest, size: int, where: str) -> bytes | None:
    """Read the embedded content. Source: image-spec descriptor.md, "Embedded Content"; RFC 4648, 4."""
    text = members.get("data")
    if text is None:
        return None
    if not isinstance(text, str):
        raise ManifestInvalid(f"{where}.data is not a string")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ManifestInvalid(f"{where}.data is not Base 64") from error
    if base64.b64encode(data).decode("ascii") != text:
        raise ManifestInvalid(f"{where}.data is not Base 64 in its one canonical form")
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise ManifestInvalid(f"{where}.data is not the content that its digest and size describe")
    return data
