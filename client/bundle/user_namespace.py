"""The ids that a container has which an ordinary user starts."""

import os
import pwd
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from client.bundle.errors import BundleRefused


@dataclass(frozen=True, slots=True)
class IdMapping:
    """`size` ids of the container from `container` on are those of the host from `host` on."""

    container: int
    host: int
    size: int


@dataclass(frozen=True, slots=True)
class UserNamespace:
    """Which ids of the container are which of the host; 0 is the caller."""

    uids: tuple[IdMapping, ...]
    gids: tuple[IdMapping, ...]

    @classmethod
    def of_caller(cls) -> "UserNamespace":
        """Return the one that needs nobody's leave: 0 is the caller and there is no other id."""
        return cls((IdMapping(0, os.geteuid(), 1),), (IdMapping(0, os.getegid(), 1),))

    @classmethod
    def of_subordinates(
        cls, uids: Path = Path("/etc/subuid"), gids: Path = Path("/etc/subgid")
    ) -> "UserNamespace":
        """Return the caller's ids and, from 1 on, the subordinate ones. Source: subuid(5), newuidmap(1)."""
        caller = cls.of_caller()
        if shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
            return caller
        return cls(_widened(caller.uids, uids), _widened(caller.gids, gids))

    def has(self, uid: int, gid: int) -> bool:
        return _has(self.uids, uid) and _has(self.gids, gid)


def wide_enough(namespace: UserNamespace, uid: int, gid: int) -> UserNamespace:
    """Return the namespace, or one with the caller's subordinate ids, that has both. Raises BundleRefused."""
    candidates = [namespace]
    if namespace == UserNamespace.of_caller():
        candidates.append(UserNamespace.of_subordinates())
    for candidate in candidates:
        if candidate.has(uid, gid):
            return candidate
    raise BundleRefused(
        f"the image runs as {uid}:{gid}, and an ordinary user has no such ids to give: make the bundle as "
        "root, use --user 0, or have subordinate ids set up in /etc/subuid and /etc/subgid"
    )


def _has(mappings: Iterable[IdMapping], id_: int) -> bool:
    return any(mapping.container <= id_ < mapping.container + mapping.size for mapping in mappings)


def _widened(mappings: Sequence[IdMapping], table: Path) -> tuple[IdMapping, ...]:
    found = list(mappings)
    free = 1
    for start, size in _ranges(table):
        found.append(IdMapping(free, start, size))
        free += size
    return tuple(found)


def _ranges(table: Path) -> list[tuple[int, int]]:
    names = {str(os.geteuid())}
    with suppress(KeyError):
        names.add(pwd.getpwuid(os.geteuid()).pw_name)
    try:
        lines = table.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    fields = (line.strip().split(":") for line in lines)
    return [
        (int(field[1]), int(field[2]))
        for field in fields
        if len(field) == 3 and field[0] in names and field[1].isdigit() and field[2].isdigit()
    ]
