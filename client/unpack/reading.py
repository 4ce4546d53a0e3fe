"""Read a file of an unpacked tree for our own use, such as etc/passwd: it may be anything."""

import errno
import os
import stat
from pathlib import Path

from client.unpack import names
from client.unpack.errors import LimitExceeded, Malformed, Unsafe, storage_error
from client.unpack.limits import LINKS, MIB, Limits
from client.unpack.paths import Missing, Place, Tree

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A fifo would keep an open waiting for its writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def read_file(root: Path, path: bytes, limit: int = MIB) -> bytes | None:
    """Return the content of a regular file, links followed inside `root`; None where there is none (UNP-11).

    Raises Malformed for anything else, LimitExceeded for one of more than `limit` bytes, and Unsafe.
    """
    try:
        top = os.open(root, _ROOT)
        try:
            return _read(Tree(top, overlay=False), path, limit)
        finally:
            os.close(top)
    except (Missing, FileNotFoundError):
        return None
    except OSError as error:
        raise storage_error(error, path) from error


def _read(tree: Tree, path: bytes, limit: int) -> bytes:
    directory, base = names.split(path, Limits().depth)
    for _ in range(LINKS + 1):
        if base in names.NOT_NAMES:
            raise Malformed("no regular file", path)
        place = tree.enter(directory)
        try:
            target = _link(place, base)
            if target is None:
                return _content(place, base, path, limit)
        finally:
            os.close(place.fd)
        # Joined, not cleaned: `..` behind a link means the parent of where the link leads.
        if not target.startswith(b"/"):
            target = place.path + b"/" + target
        directory, _, base = target.rpartition(b"/")
    raise Unsafe(f"more than {LINKS} links on the way", path)


def _link(place: Place, base: bytes) -> bytes | None:
    """Return where the link leads, None for what is no link."""
    try:
        return os.readlink(base, dir_fd=place.fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None


def _content(place: Place, base: bytes, path: bytes, limit: int) -> bytes:
    fd = os.open(base, _READ, dir_fd=place.fd)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Malformed("no regular file", path)
        data = bytearray()
        while piece := os.read(fd, limit + 1 - len(data)):
            data += piece
            if len(data) > limit:
                raise LimitExceeded(f"a file of more than {limit} bytes", path)
        return bytes(data)
    finally:
        os.close(fd)
