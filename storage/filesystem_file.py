"""Committed bytes, open: the BlobFile of the filesystem."""

import os
from pathlib import Path
from typing import Self

from storage.durable import FileSystem, media_errors, regular_size
from storage.oci.errors import BlobRangeInvalid, BlobUnknown, Unavailable


class FilesystemFile:
    """Reads from `start` up to `stop`. A file that was cut short is an error, never an end (INV-04)."""

    def __init__(self, disk: FileSystem, fd: int, start: int, stop: int) -> None:
        self._disk = disk
        self._fd = fd
        self._start = self._position = start
        self._stop = stop

    @classmethod
    def open(cls, disk: FileSystem, path: Path, start: int, stop: int | None) -> Self:
        """Open a file. Raises BlobUnknown, and BlobRangeInvalid when it does not reach that far."""
        with media_errors(BlobUnknown("the stored bytes are gone")):
            fd = disk.open(path, os.O_RDONLY)
            try:
                size = regular_size(disk.status(fd))
                stop = size if stop is None else stop
                if not 0 <= start <= stop <= size:
                    raise BlobRangeInvalid("the stored bytes do not reach that far", size=size)
            except BaseException:
                os.close(fd)
                raise
        return cls(disk, fd, start, stop)

    def read(self, size: int, /) -> bytes:
        left = self._stop - self._position
        size = left if size < 0 else min(size, left)
        with media_errors():
            block = self._disk.read(self.fileno(), size, self._position)
        if size and not block:
            raise Unavailable("the stored blob is shorter than it was")
        self._position += len(block)
        return block

    def seek(self, offset: int, /) -> int:
        if not self._start <= offset <= self._stop:
            raise ValueError(f"not within the opened bytes: {offset}")
        self._position = offset
        return offset

    def fileno(self) -> int:
        if self._fd < 0:
            raise ValueError("the blob was closed")
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # A cancelled request never sees the file that its thread opened; nobody else would close it.
    __del__ = close
