"""The decompressed blocks of a layer, hashed on the way, made by a second thread.

Reading, inflating and hashing release the GIL, so they run while files are written.
"""

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import BinaryIO, Self

from client.unpack.decompress import decompressed
from client.unpack.errors import StreamFailed
from client.unpack.limits import Limits
from storage.oci.digest import Digest, hasher

_AHEAD = 4


class Blocks:
    """Iterate to the end, then ask for the digest. Leave the context for the thread to end.

    The thread is waited for, and so is a `read` of the stream that it may be in.
    """

    def __init__(self, stream: BinaryIO, limits: Limits, algorithm: str) -> None:
        self._stream = stream
        self._limits = limits
        self._algorithm = algorithm
        self._hasher = hasher(algorithm)
        self._queue: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._free = threading.Semaphore(_AHEAD)
        self._unwanted = False
        self._thread = threading.Thread(target=self._produce, name="inflate", daemon=True)
        self.unpacked = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unwanted = True
        self._free.release()
        self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            self._free.release()
            self.unpacked += len(item)
            yield item

    def digest(self) -> Digest:
        """Return the digest of all blocks; valid once the iteration has ended."""
        return Digest(self._algorithm, self._hasher.hexdigest())

    def _produce(self) -> None:
        try:
            for block in decompressed(self._stream, self._limits):
                self._hasher.update(block)
                self._free.acquire()
                if self._unwanted:
                    return
                self._queue.put(block)
        except OSError as error:
            failed = StreamFailed(f"the layer could not be read: {error.strerror or error}")
            failed.__cause__ = error
            self._queue.put(failed)
        except BaseException as error:
            # Whatever it is, the consumer raises it.
            self._queue.put(error)
        else:
            self._queue.put(None)
