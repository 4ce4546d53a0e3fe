"""Blobs on their way into a repository: mounted where possible, several at once, hashed as they go."""

import threading
from collections.abc import Sequence

from client.errors import Blocked, Cancelled, ContentMismatch, CredentialsUnusable, DestinationRefused
from client.places.contents import SourcedContent
from client.places.parallel import each
from client.places.place import Moving
from client.progress import Advanced, Event, Failed, Finished, Restarted, Started
from client.session import Session
from client.sources import Source
from client.uploads import Upload
from storage.oci.descriptor import Descriptor
from storage.oci.errors import Denied, RegistryError, Unauthorized
from storage.oci.names import RepositoryName

# Refusals that are ours, as opposed to those that a registry gave.
OURS = (Blocked, CredentialsUnusable, DestinationRefused)


class Uploading:
    """Writes blobs to one repository; `mountable_from` is one that may have them already."""

    def __init__(
        self,
        session: Session,
        repository: RepositoryName,
        sources: Sequence[Source],
        mountable_from: RepositoryName | None,
        moving: Moving,
    ) -> None:
        self._session = session
        self._repository = repository
        self._sources = sources
        self._mountable_from = mountable_from
        self._moving = moving
        self._stop = threading.Event()
        self._telling = threading.Lock()

    def run(self, blobs: Sequence[Descriptor]) -> None:
        """Write blobs. Raises the first error when all work has stopped."""
        each(self._write, blobs, self._moving.pace.parallel_blobs, self._stop)

    def _write(self, blob: Descriptor) -> None:
        self._check()
        try:
            self._tell(Started(blob.digest, blob.size, 0, is_upload=True))
            upload = None
            if self._mountable_from is not None:
                is_mounted, upload = self._mount(blob, self._mountable_from)
                if is_mounted:
                    self._tell(Finished(blob.digest, blob.size, "mounted"))
                    return
            self._upload(blob, upload)
        except RegistryError as error:
            self._tell(Failed(blob.digest, error.message))
            raise
        self._tell(Finished(blob.digest, blob.size, "pushed"))

    def _mount(self, blob: Descriptor, source: RepositoryName) -> tuple[bool, Upload | None]:
        """Try to share the blob; a registry that does not has begun an upload, or refused even that."""
        try:
            upload = self._session.mount_blob(self._repository, blob.digest, source)
        except OURS:
            raise
        except (Unauthorized, Denied):
            # We may not read there, or not with this token: what is asked next is only to write here.
            self._mountable_from = None
            return False, None
        return upload is None, upload

    def _upload(self, blob: Descriptor, upload: Upload | None) -> None:
        """Upload a blob from its sources together; after wrong bytes, from each one alone.

        Of bytes from several sources nobody knows which ones are wrong.
        """
        attempts = [self._sources]
        if len(self._sources) > 1:
            attempts += [[source] for source in self._sources]
        while attempts:
            sources = attempts.pop(0)
            try:
                self._upload_from(sources, blob, upload)
            except ContentMismatch:
                if not attempts:
                    raise
                upload = None
                self._tell(Restarted(blob.digest))
            else:
                return

    def _upload_from(self, sources: Sequence[Source], blob: Descriptor, upload: Upload | None) -> None:
        content = SourcedContent(blob, sources, self._moving.deadline, self._stop)
        self._session.upload_blob(
            self._repository,
            blob.digest,
            content,
            upload=upload,
            progress=lambda done: self._tell(Advanced(blob.digest, done)),
        )

    def _check(self) -> None:
        if self._stop.is_set():
            raise Cancelled("another blob failed")

    def _tell(self, event: Event) -> None:
        with self._telling:
            self._moving.progress(event)
