"""The one mover of blobs: parallel, verified, resumable, from mirrors first and the registry last.

A blob's bytes go to a sink, which remembers them across processes; its digest is computed as they come. A
broken connection is opened again where it broke, at the same place or the next one.
"""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from client.clock import NEVER, Deadline
from client.download import PACE, Download, Pace, Shared
from client.errors import Cancelled, ContentMismatch
from client.partial import Sink, Sinks
from client.progress import Event, Failed, Finished, Progress, Restarted, Waiting, silent
from client.sources import Source
from storage.oci.descriptor import Descriptor
from storage.oci.errors import RegistryError

_LOCK_RETRY_SECONDS = 0.2
_SIGNAL_SECONDS = 1.0


class Transfer:
    """Fetches blobs into sinks."""

    def __init__(
        self, sinks: Sinks, progress: Progress = silent, pace: Pace = PACE, deadline: Deadline = NEVER
    ) -> None:
        self._sinks = sinks
        self._progress = progress
        self._telling = threading.Lock()
        self._shared = Shared(pace, deadline, self._tell)

    def cancel(self) -> None:
        """Stop as soon as the next bytes arrive. What is there is kept for the next time."""
        self._shared.cancelled.set()

    def fetch(self, blobs: Iterable[Descriptor], sources: Sequence[Source]) -> None:
        """Fetch blobs, several at once, until each is verified and published.

        Raises, when all work has stopped, the first error: BlobUnknown where no source has a blob,
        ContentMismatch where none has the right bytes, else that of the last source that was tried. What
        arrived is kept for the next time.
        """
        distinct = {blob.digest: blob for blob in blobs}
        with ThreadPoolExecutor(self._shared.pace.parallel_blobs, "transfer") as pool:
            futures = [pool.submit(self._fetch, blob, sources) for blob in distinct.values()]
            try:
                _wait(futures)
            except BaseException:  # Ctrl-C: what waits for the network is not waited for
                with self._shared.deadline.stopped():
                    self._end(pool)
                raise
            if not all(future.done() and future.exception() is None for future in futures):
                self._end(pool)
        if (error := _first_error(futures)) is not None:
            raise error

    def _end(self, pool: ThreadPoolExecutor) -> None:
        self.cancel()
        pool.shutdown(cancel_futures=True)

    def _fetch(self, blob: Descriptor, sources: Sequence[Source]) -> None:
        try:
            with self._sinks.open(blob, _Wait(self._shared, blob)) as sink:
                if sink is None:
                    how = "present"
                elif blob.data is not None:
                    how = "embedded"  # and verified when the descriptor was read
                    sink.discard()
                    sink.write(0, blob.data)
                    sink.commit()
                else:
                    how = "fetched"
                    self._fill(blob, sink, sources)
        except RegistryError as error:
            self._tell(Failed(blob.digest, error.message))
            raise
        self._tell(Finished(blob.digest, blob.size, how))

    def _fill(self, blob: Descriptor, sink: Sink, sources: Sequence[Source]) -> None:
        """Fetch a blob from the sources together; when that gives wrong bytes, from each alone.

        Of bytes from several places or times nobody knows which ones are wrong.
        """
        error: RegistryError = ContentMismatch(f"no source has the right content of {blob.digest}")
        suspects = list(sources)
        download = Download(self._shared, blob, sink)
        try:
            download.complete(sources)
        except ContentMismatch as mismatch:
            if not download.is_suspect:
                raise
            error = mismatch
        if download.is_verified():
            sink.commit()
            return
        if (culprit := download.only_source) is not None:
            suspects.remove(culprit)
        sink.discard()
        for source in suspects:
            self._tell(Restarted(blob.digest))
            sink.discard()  # what the one before left, which broke off
            download = Download(self._shared, blob, sink)
            try:
                download.complete([source])
            except RegistryError as failure:
                error = failure
                continue
            if download.is_verified():
                sink.commit()
                return
            sink.discard()
        raise error

    def _tell(self, event: Event) -> None:
        with self._telling:
            self._progress(event)


def _wait(futures: Sequence[Future[None]]) -> None:
    """Wait until all are done, or one has failed."""
    pending = set(futures)
    while pending:
        # Python misses a signal between its last look and the system's wait: so it looks again.
        done, pending = wait(pending, _SIGNAL_SECONDS, FIRST_EXCEPTION)
        if any(future.exception() is not None for future in done):
            return


class _Wait:
    """Waits while another process fetches a blob."""

    def __init__(self, shared: Shared, blob: Descriptor) -> None:
        self._shared = shared
        self._blob = blob
        self._is_told = False

    def __call__(self) -> None:
        self._shared.check()
        if not self._is_told:
            self._is_told = True
            self._shared.tell(Waiting(self._blob.digest))
        self._shared.deadline.sleep(_LOCK_RETRY_SECONDS)


def _first_error(futures: Iterable[Future[None]]) -> BaseException | None:
    """Return why the work ended: Cancelled only if there is no other reason, which others stopped for."""
    found = [future.exception() for future in futures if not future.cancelled()]
    errors = [error for error in found if error is not None]
    return min(errors, key=lambda error: isinstance(error, Cancelled), default=None)
