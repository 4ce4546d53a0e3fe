"""Writing a tar archive whose bytes depend on nothing but its content."""

import os
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from client.partial import disk_errors
from storage import durable

_BLOCK = 512
# The octal field of a ustar header; beyond it GNU's binary form, which all readers know.
_LARGEST_USTAR = 8 * 1024**3 - 1


class TarWriter:
    """Writes members one after the other: no times, no owners."""

    def __init__(self, out: BinaryIO, name: str) -> None:
        self._out = out
        self._path = Path(name)

    def add_directory(self, name: str) -> None:
        header = tarfile.TarInfo(name)
        header.type, header.mode = tarfile.DIRTYPE, 0o755
        self._write(header.tobuf(tarfile.USTAR_FORMAT))

    def add(self, name: str, size: int, data: Iterable[bytes]) -> None:
        """Write a file of exactly `size` bytes."""
        header = tarfile.TarInfo(name)
        header.size = size
        is_large = size > _LARGEST_USTAR
        self._write(header.tobuf(tarfile.GNU_FORMAT if is_large else tarfile.USTAR_FORMAT))
        for block in data:
            self._write(block)
            size -= len(block)
        assert size == 0
        self._write(bytes(-header.size % _BLOCK))

    def close(self) -> None:
        """Write the end of the archive."""
        self._write(bytes(2 * _BLOCK))
        with disk_errors(self._path):
            self._out.flush()

    def _write(self, data: bytes) -> None:
        with disk_errors(self._path):
            self._out.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends well, and is gone otherwise."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with disk_errors(path):
        file = temporary.open("xb")
    try:
        with file:
            yield file
            with disk_errors(path):
                file.flush()
                os.fsync(file.fileno())
        with disk_errors(path):
            durable.publish(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
