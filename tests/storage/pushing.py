"""The steps of a push, for the tests of every store."""

from collections.abc import Callable
from contextlib import closing

from storage.blobs import Appended, BlobStore, Location, UploadId
from storage.oci.digest import Digest

OpenStore = Callable[[], BlobStore]
"""Opens the same storage anew, as another process, or this one after a restart, does."""


def append(
    store: BlobStore, upload: UploadId, offset: int, data: bytes, digest: Digest | None = None
) -> Appended:
    """Send one PATCH: claim, write, make durable."""
    with store.claim(upload), closing(store.append(upload, offset, digest)) as writer:
        writer.write(data)
        return writer.flush()


def commit(store: BlobStore, upload: UploadId, digest: Digest, verified: Appended | None = None) -> Location:
    with store.claim(upload):
        return store.commit(upload, digest, verified)


def push(store: BlobStore, data: bytes, algorithm: str = "sha256") -> Location:
    upload = store.begin(algorithm)
    return commit(store, upload, Digest.of(data, algorithm), append(store, upload, 0, data))


def content(store: BlobStore, location: Location) -> bytes:
    with closing(store.open(location)) as file:
        return file.read(store.size(location) + 1)
