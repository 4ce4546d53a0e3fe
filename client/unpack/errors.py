"""Why a layer was not unpacked. Whatever the reason, the target is incomplete and must not be shown."""

import errno
from typing import Self


def printable(name: bytes) -> str:
    """Quote a name from a layer for a person: control characters, bad UTF-8 and very long names are safe."""
    if len(name) > 200:
        return printable(name[:120]) + "…" + printable(name[-60:])
    return repr(name.decode("utf-8", "surrogateescape"))


class UnpackError(Exception):
    """The layer was not unpacked; `entry` is the name it failed at, as the layer has it."""

    def __init__(self, message: str, entry: bytes | None = None) -> None:
        super().__init__(message if entry is None else f"{message}: {printable(entry)}")
        self.message = message
        self.entry = entry

    def at(self, entry: bytes) -> Self:
        """Return this error with the name of the entry, if it has none."""
        return self if self.entry is not None else type(self)(self.message, entry)


class Malformed(UnpackError):
    """Bytes that are no valid archive or compression of one, or that programs would read differently."""


class Unsafe(UnpackError):
    """An entry that reaches out of the tree, or at the tree's own root."""


class LimitExceeded(UnpackError):
    """A layer beyond one of the limits; the message names which (UNP-07)."""


class Unsupported(UnpackError):
    """What may be valid and is not unpacked: an entry type, a compression, an owner out of range."""


class LinkTargetMissing(UnpackError):
    """A hard link to what is not in the layer; with the lower layers in `Options.lowers` it may succeed."""


class VerificationFailed(UnpackError):
    """The bytes are not those of the diffID. Nothing of the layer may be used."""


class NoSpace(UnpackError):
    """The disk or the quota is full."""


class StorageFailed(UnpackError):
    """The target's file system refused: the message has its reason."""


class StreamFailed(UnpackError):
    """The layer's own stream failed with an OSError; other errors of a stream are passed on as they are."""


_FULL = (errno.ENOSPC, errno.EDQUOT)


def storage_error(error: OSError, entry: bytes | None) -> UnpackError:
    """Return ours for what the target's file system said."""
    if error.errno in _FULL:
        return NoSpace("the disk is full", entry)
    return StorageFailed(f"the file system refuses: {error.strerror or error}", entry)
