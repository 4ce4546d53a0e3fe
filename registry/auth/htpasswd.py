"""An htpasswd file as a list of users: read again when it changes, kept as it was when it breaks (TOK-05).

Source: Apache's htpasswd(1), of whose hashes only bcrypt is taken.
"""

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.auth import names, passwords
from registry.auth.passwords import HashUnusable

log = logging.getLogger(__name__)

_FILE_LIMIT = 8 * 1024 * 1024
_MOST_FAULTS = 10
# Longer than any line of a name and a bcrypt hash.
_LINE_LIMIT = 300

_State = tuple[int, int, int, int]


class HtpasswdInvalid(ValueError):
    """A file that is not taken; the message has the numbers of its bad lines, and never what is in them."""


def parse(text: str) -> dict[str, str]:
    """Read bcrypt hashes by user name. Raises HtpasswdInvalid, which tells the first ten bad lines."""
    users: dict[str, str] = {}
    faults: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        fault = _add(users, line)
        if fault is not None:
            faults.append(f"line {number}: {fault}")
    if faults:
        more = f"; {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise HtpasswdInvalid("; ".join(faults[:_MOST_FAULTS]) + more)
    return users


def _add(users: dict[str, str], line: str) -> str | None:
    """Take a line in, or say what is wrong with it."""
    name, colon, stored = line.partition(":")
    if not colon or len(line) > _LINE_LIMIT:
        return "not NAME:HASH"
    if not names.is_name(name):
        return "the name is none that a user may have"
    if name in users:
        return "the name is in the file already"
    try:
        passwords.check_bcrypt(stored)
    except HashUnusable as error:
        return str(error)
    users[name] = stored
    return None


def read(path: Path) -> dict[str, str]:
    """Read a file. Raises HtpasswdInvalid, OSError."""
    with path.open("rb") as file:
        data = file.read(_FILE_LIMIT + 1)
    if len(data) > _FILE_LIMIT:
        raise HtpasswdInvalid(f"more than {_FILE_LIMIT} bytes")
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HtpasswdInvalid(f"line {line}: not UTF-8") from error


@dataclass(frozen=True, slots=True)
class _Users:
    """What the file says at one time; replaced as a whole."""

    hashes: Mapping[str, str]
    bcrypt_cost: int | None


class Htpasswd:
    """The users of one file. `is_changed` is cheap; `reload` reads and belongs on a thread."""

    def __init__(self, path: Path) -> None:
        """Raises HtpasswdInvalid, OSError: a registry does not start with a broken list."""
        self._path = path
        self._seen = self._look()
        self._users = _users(read(path))
        self.generation = 0

    def find(self, name: str) -> str | None:
        """Return a user's hash."""
        return self._users.hashes.get(name)

    def names(self) -> list[str]:
        return sorted(self._users.hashes)

    @property
    def bcrypt_cost(self) -> int | None:
        """The cost that most hashes have, None for an empty file."""
        return self._users.bcrypt_cost

    def is_changed(self) -> bool:
        """Say whether another file, or another content, is at the path now, behind any symlink."""
        return self._look() != self._seen

    def reload(self) -> None:
        """Read the file again; a broken or missing one changes nothing but the log."""
        # Looked at before it is read: what is written in between is read the next time.
        self._seen = self._look()
        try:
            users = _users(read(self._path))
        except (HtpasswdInvalid, OSError) as error:
            log.warning(
                "htpasswd file not usable, the old users stay",
                extra={"file": str(self._path), "reason": str(error)},
            )
            return
        self._users = users
        self.generation += 1
        log.info("htpasswd file read again", extra={"file": str(self._path), "users": len(users.hashes)})

    def _look(self) -> _State | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _users(hashes: Mapping[str, str]) -> _Users:
    costs = Counter(passwords.check_bcrypt(stored) for stored in hashes.values())
    return _Users(hashes, costs.most_common(1)[0][0] if costs else None)
