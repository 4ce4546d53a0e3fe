"""What is mounted where, as this process's namespace has it. Source: proc_pid_mountinfo(5)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")

_octal = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    target: bytes
    kind: str
    source: bytes


def mounts(table: Path = MOUNTINFO) -> Iterator[Mount]:
    """Yield the mounts; of several at one place the last is to be seen.

    Raises OSError where the system has no such table.
    """
    # Not splitlines: a carriage return in a path stands there as it is.
    for line in table.read_bytes().split(b"\n")[:-1]:
        before, _, after = line.partition(b" - ")
        target, (kind, source, *_) = before.split(b" ")[4], after.split(b" ")
        yield Mount(_unescaped(target), kind.decode(), _unescaped(source))


def _unescaped(field: bytes) -> bytes:
    return _octal.sub(lambda match: bytes([int(match[1], 8)]), field)
