"""The index.json of an OCI layout: which manifests it has, under which names.

Source: image-spec image-layout.md, "index.json file"; annotations.md.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from client.places.errors import PlaceInvalid
from client.places.place import Name
from storage.oci import media_types, strict_json
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import DigestInvalid, ManifestInvalid, ManifestUnknown, NameInvalid
from storage.oci.names import LATEST, ImageReference, Tag

REF_NAME = "org.opencontainers.image.ref.name"
# containerd's and docker's, which hold the whole reference where the other one is the tag.
IMAGE_NAME = "io.containerd.image.name"

VERSION = b'{"imageLayoutVersion":"1.0.0"}'
LIMIT = 16 * 1024 * 1024
_MEMBERS = frozenset({"schemaVersion", "mediaType", "manifests", "annotations"})
_SHOWN = 10


def check_version(document: bytes, where: str) -> None:
    """Raises PlaceInvalid for an oci-layout file that is not of version 1.

    Source: image-spec image-layout.md, "oci-layout file".
    """
    try:
        version = strict_json.members(strict_json.loads(document), frozenset(), where)["imageLayoutVersion"]
    except (ManifestInvalid, KeyError) as error:
        raise PlaceInvalid(f"{where}: the file oci-layout cannot be read") from error
    if not str(version).startswith("1."):
        raise PlaceInvalid(f"{where}: layouts of version {str(version)[:50]!r} are not known")


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """The entries in their order, and each as it was written: others' members are kept."""

    entries: tuple[Descriptor, ...] = ()
    written: tuple[Mapping[str, Any], ...] = ()
    others: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, document: bytes, where: str) -> Self:
        """Raises PlaceInvalid."""
        try:
            members = strict_json.members(strict_json.loads(document), _MEMBERS, where)
            written = strict_json.array(members, "manifests", where)
            entries = tuple(
                Descriptor.from_json(each, f"manifests[{index}]") for index, each in enumerate(written)
            )
        except ManifestInvalid as error:
            raise PlaceInvalid(f"{where}: index.json: {error.message}") from error
        others = tuple((key, value) for key, value in members.items() if key != "manifests")
        return cls(entries, tuple(written), others)

    def render(self) -> bytes:
        members = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, **dict(self.others)}
        return json.dumps({**members, "manifests": list(self.written)}, ensure_ascii=False).encode()

    def with_entry(self, entry: Descriptor) -> Self:
        """Add an entry in place of the one of its name; one without a name only if its digest is new."""
        taken = names_of(entry)
        if not taken and any(each.digest == entry.digest for each in self.entries):
            return self
        kept = [
            (each, written)
            for each, written in zip(self.entries, self.written, strict=True)
            if not _is_replaced(each, entry, taken)
        ]
        kept.append((entry, entry.to_json()))
        return type(self)(tuple(each for each, _ in kept), tuple(each for _, each in kept), self.others)

    def find(self, reference: Digest | Name | None, where: str) -> Descriptor:
        """Return the one entry that is meant. Raises ManifestUnknown, PlaceInvalid."""
        if isinstance(reference, Digest):
            found = [each for each in self.entries if each.digest == reference]
        elif reference is not None:
            name = str(reference)
            found = [each for each in self.entries if names_of(each)[:1] == (name,)]
            found = found or [each for each in self.entries if _is_called(each, name)]
        else:
            found = self._default()
        if len({each.digest for each in found}) > 1:
            raise PlaceInvalid(
                f"{where} has several manifests that are called {reference}: choose by @digest"
            )
        if not found:
            raise ManifestUnknown(
                f"{where} has no {reference or 'image that is the only one'}{self._offer()}"
            )
        return found[0]

    def tags(self) -> list[Tag]:
        found = []
        for each in self.entries:
            try:
                found.append(Tag.parse(each.annotations.get(REF_NAME, "")))
            except NameInvalid:
                continue
        return found

    def images(self) -> list[Descriptor]:
        """Return the entries but those that go along with an image: signatures' tags, referrers."""
        return [each for each in self.entries if not _is_companion(each)]

    def _default(self) -> list[Descriptor]:
        """Return the only image, the only one that has a name, or the one called latest."""
        images = self.images()
        named = [each for each in images if names_of(each)]
        for choice in (images, named):
            if len({each.digest for each in choice}) == 1:
                return choice
        return [each for each in named if _is_called(each, str(LATEST))]

    def _offer(self) -> str:
        names = sorted({each.annotations.get(IMAGE_NAME) or names_of(each)[0] for each in self._named()})
        if not names:
            digests = ", ".join(f"@{each.digest}" for each in self.entries[:_SHOWN])
            return f"; it has {digests}" if digests else "; it is empty"
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"; it has {', '.join(names[:_SHOWN])}{more}"

    def _named(self) -> Iterable[Descriptor]:
        return (each for each in self.entries if names_of(each))


def names_of(entry: Descriptor) -> tuple[str, ...]:
    """Return the names of an entry: the whole reference before the tag."""
    found = (entry.annotations.get(key) for key in (IMAGE_NAME, REF_NAME))
    return tuple(dict.fromkeys(each for each in found if each))


def _is_replaced(old: Descriptor, new: Descriptor, taken: tuple[str, ...]) -> bool:
    if not names_of(old):
        return old.digest == new.digest
    # Images of two repositories may have one tag.
    return names_of(old)[0] == taken[0] if taken else False


def _is_called(entry: Descriptor, name: str) -> bool:
    names = names_of(entry)
    return name in names or any(_same_image(name, each) for each in names if ":" in each or "/" in each)


def _same_image(first: str, second: str) -> bool:
    """Tell whether two spellings mean one image, as app and docker.io/library/app:latest do."""
    try:
        return ImageReference.parse(first) == ImageReference.parse(second)
    except (NameInvalid, DigestInvalid):
        return False


def _is_companion(entry: Descriptor) -> bool:
    """Tell whether this goes along with an image: a signature's tag, or a referrer without a name."""
    name = entry.annotations.get(REF_NAME, "")
    return name.startswith(("sha256-", "sha512-")) or (
        not names_of(entry) and entry.artifact_type is not None
    )
