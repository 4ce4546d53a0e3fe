"""The verbs of the registry: what each request does, with no HTTP in it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from registry.metadata import blobs, immutable, manifests, repositories, tags
from registry.metadata.blobs import StoredBlob
from registry.metadata.manifests import Push, Referrer, StoredManifest
from registry.offload import Offload
from registry.settings import Settings
from registry.space import FreeSpace
from storage.blobs import BlobFile, BlobStore
from storage.database import Connection
from storage.oci.digest import Digest
from storage.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    NameUnknown,
    ReferenceConflict,
)
from storage.oci.names import Reference, RepositoryName, Tag

log = logging.getLogger(__name__)

_CATALOG_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a sorted list; `more` says that another page follows behind the last item."""

    items: list[str]
    more: bool


class Registry:
    """Reads and changes names; `Uploads` brings the bytes."""

    def __init__(self, settings: Settings, store: BlobStore, offload: Offload, space: FreeSpace) -> None:
        self._settings = settings
        self._space = space
        self._store = store
        self._offload = offload

    async def manifest(self, name: RepositoryName, reference: Reference) -> StoredManifest:
        """Return a manifest, its body only when small. Raises ManifestUnknown."""
        found = await self._offload.point_read(lambda db: manifests.find(db, name, reference))
        if found is None:
            raise ManifestUnknown(f"no manifest {reference} in {name}", reference=str(reference))
        return found

    async def manifest_body(self, found: StoredManifest) -> bytes:
        """Return the bytes of a manifest."""
        if found.body is not None:
            return found.body
        return await self._offload.read(lambda db: manifests.body(db, found.digest))

    async def put_manifest(self, push: Push) -> dict[str, str | None]:
        """Store a manifest and move its tags; return what each named before.

        Raises what metadata.manifests.put does.
        """
        self._space.check(push.manifest.size)
        sparse, limits = self._settings.sparse_index, self._settings.limits
        return await self._offload.transaction(
            partial(manifests.put, push=push, sparse=sparse, limits=limits)
        )

    async def delete_manifest(self, name: RepositoryName, reference: Reference, principal: str) -> None:
        """Delete a tag, or a manifest with every tag that names it.

        Raises ManifestUnknown, ReferenceConflict while an index of the repository lists the manifest, and
        Denied when a tag that would go is immutable.
        """
        lease, protected = self._settings.lease_seconds, self._settings.limits.immutable

        def unit(db: Connection) -> bool:
            repository = repositories.find(db, name)
            if repository is None:
                return False
            going = tags.named(db, repository, reference)
            immutable.refuse_change(db, name, going, protected)
            if isinstance(reference, Tag):
                return tags.remove(db, name, repository, reference, principal)
            _refuse_held(manifests.holders(db, repository, reference), reference)
            gone = manifests.delete(db, name, repository, reference, principal)
            manifests.drop_if_unheld(db, reference, lease)
            return gone

        if not await self._offload.transaction(unit):
            raise ManifestUnknown(f"no manifest {reference} in {name}", reference=str(reference))

    async def blob(self, name: RepositoryName, digest: Digest) -> StoredBlob:
        """Return where a blob is. Raises BlobUnknown unless the repository is linked to it."""
        found = await self._offload.point_read(lambda db: blobs.find(db, name, digest))
        if found is None:
            raise BlobUnknown(f"no blob {digest} in {name}", digest=str(digest))
        return found

    async def promise_blob(self, name: RepositoryName, digest: Digest) -> StoredBlob:
        """Return a blob that stays for half a lease at least: a client that hears of it skips its upload.

        Only a blob that no manifest references needs the lease, so ordinary reads never write.
        """
        found = await self.blob(name, digest)
        lease = self._settings.lease_seconds

        def unit(db: Connection) -> bool:
            if found.lease_until > db.now() + lease / 2:
                return True
            return blobs.extend_lease(db, digest, db.now() + lease)

        if not found.referenced and not await self._offload.transaction(unit):
            raise BlobUnknown(f"no blob {digest} in {name}", digest=str(digest))
        return found

    async def open_blob(self, found: StoredBlob) -> BlobFile:
        """Open the bytes of a blob.

        Raises BlobUnknown when they are gone; a HEAD then says so too, and the next push heals it (INV-05).
        """
        try:
            return await self._offload.blobs(self._store.open, found.location)
        except BlobUnknown:
            await self._offload.transaction(partial(blobs.quarantine, location=found.location))
            log.error("the bytes of a blob are gone", extra={"location": found.location})
            raise

    async def delete_blob(self, name: RepositoryName, digest: Digest) -> None:
        """Take a blob away from a repository. Raises BlobUnknown, and ReferenceConflict while it is used."""

        def unit(db: Connection) -> bool:
            _refuse_held(blobs.holders(db, name, digest), digest)
            return blobs.unlink(db, name, digest, self._settings.lease_seconds)

        if not await self._offload.transaction(unit):
            raise BlobUnknown(f"no blob {digest} in {name}", digest=str(digest))

    async def tags(self, name: RepositoryName, last: str, limit: int) -> Page:
        """List tags behind `last`. Raises NameUnknown for a repository that never held content."""

        def unit(db: Connection) -> list[str]:
            repository = repositories.find(db, name)
            if repository is None:
                raise NameUnknown(f"no repository {name}", name=name.value)
            return tags.listing(db, repository, last, limit + 1)

        return _page(await self._offload.read(unit), limit)

    async def catalog(self, last: str, limit: int, readable: Callable[[RepositoryName], bool]) -> Page:
        """List repositories behind `last` that hold a manifest and are `readable`, which a thread asks."""
        # Of many repositories few may be readable: a small page is no reason to look at few at a time.
        size = max(limit + 1, _CATALOG_BATCH)

        def unit(db: Connection) -> tuple[list[str], str | None]:
            batch = repositories.catalog(db, last, size)
            shown = [name for name in batch if readable(RepositoryName(name))]
            return shown, batch[-1] if len(batch) == size else None

        found, more = await self._offload.read(unit)
        while len(found) <= limit and more is not None:
            last = more
            shown, more = await self._offload.read(unit)
            found += shown
        return _page(found, limit)

    async def referrers(
        self, name: RepositoryName, subject: Digest, artifact_type: str | None, last: str, limit: int
    ) -> list[Referrer]:
        """List up to `limit` manifests that name `subject`, sorted by digest behind `last`."""
        return await self._offload.read(
            lambda db: manifests.referrers(db, name, subject, artifact_type, last, limit)
        )


def _refuse_held(holders: list[str], digest: Digest) -> None:
    if holders:
        raise ReferenceConflict(
            f"{digest} is part of a manifest; delete that first", digest=str(digest), manifests=holders
        )


def _page(found: list[str], limit: int) -> Page:
    return Page(found[:limit], more=len(found) > limit)
