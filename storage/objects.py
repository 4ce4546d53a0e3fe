"""The ObjectStore contract: small named objects beside the blobs (journal, manifests, tails, fills)."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from storage.durable import DISK, FileSystem, media_errors, write_file
from storage.oci.errors import BlobUnknown

_is_key = re.compile(r"[a-z0-9_-][a-z0-9._-]*(?:/[a-z0-9_-][a-z0-9._-]*)*").fullmatch


class ObjectStore(Protocol):
    """Whole small objects by key: lower-case letters, digits and `._-`, in segments parted by slashes."""

    def put(self, key: str, data: bytes) -> None:
        """Store an object, over an older one; at once and durably."""
        ...

    def get(self, key: str) -> bytes:
        """Return an object. Raises BlobUnknown."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Name the objects whose key starts with `prefix`, sorted bytewise."""
        ...

    def delete(self, key: str) -> None:
        """Drop an object. An absent one is success."""
        ...


class FilesystemObjects:
    """Objects as files below `objects/`."""

    def __init__(self, root: Path, disk: FileSystem = DISK) -> None:
        self._root = root / "objects"
        self._disk = disk

    def put(self, key: str, data: bytes) -> None:
        with media_errors():
            write_file(self._path(key), data, self._disk)

    def get(self, key: str) -> bytes:
        with media_errors():
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                raise BlobUnknown(f"no object {key}") from None

    def list(self, prefix: str) -> Iterator[str]:
        directory = self._root / prefix.rpartition("/")[0]
        with media_errors():
            found = (
                (Path(parent) / name).relative_to(self._root).as_posix()
                for parent, _, names in os.walk(directory)
                for name in names
                if not name.startswith(".")  # a file on its way to its name
            )
            yield from sorted(key for key in found if key.startswith(prefix))

    def delete(self, key: str) -> None:
        with media_errors(), suppress(FileNotFoundError):
            self._disk.unlink(self._path(key))

    def _path(self, key: str) -> Path:
        if not _is_key(key):
            raise ValueError(f"not an object key: {key!r}")
        return self._root / key
