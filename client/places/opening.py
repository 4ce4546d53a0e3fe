"""Opening the places that people name, for as long as they are used."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.clock import NEVER, Deadline
from client.hosts import Hosts
from client.places import archive, archive_target, docker_archive
from client.places.archive import OciArchive
from client.places.archive_target import ArchiveTarget, DockerArchiveTarget
from client.places.names import Kind, Location
from client.places.oci_layout import OciLayout
from client.places.place import Name, Place, Target
from client.places.registry import RegistryPlace
from client.sessions import Sessions
from storage.oci.digest import Digest
from storage.oci.errors import ManifestUnknown, NameInvalid, NameUnknown
from storage.oci.names import ImageReference


@dataclass(frozen=True, slots=True)
class Found:
    """A source, and what is meant there."""

    place: Place
    reference: Digest | Name | None


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens places. `scratch` is where archives go that are compressed or come through a pipe."""

    hosts: Hosts
    sessions: Sessions
    deadline: Deadline = NEVER
    scratch: Path | None = None

    @contextmanager
    def source(self, location: Location) -> Iterator[Found]:
        """Open a place to read from. A short name is that of the first registry which has the image.

        Raises PlaceInvalid, ManifestUnknown.
        """
        match location.kind:
            case Kind.REGISTRY:
                yield self._registry(location)
            case Kind.OCI_LAYOUT:
                yield Found(self._existing(location), location.reference)
            case Kind.OCI_ARCHIVE:
                with archive.opened(_path(location), self.scratch) as tar:
                    yield Found(OciArchive(tar), location.reference)
            case Kind.DOCKER_ARCHIVE:
                with archive.opened(_path(location), self.scratch) as tar:
                    yield Found(docker_archive.read(tar), location.reference)

    @contextmanager
    def target(self, location: Location) -> Iterator[Target]:
        """Open a place to write to; an archive is there when the block has ended well."""
        match location.kind:
            case Kind.REGISTRY:
                yield RegistryPlace(self.sessions, self.hosts.route(self._one(location)))
            case Kind.OCI_LAYOUT:
                yield OciLayout(_path(location), self.deadline)
            case Kind.OCI_ARCHIVE:
                with archive_target.written(_path(location), ArchiveTarget) as target:
                    yield target
            case Kind.DOCKER_ARCHIVE:
                with archive_target.written(_path(location), DockerArchiveTarget) as target:
                    yield target

    def _existing(self, location: Location) -> OciLayout:
        path = _path(location)
        if not path.exists():
            raise ManifestUnknown(f"{path} is not there")
        return OciLayout(path, self.deadline)

    def _registry(self, location: Location) -> Found:
        assert location.image is not None
        *candidates, last = self.hosts.expand(location.image)
        for reference in candidates:
            place = RegistryPlace(self.sessions, self.hosts.route(reference))
            try:
                place.resolve(reference.reference)
            except (ManifestUnknown, NameUnknown):
                continue
            return Found(place, reference.reference)
        return Found(RegistryPlace(self.sessions, self.hosts.route(last)), last.reference)

    def _one(self, location: Location) -> ImageReference:
        """Return what a target's name means, which must be one thing."""
        assert location.image is not None
        references = self.hosts.expand(location.image)
        if len(references) > 1:
            hosts = ", ".join(reference.host for reference in references)
            raise NameInvalid(f"{location.image} may be at {hosts}: name the registry")
        return references[0]


def _path(location: Location) -> Path:
    assert location.path is not None
    return location.path
