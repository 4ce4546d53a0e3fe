"""What `ls` shows of an image: entries, and lines of text for them. Nothing here prints."""

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from client.view.entry import Entry
from client.view.view import View


def entries(view: View, path: bytes, *, recursive: bool = False) -> Iterator[Entry]:
    """Yield what is in the directory `path`, with `recursive` all below it; a file yields itself.

    A link to a directory is followed, as `ls PATH/` does.
    """
    found = view.find(path)
    if not found.is_directory:
        yield view.find(path, follow=False)
    elif recursive:
        yield from view.walk(found)
    else:
        yield from view.list(found)


def text(name: bytes) -> str:
    r"""Write a name for a terminal and for one line: `\n`, `\x1b`, `\xff` stand for what could do harm.

    A backslash is `\\`, so two names never read the same.
    """
    decoded = name.decode("utf-8", "surrogateescape")
    if decoded.isprintable() and "\\" not in decoded:
        return decoded
    return "".join(map(_escaped, decoded))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode()


def long_lines(found: Sequence[Entry], below: bytes = b"") -> Iterator[str]:
    """Yield `ls -l --numeric-uid-gid` lines, times in UTC, names from the directory `below` on."""
    rows = [_row(entry) for entry in found]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(len(_row_titles))]
    for entry, row in zip(found, rows, strict=True):
        mode, *numbers, modified = (value.rjust(width) for value, width in zip(row, widths, strict=True))
        yield " ".join([mode, *numbers, modified, _label(entry, below)])


_row_titles = ("mode", "links", "uid", "gid", "size", "modified")


def _row(entry: Entry) -> tuple[str, ...]:
    size = f"{os.major(entry.device)},{os.minor(entry.device)}" if entry.is_device else str(entry.size)
    numbers = str(entry.links), str(entry.uid), str(entry.gid), size
    return stat.filemode(entry.mode), *numbers, modified(entry.mtime)


def modified(mtime: int) -> str:
    """Write nanoseconds since 1970 as a date; as seconds where the calendar ends."""
    try:
        return datetime.fromtimestamp(mtime // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"@{mtime // 10**9}"


def _label(entry: Entry, below: bytes) -> str:
    name = text(relative(entry, below))
    return name if entry.target is None else f"{name} -> {text(entry.target)}"


def relative(entry: Entry, below: bytes) -> bytes:
    """Return the entry's path from the directory `below` on; its own name where it is that itself."""
    prefix = below + b"/" if below else b""
    return entry.path[len(prefix) :] if entry.path.startswith(prefix) else entry.name
