"""What a copy will do, known before a byte of a blob moves."""

from dataclasses import dataclass
from typing import Any

from client.places.place import Name, Standing
from client.uploads import SINGLE_REQUEST_BYTES
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.manifest import Manifest
from storage.oci.names import Tag
from storage.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Step:
    """A manifest of the copy, which the target may have; then it was not read, unless it is an index."""

    descriptor: Descriptor
    manifest: Manifest | None
    is_present: bool
    # Of what goes along with the image: the manifest it is about, or the tag that says so.
    subject: Digest | None = None
    tag: Tag | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": str(self.descriptor.digest),
            "mediaType": self.descriptor.media_type,
            "size": self.descriptor.size,
            "present": self.is_present,
            "subject": None if self.subject is None else str(self.subject),
            "tag": None if self.tag is None else str(self.tag),
        }


@dataclass(frozen=True, slots=True)
class BlobStep:
    blob: Descriptor
    standing: Standing

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": str(self.blob.digest),
            "mediaType": self.blob.media_type,
            "size": self.blob.size,
            "standing": self.standing.value,
        }


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a copy comes from and goes to, for people; whether each costs requests."""

    source: str
    target: str
    is_source_remote: bool
    is_target_remote: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` are the manifests in the order they are put, after the blobs; the image is the last."""

    ends: Ends
    name: Name | None
    steps: tuple[Step, ...]
    blobs: tuple[BlobStep, ...]
    # What was not chosen of an index, when only some platforms were.
    left_out: tuple[Descriptor, ...] = ()
    platforms: tuple[Platform, ...] = ()
    # Of each manifest what refers to it, as the source lists it.
    referrers: tuple[tuple[Digest, tuple[Descriptor, ...]], ...] = ()

    @property
    def root(self) -> Manifest:
        manifest = self.steps[-1].manifest
        assert manifest is not None  # it was resolved
        return manifest

    @property
    def to_put(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if not step.is_present)

    def blobs_that_are(self, standing: Standing) -> tuple[Descriptor, ...]:
        return tuple(step.blob for step in self.blobs if step.standing is standing)

    def bytes_that_are(self, standing: Standing) -> int:
        return sum(blob.size for blob in self.blobs_that_are(standing))

    @property
    def requests(self) -> int:
        """How many requests are still to come, at least: retries, and parts of large blobs, are more."""
        mounts = len(self.blobs_that_are(Standing.MOUNTABLE))
        moved = self.blobs_that_are(Standing.ABSENT)
        count = len(moved) if self.ends.is_source_remote else 0
        if self.ends.is_target_remote:
            uploads = sum(2 if blob.size <= SINGLE_REQUEST_BYTES else 3 for blob in moved)
            count += mounts + uploads + len(self.to_put) + len(self.referrers)
        return count

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.ends.source,
            "target": self.ends.target,
            "name": None if self.name is None else str(self.name),
            "digest": str(self.root.digest),
            "mediaType": self.root.media_type,
            "platforms": [str(platform) for platform in self.platforms],
            "leftOut": [str(descriptor.digest) for descriptor in self.left_out],
            "manifests": [step.to_json() for step in self.steps],
            "blobs": [step.to_json() for step in self.blobs],
            "bytes": {standing.value: self.bytes_that_are(standing) for standing in Standing},
            "requests": self.requests,
        }
