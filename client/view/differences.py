"""What differs between two merged trees, in the words of `docker diff`: A, C, D."""

import enum
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from client.unpack.limits import MIB
from client.view.entry import Entry
from client.view.errors import PathClosed
from client.view.view import View


class Action(enum.Enum):
    ADDED = "A"
    CHANGED = "C"
    DELETED = "D"


class Fact(enum.Enum):
    """What of a file changed; times are no change."""

    TYPE = "type"
    CONTENT = "content"
    TARGET = "link"
    DEVICE = "device"
    MODE = "mode"
    OWNER = "owner"
    XATTRS = "xattrs"


@dataclass(frozen=True, slots=True)
class Change:
    path: bytes
    """From the root, without a slash before it."""
    action: Action
    facts: frozenset[Fact] = frozenset()
    """Of a CHANGED one; none for a directory that changed by what is in it alone."""


def diff(old: View, new: View) -> list[Change]:
    """Return what turns `old` into `new`, sorted by the bytes of the paths.

    A deleted directory stands for all in it. A file that its mode closes to us counts as changed when it is
    of another layer, and a directory so closed is not looked into. What both have from the same layer is not
    looked at either: images with a common base are compared by what lies above it.
    """
    differences = _Differences(old, new)
    differences.compare(old.root(), new.root())
    return sorted(differences.changes, key=lambda change: change.path)


class _Differences:
    def __init__(self, old: View, new: View) -> None:
        self._old = old
        self._new = new
        self.changes: list[Change] = []
        # Directories that changed by what is in them, as docker tells of them.
        self._touched: set[bytes] = set()

    def compare(self, before: Entry, after: Entry) -> None:
        """Compare all below two directories, and the directories. No recursion: trees may be deep."""
        todo = [(before, after)]
        told = set()
        while todo:
            before, after = todo.pop()
            facts = self._facts(before, after)
            if facts:
                self._touch(after.path)
                self.changes.append(Change(after.path, Action.CHANGED, facts))
                told.add(after.path)
            if before.is_directory and after.is_directory:
                todo += self._pairs(before, after)
            elif after.is_directory:
                self._add_all(after)
        self.changes += [Change(path, Action.CHANGED) for path in self._touched - told]

    def _pairs(self, before: Entry, after: Entry) -> list[tuple[Entry, Entry]]:
        """Tell what is in one of the directories only; return what is in both and may differ."""
        if before.inodes == after.inodes:
            return []
        try:
            olds = {entry.name: entry for entry in self._old.list(before)}
            news = self._new.list(after)
        except PathClosed:
            self._touched.add(after.path)
            return []
        pairs = []
        for entry in news:
            old = olds.pop(entry.name, None)
            if old is None:
                self._tell(entry.path, Action.ADDED)
                self._add_all(entry)
            elif old.inodes != entry.inodes:
                pairs.append((old, entry))
        for old in olds.values():
            self._tell(old.path, Action.DELETED)
        return pairs

    def _tell(self, path: bytes, action: Action) -> None:
        self._touch(path)
        self.changes.append(Change(path, action))

    def _touch(self, path: bytes) -> None:
        while path:
            path = path.rpartition(b"/")[0]
            if not path or path in self._touched:
                return
            self._touched.add(path)

    def _add_all(self, entry: Entry) -> None:
        if entry.is_directory:
            with suppress(PathClosed):
                for inner in self._new.walk(entry):
                    self.changes.append(Change(inner.path, Action.ADDED))

    def _facts(self, before: Entry, after: Entry) -> frozenset[Fact]:
        return frozenset(_told(before, after)) | frozenset(self._read(before, after))

    def _read(self, before: Entry, after: Entry) -> Iterator[Fact]:
        """Yield what differs and takes a look into the layers."""
        if before.inodes[0] == after.inodes[0]:
            return
        try:
            if self._old.xattrs(before) != self._new.xattrs(after):
                yield Fact.XATTRS
            if before.is_file and after.is_file and not self._has_same_content(before, after):
                yield Fact.CONTENT
        except PathClosed:
            if before.is_file and after.is_file:
                yield Fact.CONTENT

    def _has_same_content(self, before: Entry, after: Entry) -> bool:
        if before.size != after.size:
            return False
        with self._old.open(before) as old, self._new.open(after) as new:
            while piece := old.read(MIB):
                if piece != new.read(MIB):
                    return False
        return True


_TYPE, _PERMISSIONS = 0o170000, 0o7777


def _told(before: Entry, after: Entry) -> Iterator[Fact]:
    """Yield what differs by the entries alone."""
    if before.mode & _TYPE != after.mode & _TYPE:
        yield Fact.TYPE
    elif before.target != after.target:
        yield Fact.TARGET
    elif before.device != after.device:
        yield Fact.DEVICE
    if before.mode & _PERMISSIONS != after.mode & _PERMISSIONS and not (before.is_link or after.is_link):
        yield Fact.MODE
    if (before.uid, before.gid) != (after.uid, after.gid):
        yield Fact.OWNER
