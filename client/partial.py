"""Blobs that are not whole yet, as files: what a process leaves, the next one goes on with.

For each blob there are `<algorithm>-<hex>.part`, a sparse file on which its fetcher holds an flock, and a
`.json` beside it, which says which bytes of it are there.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

from client.errors import DiskFailed
from client.ranges import Ranges
from storage import durable
from storage.durable import FileSystem
from storage.oci.descriptor import Descriptor
from storage.oci.errors import InsufficientStorage, RegistryError

# The map is written so often that a kill loses little of a blob, and so rarely that it costs little: 0.1 ms.
_LEAST_RECORD = 1024 * 1024
_RECORDS = 500
# After a power loss only what was synced counts; syncing more often would slow every transfer down.
_SYNC_BYTES = 256 * 1024 * 1024


class Sink(Protocol):
    """Takes the bytes of one blob, at any offset, from several threads; nobody else writes it."""

    def present(self) -> Ranges:
        """Return which bytes are there already. Nobody has checked them."""
        ...

    def write(self, offset: int, data: bytes) -> None: ...

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes that were written, to hash them."""
        ...

    def discard(self) -> None:
        """Forget all bytes: they are wrong."""
        ...

    def commit(self) -> None:
        """Publish the blob: its bytes are whole and have the digest."""
        ...


class Sinks(Protocol):
    """Places for blobs."""

    def open(self, blob: Descriptor, wait: Callable[[], None]) -> AbstractContextManager[Sink | None]:
        """Take the right to write a blob, or None when it is there.

        While another process has it `wait` is called between tries, and may raise.
        """
        ...


class PartialFile:
    """The sink of one blob, whose lock is held."""

    def __init__(self, fd: int, part: Path, target: Path, size: int, disk: FileSystem) -> None:
        self._disk = disk
        self._fd = fd
        self._part = part
        self._map = part.with_suffix(".json")
        self._target = target
        self._size = size
        self._lock = threading.Lock()
        self._done, self._synced = self._load()
        self._unrecorded = 0
        self._unsynced = 0
        self._record_bytes = max(_LEAST_RECORD, size // _RECORDS)

    def present(self) -> Ranges:
        with self._lock:
            return self._done.copy()

    def write(self, offset: int, data: bytes) -> None:
        with disk_errors(self._part):
            durable.write_all(self._fd, memoryview(data), offset, self._disk)
            with self._lock:
                self._done.add(offset, offset + len(data))
                self._unrecorded += len(data)
                self._unsynced += len(data)
                if self._unrecorded >= self._record_bytes:
                    self._record(sync=self._unsynced >= _SYNC_BYTES)

    def read(self, offset: int, size: int) -> bytes:
        with disk_errors(self._part):
            return self._disk.read(self._fd, size, offset)

    def discard(self) -> None:
        with disk_errors(self._part), self._lock:
            self._done, self._synced = Ranges(), Ranges()
            self._record(sync=False)
            self._disk.truncate(self._fd, 0)

    def commit(self) -> None:
        with disk_errors(self._part):
            self._disk.truncate(self._fd, self._size)
            self._disk.sync(self._fd)
            self._target.parent.mkdir(parents=True, exist_ok=True)
            durable.publish(self._part, self._target, self._disk)
            self._map.unlink(missing_ok=True)
        # The names are free for another process now.
        self._unrecorded = self._unsynced = 0

    def keep(self) -> None:
        """Leave what is there to the next process, also across a power loss."""
        with disk_errors(self._part), self._lock:
            if self._unrecorded or self._unsynced:
                self._record(sync=True)

    def _record(self, *, sync: bool) -> None:
        if sync:
            done = self._done.copy()
            self._disk.sync(self._fd)
            self._synced, self._unsynced = done, 0
        document = {
            "size": self._size,
            "boot": boot_id(),
            "done": list(self._done),
            "synced": list(self._synced),
        }
        # No fsync: a kill does not take away what was written, and after a power loss an old map will do.
        temporary = self._map.with_suffix(".tmp")
        fd = self._disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            durable.write_all(fd, memoryview(json.dumps(document).encode()), 0, self._disk)
        finally:
            os.close(fd)
        self._disk.rename(temporary, self._map)
        self._unrecorded = 0

    def _load(self) -> tuple[Ranges, Ranges]:
        """Read the map; what is damaged, or says more than the file has, counts for nothing."""
        try:
            document = json.loads(self._map.read_bytes())
            synced = self._ranges(document["synced"])
            done = self._ranges(document["done"]) if boot_id() and document["boot"] == boot_id() else synced
            is_ours = document["size"] == self._size
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return Ranges(), Ranges()
        return (done.copy(), synced.copy()) if is_ours else (Ranges(), Ranges())

    def _ranges(self, pairs: object) -> Ranges:
        stop = min(self._size, self._disk.status(self._fd).st_size)
        found = Ranges((int(first), int(last)) for first, last in pairs)  # type: ignore[attr-defined]
        return Ranges((max(first, 0), min(last, stop)) for first, last in found)


class PartialFiles:
    """Keeps unfinished blobs in one directory and publishes them below another, by `<algorithm>/<hex>`.

    Both are on one file system, whose free space is looked at before anything is fetched.
    """

    def __init__(self, partial: Path, blobs: Path, disk: FileSystem = durable.DISK) -> None:
        self._partial = partial
        self._blobs = blobs
        self._disk = disk

    @contextmanager
    def open(self, blob: Descriptor, wait: Callable[[], None]) -> Iterator[Sink | None]:
        target = self._blobs / blob.digest.algorithm / blob.digest.hex
        part = self._partial / f"{blob.digest.algorithm}-{blob.digest.hex}.part"
        with disk_errors(part):
            self._partial.mkdir(parents=True, exist_ok=True)
        fd = None
        while fd is None and not target.exists():
            with disk_errors(part):
                fd = _try_lock(part, self._disk)
            if fd is None:
                wait()
        if fd is None:
            yield None
            return
        try:
            if target.exists():
                # Published between our look and our lock; what we locked is a new, empty file.
                part.unlink()
                part.with_suffix(".json").unlink(missing_ok=True)
                yield None
                return
            sink = PartialFile(fd, part, target, blob.size, self._disk)
            self._check_space(blob.size - sink.present().total)
            try:
                yield sink
            finally:
                if part.exists():
                    sink.keep()
        finally:
            os.close(fd)

    def _check_space(self, wanted: int) -> None:
        with disk_errors(self._partial):
            free = self._disk.free_bytes(self._partial)
        if free < wanted:
            raise InsufficientStorage(
                f"{self._partial}: {wanted} bytes are still to come, and {free} are free", free=free
            )


def _try_lock(path: Path, disk: FileSystem) -> int | None:
    """Open and lock a file, None when another has it; the lock is on the file that has the name now."""
    fd = disk.open(path, os.O_RDWR | os.O_CREAT)
    try:
        disk.lock(fd)
        if disk.status(fd).st_ino == disk.find(path).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


@cache
def boot_id() -> str:
    """Name this run of the machine, if it has a name: what was written during it is there without a sync."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> RegistryError:
    ours = durable.media_error(error)
    if isinstance(ours, InsufficientStorage):
        return InsufficientStorage(f"{path.parent}: no space is left")
    return DiskFailed(f"{path}: {error.strerror or error}")
