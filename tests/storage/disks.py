"""File systems that count, fail or forget: stand-ins for `storage.durable.FileSystem`."""

import errno
import os
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storage.durable import FileSystem

SECTOR = 512


class Unsynced(FileSystem):
    """Skips the real fsync, which a test on an image or with a fault has no use for."""

    def sync(self, fd: int) -> None:
        os.fstat(fd)


class Recording(Unsynced):
    """Notes what is done, in order: (operation, path below the root)."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.calls: list[tuple[str, str]] = []

    def _note(self, operation: str, place: Path | int) -> None:
        path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else place
        self.calls.append((operation, os.path.relpath(path, self.root)))

    def count(self, operation: str) -> int:
        return sum(call[0] == operation for call in self.calls)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self._note("read", fd)
        return super().read(fd, size, offset)

    def read_into(self, fd: int, buffer: bytearray, offset: int) -> int:
        self._note("read", fd)
        return super().read_into(fd, buffer, offset)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        self._note("write", fd)
        return super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._note("sync", fd)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._note("rename", target)

    def make_directory(self, path: Path) -> None:
        super().make_directory(path)
        self._note("make_directory", path)


class FailNth(Unsynced):
    """Fails the nth call of one operation, or that and all after it until `heal` (TEST-01)."""

    OPERATIONS = tuple(name for name in vars(FileSystem) if not name.startswith("_"))

    def __init__(self, operation: str, nth: int, error: int, *, lasting: bool = False) -> None:
        self.fired = False
        self._operation = operation
        self._left = nth
        self._error = error
        self._lasting = lasting

    def heal(self) -> None:
        self._operation = ""

    def _strike(self) -> None:
        self._left -= 1
        if self._left == 0 or (self._left < 0 and self._lasting):
            self.fired = True
            raise OSError(self._error, os.strerror(self._error))

    def __getattribute__(self, name: str) -> Any:
        if name in FailNth.OPERATIONS and name == self._operation:
            self._strike()
        return object.__getattribute__(self, name)


class ShortWrites(Unsynced):
    """Writes at most `most` bytes a call, as a signal or a full disk makes the kernel do."""

    def __init__(self, most: int) -> None:
        self.most = most

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        return super().write(fd, data[: self.most], offset)


@dataclass(frozen=True, slots=True)
class _Change:
    """One thing the disk may or may not have done yet: to a file's bytes, or to a name in a directory."""

    of: int | str  # the file's number, or the directory
    offset: int = 0
    data: bytes | None = None  # None: cut at `offset`
    name: str = ""
    target: int | str | None = None  # a file, the path of a directory, or None: the name goes

    def torn(self, chance: random.Random) -> list["_Change"]:
        """Return the sectors of a write that made it; some did not."""
        assert self.data is not None
        starts = range(0, len(self.data), SECTOR)
        kept = [start for start in starts if chance.random() < 0.5]
        return [
            replace(self, offset=self.offset + start, data=self.data[start : start + SECTOR])
            for start in kept
        ]


class SimFS(FileSystem):
    """Works on a real directory and knows what of it a power loss may forget (TEST-02).

    Nothing is kept but what was fsynced: bytes of a file by its own fsync, names by their directory's. A
    rename is two changes, of which either may be lost: harsher than any journalling file system.
    `on_operation` is called before each operation, so that a test can look at the images of that moment.
    With `loses_at` that fsync fails once. Bytes that it should have written never get to the disk, though
    reads show them and the next fsync of the file succeeds: what Linux does (CRASH-10). Names stay pending,
    for a file system that loses those stops with its journal.
    """

    def __init__(self, root: Path, *, forgets: Collection[str] = (), loses_at: int = 0) -> None:
        self.root = root.resolve()
        self.on_operation: Callable[[], None] = lambda: None
        self.syncs = 0
        self._forgets = forgets  # kinds of fsync that do nothing: "file", "directory"
        self._loses_at = loses_at
        self._pending: list[_Change] = []
        # What is durable, by file number and by directory.
        self._bytes: dict[int, bytearray] = {}
        self._names: dict[str, dict[str, int | str]] = {".": {}}
        # What the running program sees.
        self._files: dict[str, int] = {}
        self._open: dict[int, int | str] = {}

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self.root)

    def open(self, path: Path, flags: int) -> int:
        self.on_operation()
        fd = super().open(path, flags)
        name = self._relative(path)
        if flags & os.O_DIRECTORY:
            self._open[fd] = name
            return fd
        if flags & os.O_CREAT:
            file = self._files[name] = len(self._bytes)
            self._bytes[file] = bytearray()
            self._entry(name, file)
        self._open[fd] = self._files[name]
        return fd

    def _entry(self, name: str, target: int | str | None) -> None:
        directory, _, last = f"./{name}".rpartition("/")
        self._pending.append(_Change(os.path.normpath(directory), name=last, target=target))

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        self.on_operation()
        file = self._open[fd]
        assert isinstance(file, int)
        self._pending.append(_Change(file, offset=offset, data=bytes(data)))
        return super().write(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        self.on_operation()
        file = self._open[fd]
        assert isinstance(file, int)
        self._pending.append(_Change(file, offset=size))
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self.on_operation()
        synced = self._open[fd]
        if ("file" if isinstance(synced, int) else "directory") in self._forgets:
            return
        self.syncs += 1
        fails = self.syncs == self._loses_at
        if not fails:
            _apply([change for change in self._pending if change.of == synced], self._bytes, self._names)
        if not fails or isinstance(synced, int):
            self._pending = [change for change in self._pending if change.of != synced]
        if fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def rename(self, source: Path, target: Path) -> None:
        self.on_operation()
        super().rename(source, target)
        old, new = self._relative(source), self._relative(target)
        self._files[new] = self._files.pop(old)
        self._entry(new, self._files[new])
        self._entry(old, None)

    def unlink(self, path: Path) -> None:
        self.on_operation()
        super().unlink(path)
        self._files.pop(self._relative(path))
        self._entry(self._relative(path), None)

    def make_directory(self, path: Path) -> None:
        self.on_operation()
        super().make_directory(path)
        name = self._relative(path)
        if name != ".":
            self._names[name] = {}
            self._entry(name, name)

    def images(self, chance: random.Random) -> Iterator[list[_Change]]:
        """Yield what of the pending changes a power loss now may have left."""
        pending = list(self._pending)
        yield []
        yield pending
        for index in range(len(pending)):
            yield pending[:index] + pending[index + 1 :]
        for _ in range(4):
            yield [change for change in pending if chance.random() < 0.5]
        for index, change in enumerate(pending):
            if change.data:
                yield pending[:index] + change.torn(chance) + pending[index + 1 :]

    def write_image(self, kept: list[_Change], root: Path) -> None:
        """Make `root` what a machine finds that lost its power when only `kept` had been done."""
        content = {file: bytearray(data) for file, data in self._bytes.items()}
        names = {directory: dict(entries) for directory, entries in self._names.items()}
        _apply(kept, content, names)
        made: dict[int, Path] = {}

        def fill(directory: str, path: Path) -> None:
            path.mkdir()
            for name, target in names[directory].items():
                if isinstance(target, str):
                    fill(target, path / name)
                elif target in made:
                    os.link(made[target], path / name)
                else:
                    made[target] = path / name
                    made[target].write_bytes(content[target])

        fill(".", root)


def _apply(
    changes: list[_Change], content: dict[int, bytearray], names: dict[str, dict[str, int | str]]
) -> None:
    for change in changes:
        if isinstance(change.of, str):
            entries = names[change.of]
            if change.target is None:
                entries.pop(change.name, None)
            else:
                entries[change.name] = change.target
            continue
        data = content[change.of]
        if change.data is None:
            del data[change.offset :]
        data.extend(bytes(max(0, change.offset - len(data))))
        if change.data is not None:
            data[change.offset : change.offset + len(change.data)] = change.data
