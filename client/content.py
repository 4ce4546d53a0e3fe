"""What is uploaded: bytes that can be read again from any place, so that nothing is lost to a retry."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from client.errors import DiskFailed
from client.partial import disk_errors

BLOCK = 1024 * 1024


class Content(Protocol):
    """Readable any number of times, from any offset, with the same bytes each time."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to, not including, `stop`, in pieces of any size."""
        ...


@dataclass(frozen=True, slots=True)
class BytesContent:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        for offset in range(start, stop, BLOCK):
            yield self.data[offset : min(offset + BLOCK, stop)]


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file's bytes. Raises DiskFailed where they cannot be read."""

    path: Path

    @property
    def size(self) -> int:
        with disk_errors(self.path):
            return self.path.stat().st_size

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        with disk_errors(self.path), self.path.open("rb", buffering=0) as file:
            file.seek(start, os.SEEK_SET)
            while start < stop and (block := file.read(min(BLOCK, stop - start))):
                start += len(block)
                yield block
        if start < stop:
            raise DiskFailed(f"{self.path}: it ends at {start}, before {stop}")
