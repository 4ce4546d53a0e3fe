"""A blob's file as a layer is unpacked from it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from client.store.directory import Directory
from client.store.errors import ImageIncomplete
from storage.oci.digest import Digest


class _Stream:
    def __init__(self, read: Callable[[int], bytes], check: Callable[[], object]) -> None:
        self._read = read
        self._check = check

    def read(self, size: int) -> bytes:
        self._check()
        return self._read(size)


@contextmanager
def open_layer(directory: Directory, blob: Digest, check: Callable[[], object]) -> Iterator[BinaryIO]:
    """Open a layer's blob; `check` is called before each read, and may raise to stop it.

    Raises ImageIncomplete.
    """
    try:
        file = directory.blob(blob).open("rb", buffering=0)
    except FileNotFoundError as error:
        raise ImageIncomplete(f"the store lacks the layer {blob}: pull again") from error
    with file:
        yield cast("BinaryIO", _Stream(file.read, check))
