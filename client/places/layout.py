"""Reading images from an OCI layout, which may be a directory or lie in an archive."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Protocol

from client.errors import ContentMismatch
from client.places.contents import read_all
from client.places.layout_index import REF_NAME, LayoutIndex, names_of
from client.places.place import Name
from client.sources import Source
from storage.oci import media_types
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown, ManifestInvalid, ManifestUnknown
from storage.oci.manifest import MANIFEST_LIMIT, Manifest
from storage.oci.names import ImageReference, Tag

log = logging.getLogger(__name__)


class Blobs(Source, Protocol):
    """A source whose blobs can be asked for by digest alone."""

    def size(self, digest: Digest) -> int | None: ...


def read_manifest(source: Source, descriptor: Descriptor, where: str) -> Manifest:
    """Read a manifest and check its digest. Raises ManifestUnknown, ContentMismatch, ManifestInvalid."""
    try:
        body = read_all(source, descriptor, MANIFEST_LIMIT) if descriptor.data is None else descriptor.data
    except BlobUnknown as error:
        raise ManifestUnknown(f"{where} does not hold the manifest {descriptor.digest}") from error
    if Digest.of(body, descriptor.digest.algorithm) != descriptor.digest:
        raise ContentMismatch(f"{where} has other content than {descriptor.digest}")
    return Manifest.parse(descriptor.media_type, body, descriptor.digest.algorithm)


class LayoutPlace:
    """The images of a layout."""

    is_remote = False

    def __init__(self, name: str, blobs: Blobs, index: Callable[[], LayoutIndex]) -> None:
        self._name = name
        self._blobs = blobs
        self._read_index = index

    @property
    def name(self) -> str:
        return self._name

    def resolve(self, reference: Digest | Name | None) -> Manifest:
        index = self._read_index()
        if isinstance(reference, Digest) and reference not in {each.digest for each in index.entries}:
            # The child of an index, perhaps.
            size = self._blobs.size(reference)
            if size is not None:
                return self.manifest(Descriptor(media_types.OCTET_STREAM, reference, size))
        return self.manifest(index.find(reference, self._name))

    def head(self, reference: Digest | Name | None) -> Digest | None:
        return None

    def manifest(self, descriptor: Descriptor) -> Manifest:
        return read_manifest(self._blobs, descriptor, self._name)

    def sources(self) -> Sequence[Source]:
        return (self._blobs,)

    def names(self) -> Sequence[tuple[str, Descriptor]]:
        """Return what the layout has, each name once."""
        return [(name, each) for each in self._read_index().entries for name in names_of(each)[:1]]

    def contents(self) -> Iterator[tuple[str | None, Digest]]:
        """Yield all images, each under each of its names; not what goes along with them."""
        for entry in self._read_index().images():
            names = names_of(entry)
            yield (names[0] if names else None), entry.digest

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        return self._referrers.get(digest, ())

    def homes(self) -> Sequence[ImageReference]:
        return ()

    def companions(self, digests: Collection[Digest]) -> Sequence[Tag]:
        return companions_among(self._read_index().tags(), digests)

    @cached_property
    def _referrers(self) -> dict[Digest, list[Descriptor]]:
        """Look once through all that index.json lists, and through the tags that stand in for referrers."""
        found: dict[Digest, dict[Digest, Descriptor]] = {}
        for entry in self._read_index().entries:
            if self._blobs.size(entry.digest) is None or not media_types.is_manifest(entry.media_type):
                continue
            try:
                manifest = self.manifest(entry)
            except (ContentMismatch, ManifestInvalid) as error:
                # Damage to one image is none of another's.
                log.warning("manifest is damaged", extra={"digest": str(entry.digest), "reason": str(error)})
                continue
            if manifest.subject is not None:
                described = referrer(manifest)
                found.setdefault(manifest.subject.digest, {})[described.digest] = described
            if _is_referrers_tag(entry):
                for each in manifest.manifests:
                    with suppress(ManifestUnknown, ContentMismatch, ManifestInvalid):
                        child = self.manifest(each)
                        if child.subject is not None:
                            found.setdefault(child.subject.digest, {})[each.digest] = each
        return {subject: list(each.values()) for subject, each in found.items()}


def referrer(manifest: Manifest) -> Descriptor:
    """Describe a manifest as lists of referrers do. Source: distribution-spec spec.md, end-12."""
    return Descriptor(
        manifest.media_type,
        manifest.digest,
        manifest.size,
        annotations=manifest.annotations,
        artifact_type=manifest.artifact_type,
    )


def companions_among(tags: Collection[Tag], digests: Collection[Digest]) -> list[Tag]:
    """Return the tags that begin as cosign's and the referrers tag schema's do, but are not that schema's."""
    beginnings = {f"{each.algorithm}-{each.hex}" for each in digests}
    found = []
    for tag in dict.fromkeys(tags):
        beginning, dot, _ = tag.value.partition(".")
        if dot and beginning in beginnings:
            found.append(tag)
    return found


def _is_referrers_tag(entry: Descriptor) -> bool:
    name = entry.annotations.get(REF_NAME, "")
    return (
        name.startswith(("sha256-", "sha512-")) and "." not in name and media_types.is_index(entry.media_type)
    )
