"""What a place is to those who copy: a source to read images from, a target to bring them to."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, Self

from client.clock import NEVER, Deadline
from client.download import PACE, Pace
from client.progress import Progress, silent
from client.sources import Source
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import NameInvalid
from storage.oci.manifest import Manifest
from storage.oci.names import ImageReference, Tag

_is_ref_name = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:@+-]{0,1023}").fullmatch


@dataclass(frozen=True, slots=True)
class RefName:
    """What a layout calls an image, which may be more than a tag: docker.io/library/app:1.

    Source: image-spec annotations.md, `org.opencontainers.image.ref.name`.
    """

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises NameInvalid."""
        if _is_ref_name(text) is None:
            raise NameInvalid(f"not a name for an image in a layout: {text[:150]!r}", name=text[:150])
        return cls(text)

    def __str__(self) -> str:
        return self.value


Name = Tag | RefName


@dataclass(frozen=True, slots=True)
class Moving:
    """How blobs are moved, and who is told."""

    progress: Progress = silent
    pace: Pace = PACE
    deadline: Deadline = NEVER


QUIETLY = Moving()


class Standing(Enum):
    """How a target stands to a blob."""

    PRESENT = "present"
    # In another repository of the same registry, which can share it.
    MOUNTABLE = "mountable"
    ABSENT = "absent"


class Place(Protocol):
    """Where images are read from. What it gives is not what was asked for until its digest was checked.

    `name` is for people.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_remote(self) -> bool:
        """Whether reading costs requests."""
        ...

    def resolve(self, reference: Digest | Name | None) -> Manifest:
        """Return what a digest or name means; None is the only image there is, or `latest`.

        Raises ManifestUnknown, which says what there is, and NameUnknown for a whole repository.
        """
        ...

    def head(self, reference: Digest | Name | None) -> Digest | None:
        """Ask which digest is meant, unchecked; None where that costs as much as to resolve it."""
        ...

    def manifest(self, descriptor: Descriptor) -> Manifest:
        """Return a manifest by its digest, checked. Raises ManifestUnknown, ContentMismatch."""
        ...

    def sources(self) -> Sequence[Source]:
        """Return from where the blobs can be had, to be tried in this order."""
        ...

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """Return the manifests whose subject is `digest`."""
        ...

    def companions(self, digests: Collection[Digest]) -> Sequence[Tag]:
        """Return the tags that are made of one of the digests, as cosign's sha256-<hex>.sig is."""
        ...

    def homes(self) -> Sequence[ImageReference]:
        """Return images at registries that have, or once had, the same blobs."""
        ...


class Contents(Place, Protocol):
    """A place that lists what it has."""

    def contents(self) -> Iterator[tuple[str | None, Digest]]:
        """Yield all images, each under each of its names."""
        ...


class Target(Protocol):
    """Where images are brought to: blobs first, then manifests from the leaves up, the name last."""

    @property
    def name(self) -> str: ...

    @property
    def is_remote(self) -> bool: ...

    def find(self, name: Name) -> Digest | None:
        """Return what has a name."""
        ...

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """Tell whether a manifest is there with its blobs; the children of an index may not be."""
        ...

    def standings(self, blobs: Sequence[Descriptor], source: Place) -> Sequence[Standing]:
        """Tell of each blob whether it is there, or would come without moving."""
        ...

    def write_blobs(self, blobs: Sequence[Descriptor], source: Place, moving: Moving) -> None:
        """Bring blobs that are not there, each verified on the way.

        Raises the first error after all work has stopped: ContentMismatch for wrong bytes, never kept.
        """
        ...

    def put_child(self, manifest: Manifest) -> None:
        """Keep a manifest that others refer to."""
        ...

    def put_root(self, manifest: Manifest, name: Name | None) -> None:
        """Keep a manifest so that it is found: under a name, or by its digest."""
        ...

    def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """Let manifests, which are there, be found from their subject."""
        ...
