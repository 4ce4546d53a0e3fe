"""The local store as a place: an OCI layout whose index is made of its rows."""

from collections.abc import Sequence

from client.places.blob_directory import BlobDirectory
from client.places.layout import LayoutPlace
from client.places.layout_index import LayoutIndex
from client.store import index_file
from client.store.store import Store
from storage.oci.digest import Digest
from storage.oci.names import ImageReference


class LocalStore(LayoutPlace):
    """The images of a store, called as in its index.json; `digest` is the one that is to be copied."""

    def __init__(self, store: Store, digest: Digest | None = None) -> None:
        root = store.directory.root
        super().__init__(
            str(root), BlobDirectory(root), lambda: LayoutIndex.parse(index_file.render(store), str(root))
        )
        self._store = store
        self._digest = digest

    def homes(self) -> Sequence[ImageReference]:
        if self._digest is None:
            return ()
        return [ImageReference.parse(name) for name in self._store.names_of_part(self._digest)]


def local_store(store: Store, digest: Digest | None = None) -> LocalStore:
    """Return a store as a place to copy images from."""
    return LocalStore(store, digest)
