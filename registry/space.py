"""The free-space floor: uploads are refused before the disk is full, so that everything else goes on."""

from collections.abc import Callable

from registry.settings import Settings
from storage.blobs import BlobStore
from storage.oci.errors import InsufficientStorage

_RECHECK = 16 * 1024 * 1024


class FreeSpace:
    """Measures the store's free bytes against the floor an operator set."""

    def __init__(self, settings: Settings, store: BlobStore) -> None:
        self._settings = settings
        self._store = store

    def free_bytes(self) -> int:
        """Return the bytes left on the store's disk; 0 where the store has no such limit."""
        return self._store.free_bytes() or 0

    def check(self, size: int = 0) -> None:
        """Raise InsufficientStorage when storing `size` more bytes would pass the floor."""
        free = self._store.free_bytes()
        floor = self._settings.free_space_floor
        if free is not None and free - size < floor:
            raise InsufficientStorage(
                "the registry's disk is nearly full; delete images or ask its operator for space",
                free_bytes=max(free - floor, 0),
            )

    def guard(self, write: Callable[[memoryview], None]) -> Callable[[memoryview], None]:
        """Check again at every 16 MiB written: a chunked body does not say how long it is."""
        unchecked = 0

        def guarded(data: memoryview) -> None:
            nonlocal unchecked
            unchecked += len(data)
            if unchecked >= _RECHECK:
                unchecked = 0
                self.check()
            write(data)

        return guarded
