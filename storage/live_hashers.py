"""The hashers of uploads between two requests of this process: hashlib's state cannot be saved."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from storage.blobs import UploadId
from storage.oci.digest import Digest, Hasher

# One costs about a kilobyte.
_KEPT = 256


@dataclass(frozen=True, slots=True)
class LiveHasher:
    """The running hash of an upload's bytes."""

    algorithm: str
    hasher: Hasher

    def digest(self) -> Digest:
        return Digest(self.algorithm, self.hasher.hexdigest())


class LiveHashers:
    """Keeps the latest few, one an upload.

    Another process may have dropped and rewritten the bytes since, to the same length. So a hasher is
    given out only to who proves, by the digest that was acknowledged, that it saw the same (CRASH-04).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[UploadId, LiveHasher] = OrderedDict()

    def keep(self, upload: UploadId, live: LiveHasher) -> None:
        with self._lock:
            self._kept[upload] = live
            self._kept.move_to_end(upload)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def take(self, upload: UploadId, digest: Digest | None) -> LiveHasher | None:
        """Return, and no longer keep, the hasher of an upload's bytes if their digest is `digest`."""
        with self._lock:
            live = self._kept.pop(upload, None)
        return live if live is not None and live.digest() == digest else None

    def forget(self, upload: UploadId) -> None:
        with self._lock:
            self._kept.pop(upload, None)
