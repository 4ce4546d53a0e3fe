"""Names in layers, read as text only: what is below the root, what is a whiteout."""

import enum

from client.unpack.errors import LimitExceeded, Malformed, Unsafe
from client.unpack.limits import COMPONENT, PATH

_NONE, _CURRENT, _PARENT = b"", b".", b".."
NOT_NAMES = frozenset((_NONE, _CURRENT, _PARENT))

WHITEOUT = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"


def split(name: bytes, depth: int) -> tuple[bytes, bytes]:
    """Return the directory and the last name that `name` means below the root: "/a/../b//x/" is b"b", b"x".

    `..` is taken back as text before any link is looked at, as all Go runtimes do; the root is b"", b"".
    Raises Unsafe for a name above the root, Malformed for none, LimitExceeded.
    """
    if not name:
        raise Malformed("an entry without a name", name)
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == _PARENT:
            if not parts:
                raise Unsafe("a name that leaves the root", name)
            parts.pop()
        elif part not in NOT_NAMES:
            if len(part) > COMPONENT:
                raise LimitExceeded(f"a name of more than {COMPONENT} bytes", name)
            parts.append(part)
    if len(parts) > depth:
        raise LimitExceeded(f"a path of more than {depth} directories", name)
    base = parts.pop() if parts else b""
    return b"/".join(parts), base


def join(directory: bytes, base: bytes) -> bytes:
    """Return the path of `base`. Raises LimitExceeded for one that the kernel would not take."""
    path = directory + b"/" + base if directory else base
    if len(path) > PATH:
        raise LimitExceeded(f"a path of more than {PATH} bytes", path)
    return path


class Mark(enum.Enum):
    """What a name says about lower layers. Source: image-spec layer.md, "Whiteouts"."""

    NONE = enum.auto()
    WHITEOUT = enum.auto()
    OPAQUE = enum.auto()
    META = enum.auto()
    """The bookkeeping of AUFS, at the root as moby has it, which is skipped."""


def mark(directory: bytes, base: bytes, name: bytes) -> Mark:
    """Raises Unsafe for a whiteout of nothing, `.` or `..`."""
    if directory.startswith(_META):
        return Mark.META
    if not base.startswith(WHITEOUT):
        return Mark.NONE
    if base == _OPAQUE:
        return Mark.OPAQUE
    if base.startswith(_META):
        return Mark.META
    if base[len(WHITEOUT) :] in NOT_NAMES:
        raise Unsafe("a whiteout that names no file", name)
    return Mark.WHITEOUT
