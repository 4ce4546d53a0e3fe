"""What the layers below have, for the few things a layer in overlay form cannot say alone."""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from client.unpack.errors import Unsupported, storage_error
from client.unpack.paths import is_whiteout, open_directory

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY = 1 << 30


class Found(NamedTuple):
    """The entry `name` of the open directory; whoever gets it closes that."""

    directory: int
    name: bytes
    status: os.stat_result


def find(layers: Sequence[Path], path: bytes) -> Found | None:
    """Find `path` in the uppermost of the layers that has it, as overlayfs would; no link is followed."""
    for layer in layers:
        fd = os.open(layer, _LIST)
        try:
            found, last = _look(fd, path)
        except BaseException:
            os.close(fd)
            raise
        if found is not None or last:
            return found
    return None


def _look(fd: int, path: bytes) -> tuple[Found | None, bool]:
    """Look in one layer, whose descriptor is used up; the flag says that lower ones are hidden."""
    *way, name = path.split(b"/")
    hidden = False
    for part in way:
        try:
            inner = os.open(part, _LIST, dir_fd=fd)
        except FileNotFoundError:
            os.close(fd)
            return None, hidden
        except (NotADirectoryError, PermissionError):
            # What a directory hides from us, who are not root, nobody can tell.
            os.close(fd)
            return None, True
        os.close(fd)
        fd = inner
        hidden = hidden or _is_opaque(fd)
    try:
        status = os.stat(name or b".", dir_fd=fd, follow_symlinks=False)
    except PermissionError:
        os.close(fd)
        return None, True
    except FileNotFoundError:
        os.close(fd)
        return None, hidden
    if is_whiteout(status):
        os.close(fd)
        return None, True
    return Found(fd, name or b".", status), True


def _is_opaque(fd: int) -> bool:
    for namespace in ("trusted", "user"):
        with suppress(OSError):
            return os.getxattr(fd, f"{namespace}.overlay.opaque") == b"y"
    return False


def copy(found: Found, directory: int, name: bytes) -> None:
    """Copy a file or link with all its attributes to a new `name`. Raises Unsupported for other kinds."""
    status = found.status
    if stat.S_ISREG(status.st_mode):
        source = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found.directory)
        try:
            target = os.open(name, _NEW, 0o600, dir_fd=directory)
            try:
                while os.sendfile(target, source, None, _COPY):
                    pass
                _copy_attributes(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(found.name, dir_fd=found.directory), name, dir_fd=directory)
        if not _is_owned(status, os.stat(name, dir_fd=directory, follow_symlinks=False)):
            os.chown(name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
        times = status.st_atime_ns, status.st_mtime_ns
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
    else:
        raise Unsupported("a hard link to what is neither a file nor a link of a lower layer", name)


def _is_owned(source: os.stat_result, target: os.stat_result) -> bool:
    return (source.st_uid, source.st_gid) == (target.st_uid, target.st_gid)


def _copy_attributes(source: int, fd: int) -> None:
    status = os.fstat(source)
    if not _is_owned(status, os.fstat(fd)):
        os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if "overlay." not in name:
            os.setxattr(fd, name, os.getxattr(source, name))
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def inherit_directories(layer: Path, layers: Sequence[Path], implied: Iterable[bytes]) -> None:
    """Give the layer's implied directories the attributes they have in the layers below, uppermost first.

    Overlayfs shows the upper layer's; without this, a layer that brings tmp/x and does not describe tmp would
    make /tmp root's and 0755. Directories that are new stay as they are. Raises StorageFailed and NoSpace.
    """
    try:
        root = os.open(layer, _LIST)
        try:
            for path in sorted(implied, reverse=True):
                _inherit(root, layers, path)
        finally:
            os.close(root)
    except OSError as error:
        raise storage_error(error, None) from error


def _inherit(root: int, layers: Sequence[Path], path: bytes) -> None:
    found = find(layers, path)
    if found is None:
        return
    try:
        if not stat.S_ISDIR(found.status.st_mode):
            return
        target = open_directory(root, path)
        try:
            _copy_directory(found, target)
        finally:
            os.close(target)
    finally:
        os.close(found.directory)


def _copy_directory(found: Found, fd: int) -> None:
    try:
        source = os.open(found.name, _LIST, dir_fd=found.directory)
    except PermissionError:
        # Closed to us, who are not root; its extended attributes are too.
        os.fchmod(fd, stat.S_IMODE(found.status.st_mode))
        os.utime(fd, ns=(found.status.st_atime_ns, found.status.st_mtime_ns))
        return
    try:
        _copy_attributes(source, fd)
    finally:
        os.close(source)
