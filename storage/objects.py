"""The ObjectStore contract: small named objects beside the blobs (journal, manifests, tails, fills)."""

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from storage.durable import DISK, DurableDirectories, FileSystem, media_errors, regular_size, write_file
from storage.oci.errors import BlobUnknown

_is_key = re.compile(r"[a-z0-9_-][a-z0-9._-]*(?:/[a-z0-9_-][a-z0-9._-]*)*").fullmatch
_is_prefix = re.compile(r"(?:[a-z0-9_-][a-z0-9._-]*/)*(?:[a-z0-9_-][a-z0-9._-]*)?").fullmatch

# No key has a segment that starts with a dot, so this is no object's directory.
_TEMPORARY = ".new"
# A put takes milliseconds. Should a jump of the clock make a live one look old, it fails and is repeated.
_LEFTOVER_SECONDS = 3600


class ObjectStore(Protocol):
    """Whole small objects by key: lower-case letters, digits and `._-`, in segments parted by slashes.

    No segment starts with a dot, and no key is another's first segments. Any other key is a ValueError.
    Raises Unavailable when the medium fails and InsufficientStorage when it is full.
    """

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
        """Drop an object; a crash may bring it back. An absent one is success."""
        ...


class FilesystemObjects:
    """Objects as files below `objects/`."""

    def __init__(self, root: Path, disk: FileSystem = DISK) -> None:
        root = root.resolve()
        self._root = root / "objects"
        self._temporary = self._root / _TEMPORARY
        self._disk = disk
        self._directories = DurableDirectories(root, disk)
        with media_errors():
            self._directories.make(self._temporary)
            self._remove_leftovers()

    def put(self, key: str, data: bytes) -> None:
        target = self._path(key)
        with media_errors():
            try:
                self._directories.make(target.parent)
                write_file(self._temporary / secrets.token_hex(16), target, data, self._disk)
            except OSError:
                self._directories.forget(target.parent)
                raise

    def get(self, key: str) -> bytes:
        with media_errors(BlobUnknown(f"no object {key}")):
            fd = self._disk.open(self._path(key), os.O_RDONLY)
            try:
                return self._disk.read(fd, regular_size(self._disk.status(fd)), 0)
            finally:
                os.close(fd)

    def list(self, prefix: str) -> Iterator[str]:
        if not _is_prefix(prefix):
            raise ValueError(f"not the start of an object key: {prefix!r}")
        parent = prefix.rpartition("/")[0]
        return self._walk(parent + "/" if parent else "", prefix)

    def _walk(self, directory: str, prefix: str) -> Iterator[str]:
        """Name the objects below `directory` (with its slash) in order, holding one directory a level."""
        with media_errors():
            for path in _entries(self._disk, self._root, directory):
                if path.endswith("/") and (path.startswith(prefix) or prefix.startswith(path)):
                    yield from self._walk(path, prefix)
                elif path.startswith(prefix):
                    yield path

    def delete(self, key: str) -> None:
        with media_errors(), suppress(FileNotFoundError, NotADirectoryError):
            self._disk.unlink(self._path(key))

    def _remove_leftovers(self) -> None:
        """Remove what a put left that a crash cut short."""
        oldest = time.time() - _LEFTOVER_SECONDS
        with self._disk.scan(self._temporary) as entries:
            for entry in entries:
                # Another process may be at the same.
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        self._disk.unlink(self._temporary / entry.name)

    def _path(self, key: str) -> Path:
        if not _is_key(key):
            raise ValueError(f"not an object key: {key!r}")
        return self._root / key


def _entries(disk: FileSystem, root: Path, directory: str) -> list[str]:
    """Return the keys in a directory, sorted, and its directories with the slash that sorts them."""
    try:
        with disk.scan(root / directory) as entries:
            found = [
                directory + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                for entry in entries
                if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(path for path in found if _is_key(path.removesuffix("/")))
