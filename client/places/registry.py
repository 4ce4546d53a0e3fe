"""A repository of a registry: read through its mirrors, written to itself only."""

import json
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

from client.blob_stream import BlobStream
from client.endpoints import Endpoint, Route
from client.errors import ConfigurationInvalid, CredentialsUnusable
from client.places.layout import companions_among, referrer
from client.places.parallel import each
from client.places.place import Moving, Name, Place, Standing
from client.places.uploading import OURS, Uploading
from client.session import Session
from client.sessions import Sessions
from client.sources import RepositorySource, Source
from storage.oci import media_types
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import (
    BlobUnknown,
    Denied,
    EndpointUnknown,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    Unauthorized,
    Unsupported,
)
from storage.oci.manifest import Manifest
from storage.oci.names import LATEST, ImageReference, Reference, RepositoryName, Tag, referrers_tag

_PARALLEL = 4
# Some repositories have a hundred thousand tags, in pages of a hundred.
_MOST_TAGS = 5000
# What cosign makes of a digest. Source: cosign's specs/SIGNATURE_SPEC.md, "Discovery".
_COSIGN = ("sig", "att", "sbom")
# Nothing that the next endpoint could help with.
_FINAL = (ConfigurationInvalid, CredentialsUnusable)
log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _OrElsewhere:
    """The registry itself, and for what it does not have the URLs in the descriptor.

    Only those ask for foreign layers who want them.
    """

    session: Session
    repository: RepositoryName

    @property
    def host(self) -> str:
        return self.session.host.address

    def open(self, blob: Descriptor, start: int, stop: int | None) -> BlobStream:
        try:
            return self.session.open_blob(self.repository, blob.digest, start, stop, size=blob.size)
        except BlobUnknown as error:
            failure: RegistryError = error
        for url in blob.urls:
            try:
                return self.session.open_foreign(url, blob.size)
            except RegistryError as error:
                failure = error
        raise failure


class RegistryPlace:
    """A repository, as the configuration says it is reached; the sessions stay the caller's."""

    is_remote = True

    def __init__(self, sessions: Sessions, route: Route) -> None:
        self._sessions = sessions
        self._route = route
        self.origin = route.origin
        self._session = sessions.to(route.origin)
        self._repository = route.origin.repository

    @property
    def name(self) -> str:
        return f"{self._route.reference.host}/{self._route.reference.repository}"

    # Reading

    def resolve(self, reference: Digest | Name | None) -> Manifest:
        wanted = reference if isinstance(reference, Digest) else _tag(reference or LATEST)
        is_digest = isinstance(wanted, Digest)
        endpoints = self._route.for_digests() if is_digest else self._route.for_tags()
        try:
            return self._first(endpoints or (self.origin,), partial(_get, reference=wanted))
        except ManifestUnknown as error:
            raise ManifestUnknown(f"{error.message}{self._offer()}") from error

    def head(self, reference: Digest | Name | None) -> Digest | None:
        """Ask by HEAD, which a registry's limit on pulls does not count."""
        if isinstance(reference, Digest):
            return reference
        tag = _tag(reference or LATEST)
        try:
            return self._first(
                self._route.for_tags() or (self.origin,),
                lambda session, repository: session.head_manifest(repository, tag).digest,
            )
        except (ManifestUnknown, NameUnknown, Unsupported):
            return None  # resolving says it better, or works

    def manifest(self, descriptor: Descriptor) -> Manifest:
        if descriptor.data is not None:
            return Manifest.parse(descriptor.media_type, descriptor.data, descriptor.digest.algorithm)
        get = partial(_get, reference=descriptor.digest, size=descriptor.size)
        return self._first(self._route.for_digests() or (self.origin,), get)

    def sources(self) -> Sequence[Source]:
        mirrors = [endpoint for endpoint in self._route.for_digests() if endpoint.is_mirror]
        origin = _OrElsewhere(self._session, self._repository)
        return (
            *(RepositorySource(self._sessions.to(mirror), mirror.repository) for mirror in mirrors),
            origin,
        )

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """Ask the registry itself, for a mirror need not know what came later."""
        return self._session.referrers(self._repository, digest)

    def companions(self, digests: Collection[Digest]) -> Sequence[Tag]:
        """Look through the list of tags, or ask for each where that is long or nobody may have it."""
        try:
            tags = list(islice(self._session.tags(self._repository), _MOST_TAGS + 1))
            if len(tags) <= _MOST_TAGS:
                return companions_among(tags, digests)
        except NameUnknown:
            return ()
        except OURS:
            raise
        except (Unauthorized, Denied, EndpointUnknown, Unsupported):
            pass
        possible = [
            Tag(f"{digest.algorithm}-{digest.hex}.{kind}")
            for digest in digests
            if digest.algorithm == "sha256"
            for kind in _COSIGN
        ]
        found = each(self.find, possible, _PARALLEL)
        return [tag for tag, digest in zip(possible, found, strict=True) if digest is not None]

    def homes(self) -> Sequence[ImageReference]:
        return (ImageReference(self.origin.host.name, self._repository),)

    # Writing

    def find(self, name: Name) -> Digest | None:
        try:
            return self._session.head_manifest(self._repository, _tag(name)).digest
        except (ManifestUnknown, NameUnknown):
            return None

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """Ask by HEAD: a registry takes a manifest only with its blobs."""
        try:
            self._session.head_manifest(self._repository, descriptor.digest)
        except (ManifestUnknown, NameUnknown):
            return False
        return True

    def standings(self, blobs: Sequence[Descriptor], source: Place) -> Sequence[Standing]:
        absent = Standing.ABSENT if self._mountable_from(source) is None else Standing.MOUNTABLE

        def ask(blob: Descriptor) -> Standing:
            is_there = self._session.has_blob(self._repository, blob.digest)
            return Standing.PRESENT if is_there else absent

        return each(ask, blobs, _PARALLEL)

    def write_blobs(self, blobs: Sequence[Descriptor], source: Place, moving: Moving) -> None:
        """Mount what another repository of this registry has, and upload the rest."""
        uploading = Uploading(
            self._session, self._repository, source.sources(), self._mountable_from(source), moving
        )
        uploading.run(blobs)

    def put_child(self, manifest: Manifest) -> None:
        self._session.put_manifest(self._repository, manifest.digest, manifest)

    def put_root(self, manifest: Manifest, name: Name | None) -> None:
        self._session.put_manifest(
            self._repository, manifest.digest if name is None else _tag(name), manifest
        )
        if manifest.subject is not None:
            self.add_referrers(manifest.subject.digest, [referrer(manifest)])

    def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """List them under the tag that stands in, where the registry does not list them by itself.

        Source: distribution-spec spec.md, "Pushing Manifests with Subject".
        """
        listed = list(self._session.referrers(self._repository, subject))
        known = {descriptor.digest for descriptor in listed}
        missing = [descriptor for descriptor in referrers if descriptor.digest not in known]
        if missing:
            index = _index([*listed, *missing])
            self._session.put_manifest(self._repository, referrers_tag(subject), index)

    def _mountable_from(self, source: Place) -> RepositoryName | None:
        """Return the repository of the same registry that has the blobs, or likely has them."""
        host = self.origin.host.name
        homes = (home.repository for home in source.homes() if home.host == host)
        return next((repository for repository in homes if repository != self._repository), None)

    def _first(self, endpoints: Sequence[Endpoint], get: Callable[[Session, RepositoryName], T]) -> T:
        """Return what the first endpoint gives that does not fail. Raises the last one's error."""
        *mirrors, last = endpoints
        for mirror in mirrors:
            try:
                return get(self._sessions.to(mirror), mirror.repository)
            except _FINAL:
                raise
            except RegistryError as error:
                log.info("mirror failed", extra={"host": mirror.host.address, "reason": error.message})
        return get(self._sessions.to(last), last.repository)

    def _offer(self) -> str:
        """Say which tags there are, when that can be had in one request."""
        tags: list[str] = []
        with suppress(RegistryError):
            for tag in self._session.tags(self._repository, page=10):
                tags.append(tag.value)
                if len(tags) == 10:
                    break
        return f"; it has {', '.join(tags)}" if tags else ""


def _get(
    session: Session, repository: RepositoryName, reference: Reference, size: int | None = None
) -> Manifest:
    return session.get_manifest(repository, reference, size)


def _tag(name: Name) -> Tag:
    """Raises NameInvalid for a name that only layouts can have."""
    return name if isinstance(name, Tag) else Tag.parse(name.value)


def _index(descriptors: Sequence[Descriptor]) -> Manifest:
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.IMAGE_INDEX,
        "manifests": [descriptor.to_json() for descriptor in descriptors],
    }
    return Manifest.parse(None, json.dumps(document, ensure_ascii=False).encode())
