"""The audit log: who did what, from where, and what was decided; a JSON line each, before the answer.

Everything that decides may record: `audit.record(Event(...))`. A line holds names and decisions, never what
somebody proved them with (OPS-02).
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)

_FILE_MODE = 0o600


class Outcome(Enum):
    """What came of it: done, refused to this principal, or failed for another reason."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that somebody did, or tried.

    `action` is a noun and a verb, as in `manifest.push` or `user.add`; `principal` is as in rows and logs,
    empty for anonymous; `client` is an address, `local` for who works on the registry's own machine.
    """

    action: str
    outcome: Outcome
    principal: str = ""
    client: str = "-"
    details: Mapping[str, object] = field(default_factory=dict)

    def fields(self) -> dict[str, object]:
        """Return what a line holds, besides its time."""
        own = {
            "audit": self.action,
            "outcome": self.outcome.value,
            "user": self.principal,
            "client": self.client,
        }
        return own | {key: value for key, value in self.details.items() if key not in own}


class Audit(Protocol):
    """Where events go. Any thread may record."""

    def record(self, event: Event) -> None:
        """Write an event down; when this returns the kernel has it."""
        ...

    def close(self) -> None: ...


def open_audit(setting: str) -> Audit:
    """Return the log that the setting `audit_log` names. Raises OSError for a file that cannot be had."""
    match setting:
        case "off":
            return Off()
        case "stdout":
            return AuditStream()
        case _:
            return AuditFile(Path(setting))


class Off:
    """No audit log."""

    def record(self, event: Event) -> None: ...

    def close(self) -> None: ...


class AuditStream:
    """Writes to standard output, between the lines of the access log."""

    def record(self, event: Event) -> None:
        sys.stdout.write(_line(event))
        sys.stdout.flush()

    def close(self) -> None: ...


class AuditFile:
    """Appends to a file; several processes may share it, and who rotates it needs to tell nobody.

    A line that cannot be written, on a full disk, goes to the log of events: a delete that would make room
    is not refused for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file = self._open()

    def record(self, event: Event) -> None:
        line = _line(event).encode("ascii")
        try:
            with self._lock:
                self._follow()
                # One call, so that lines of several processes never mix.
                written = os.write(self._file, line)
        except OSError as error:
            log.error("audit log cannot be written", extra={"reason": error.strerror, **event.fields()})
            return
        if written < len(line):
            log.error("audit log was cut", extra={"reason": "no room", **event.fields()})

    def close(self) -> None:
        os.close(self._file)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._path, flags, _FILE_MODE)

    def _follow(self) -> None:
        """Open the file anew when it was renamed or removed."""
        if not self._is_there():
            renewed = self._open()
            os.close(self._file)
            self._file = renewed

    def _is_there(self) -> bool:
        ours = os.fstat(self._file)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (ours.st_ino, ours.st_dev) == (there.st_ino, there.st_dev)


def _line(event: Event) -> str:
    now = time.time()
    at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}Z"
    # ASCII with control characters escaped: a name can never forge a line (OPS-03).
    return json.dumps({"time": at} | event.fields(), separators=(",", ":"), default=str) + "\n"
