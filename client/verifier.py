"""The digest of a blob whose bytes come in any order, computed while they come."""

import threading
from collections.abc import Callable

from client.partial import Sink
from storage.oci.digest import Digest, hasher

_BLOCK = 1024 * 1024


class Verifier:
    """Hashes up to a frontier: bytes that arrive there from memory, others from the sink later."""

    def __init__(self, digest: Digest, sink: Sink) -> None:
        self._digest = digest
        self._sink = sink
        self._hash = hasher(digest.algorithm)
        self._frontier = 0
        self._lock = threading.Lock()

    def feed(self, offset: int, data: bytes) -> None:
        """Take bytes that were just written."""
        if offset > self._frontier:
            return
        with self._lock:
            skipped = self._frontier - offset
            if 0 <= skipped < len(data):
                self._hash.update(memoryview(data)[skipped:])
                self._frontier = offset + len(data)

    def catch_up(self, end_of: Callable[[int], int]) -> None:
        """Hash what is there beyond the frontier; `end_of` says up to where that is without a gap."""
        while True:
            with self._lock:
                size = min(end_of(self._frontier) - self._frontier, _BLOCK)
                data = self._sink.read(self._frontier, size) if size > 0 else b""
                if not data:
                    return  # or the file is shorter than its map says, so that the digest will not match
                self._hash.update(data)
                self._frontier += len(data)

    def is_verified(self, size: int) -> bool:
        """Tell whether all bytes were hashed and have the digest."""
        return self._frontier == size and self._hash.hexdigest() == self._digest.hex
