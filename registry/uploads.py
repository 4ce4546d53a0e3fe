"""Upload sessions: begin, append, finish, cancel, mount. The bytes' half of the registry's verbs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from registry.body import BodyCut
from registry.metadata import blobs, quotas, uploads
from registry.metadata.blobs import NewBlob
from registry.metadata.uploads import Upload
from registry.offload import Offload
from registry.reservation import Reservation
from registry.settings import Settings
from registry.space import FreeSpace
from storage.blobs import Appended, BlobStore, BlobWriter, Location, UploadId
from storage.database import Connection, Database
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown, BlobUploadUnknown, RangeInvalid, RegistryError
from storage.oci.names import RepositoryName

Write = Callable[[memoryview], None]
Feed = Callable[[Write], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Session:
    """Names an upload and who must own it; anyone else finds nothing (ISO-04)."""

    name: RepositoryName
    upload: UploadId
    principal: str


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A session that this request alone writes to, until `close`."""

    row: Upload
    writer: BlobWriter
    room: Reservation
    stack: ExitStack

    def close(self) -> None:
        self.stack.close()


class Uploads:
    """The verbs of upload sessions. An acknowledged offset is durable and counted in the session's row."""

    def __init__(
        self, settings: Settings, database: Database, store: BlobStore, offload: Offload, space: FreeSpace
    ) -> None:
        self._settings = settings
        self._space = space
        self._database = database
        self._store = store
        self._offload = offload

    async def begin(self, name: RepositoryName, principal: str, algorithm: str) -> Session:
        """Open a session whose bytes will be hashed with `algorithm`. Raises InsufficientStorage."""
        self._space.check()
        upload = await self._offload.blobs(self._store.begin, algorithm)
        await self._offload.transaction(lambda db: uploads.create(db, upload, name, principal, algorithm))
        return Session(name, upload, principal)

    async def status(self, session: Session) -> Upload:
        """Return what was acknowledged. Raises BlobUploadUnknown."""
        return _known(await self._offload.point_read(partial(_find, session=session)))

    async def cancel(self, session: Session) -> None:
        """Drop a session and its bytes. Raises BlobUploadUnknown, RangeInvalid while someone writes to it."""
        async with self._claimed(session):
            await self._offload.transaction(lambda db: uploads.remove(db, session.upload))
            await self._offload.blobs(self._store.abort, session.upload)

    async def append(self, session: Session, start: int | None, feed: Feed, size: int = 0) -> Appended:
        """Append what `feed` writes at offset `start` (None: wherever the session is).

        `size` is how many bytes are known to come. Raises BlobUploadUnknown, RangeInvalid for another
        offset or while someone else writes, InsufficientStorage, Denied above the repository's quota, and
        BodyCut when the client left; the bytes that came before it left are kept and acknowledged, those of
        any other error are dropped.
        """
        self._space.check(size)
        async with self._writing(session, start, size) as claimed:
            await self._feed(claimed, feed)
            return await self._offload.blobs(self._acknowledge, claimed)

    async def finish(
        self, session: Session, digest: Digest, start: int | None, feed: Feed | None, size: int = 0
    ) -> None:
        """Append a last part, if there is one, verify the whole, and link it to the repository.

        Raises what `append` raises, and DigestInvalid: then the session stays as it was before.
        """
        if feed is not None:
            self._space.check(size)
        async with self._writing(session, start, size) as claimed:
            if feed is not None:
                await self._feed(claimed, feed)
            await self._offload.blobs(self._commit, claimed, session, digest)

    async def mount(
        self, name: RepositoryName, digest: Digest, sources: list[RepositoryName]
    ) -> RepositoryName | None:
        """Link a blob that one of `sources` can read; return which, or None when none can.

        Raises Denied above the repository's quota.
        """

        def unit(db: Connection) -> RepositoryName | None:
            with quotas.bounded(db, name, self._settings.limits.quotas):
                for source in sources:
                    if blobs.mount(db, name, digest, source, self._settings.lease_seconds):
                        return source
                return None

        return await self._offload.transaction(unit)

    async def holders(self, digest: Digest, limit: int) -> list[RepositoryName]:
        """Name repositories that can read a blob, for a mount without `from`."""
        names = await self._offload.read(lambda db: blobs.linked_repositories(db, digest, limit))
        return [RepositoryName(name) for name in names]

    @asynccontextmanager
    async def _claimed(self, session: Session, size: int | None = None) -> AsyncIterator[_Claimed]:
        """Be a session's only writer. Raises BlobUploadUnknown, RangeInvalid while there is another.

        `size` bytes that are announced (0: some) have their room in the quota then, or it raises Denied.
        """
        claimed = await self._offload.blobs(self._claim, session, size)
        try:
            yield claimed
        finally:
            await self._offload.blobs(claimed.close)

    @asynccontextmanager
    async def _writing(self, session: Session, start: int | None, size: int) -> AsyncIterator[_Claimed]:
        """Write at `start`; what an error leaves unacknowledged is dropped. Raises RangeInvalid too."""
        async with self._claimed(session, size) as claimed:
            try:
                _check_start(start, claimed.row.appended)
                yield claimed
            except RegistryError:
                await self._offload.blobs(self._drop_surplus, claimed)
                raise

    async def _feed(self, claimed: _Claimed, feed: Feed) -> None:
        try:
            await feed(self._space.guard(claimed.room.guard(claimed.writer.write)))
        except (BodyCut, asyncio.CancelledError):
            await self._offload.blobs(self._acknowledge, claimed)
            raise

    def _claim(self, session: Session, size: int | None) -> _Claimed:
        with ExitStack() as stack:
            stack.enter_context(self._store.claim(session.upload))
            # Read under the claim: a row read before it could be behind the writer that just left.
            row = _known(self._database.read(partial(_find, session=session)))
            writer = self._store.append(session.upload, row.appended.offset, row.appended.digest)
            stack.callback(writer.close)
            room = Reservation(self._settings, self._database, session.name, row)
            if size is not None:
                room.announce(size)
            return _Claimed(row, writer, room, stack.pop_all())
        raise AssertionError("unreachable: ExitStack swallows nothing here")

    def _acknowledge(self, claimed: _Claimed) -> Appended:
        appended = claimed.writer.flush()
        before = claimed.row.appended.offset
        if not self._database.transaction(lambda db: uploads.advance(db, claimed.row.id, before, appended)):
            raise RangeInvalid("another request moved this upload", offset=before)
        return appended

    def _commit(self, claimed: _Claimed, session: Session, digest: Digest) -> None:
        claimed.writer.close()
        verified = claimed.row.appended
        location = self._store.commit(session.upload, digest, verified)
        blob = NewBlob(digest, self._store.size(location), location)
        broken = self._broken_location(digest)

        def unit(db: Connection) -> Location | None:
            with quotas.bounded(db, session.name, self._settings.limits.quotas):
                uploads.remove(db, session.upload)
                return blobs.store(db, session.name, blob, broken, self._settings.lease_seconds)

        try:
            loser = self._database.transaction(unit)
        except Exception:
            self._drop_unserved(session.upload, location)
            raise
        if loser is not None:
            self._store.delete(loser)

    def _drop_unserved(self, upload: UploadId, location: Location) -> None:
        """Take back a copy whose row was refused: on a full disk every retry would add one."""
        with suppress(RegistryError):
            if not self._database.read(lambda db: blobs.is_served(db, location)):
                self._store.delete(location)
                # The session has no bytes any more; what it reserved must not outlive them.
                self._database.transaction(lambda db: uploads.remove(db, upload))

    def _drop_surplus(self, claimed: _Claimed) -> None:
        """Give the room of unacknowledged bytes back; the session stays as it was before the request."""
        claimed.writer.close()
        row = claimed.row
        with suppress(RegistryError):  # it has ended, or the disk fails altogether
            claimed.room.release()
            self._store.append(row.id, row.appended.offset, row.appended.digest).close()

    def _broken_location(self, digest: Digest) -> Location | None:
        """Return the served location of a digest if its bytes are gone: a push heals it (INV-05)."""
        served = self._database.read(lambda db: blobs.location(db, digest))
        if served is None:
            return None
        location, size = served
        try:
            return None if self._store.size(location) == size else location
        except BlobUnknown:
            return location


def _find(db: Connection, session: Session) -> Upload | None:
    return uploads.find(db, session.upload, session.name, session.principal)


def _known(row: Upload | None) -> Upload:
    if row is None:
        raise BlobUploadUnknown("no such upload here; it may have ended or expired")
    return row


def _check_start(start: int | None, appended: Appended) -> None:
    if start is not None and start != appended.offset:
        raise RangeInvalid(f"the next byte of this upload is {appended.offset}", offset=appended.offset)
