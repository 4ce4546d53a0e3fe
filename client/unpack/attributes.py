"""Owner, mode, extended attributes and times, in the order in which none undoes another (UNP-05).

chown clears set-id bits and capabilities, so it is first; a read-only mode keeps an ordinary user from
`user.*` attributes, so these come before chmod; capabilities are last but for the times.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from client.unpack.errors import Unsupported
from client.unpack.options import IdMap, Options, Ownership

RECORD = "user.containers.override_stat"
_CAPABILITY = "security.capability"
_KEPT = frozenset((_CAPABILITY, "system.posix_acl_access", "system.posix_acl_default"))
# Live, these would let a layer redirect or hide directories of others (TAR-68).
_OVERLAY = ("trusted.overlay.", "user.overlay.")
_OWNERS = 1000
_NOT_ALLOWED = (errno.EPERM, errno.EACCES, errno.ENOTSUP)


class Described(Protocol):
    """What has attributes: an entry, or a directory that waits for the end."""

    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def mtime(self) -> int: ...
    @property
    def atime(self) -> int: ...
    @property
    def xattrs(self) -> Mapping[str, bytes]: ...


class Attributes:
    """Gives files what a layer says of them; `notices` counts what cannot be given.

    `new_owner` is whom files belong to as they are made, None where that is not known.
    """

    def __init__(self, options: Options, new_owner: tuple[int, int] | None) -> None:
        self._options = options
        self.notices: Counter[str] = Counter()
        self.new_owner = new_owner
        self._recorded = options.ownership is Ownership.RECORDED
        # An image has few owners; a hostile one many, so this is emptied.
        self._owners: dict[tuple[int, int], tuple[int, int]] = {}

    def to_open(self, fd: int, described: Described) -> None:
        """Describe an open file or directory."""
        if owner := self._owner(described):
            with _ownership(described, self._options):
                os.fchown(fd, *owner)
        if described.xattrs or self._recorded:
            xattrs = self._kept(described)
            self._set(fd, ((name, value) for name, value in xattrs if name.startswith("user.")))
            os.fchmod(fd, described.mode)
            self._set(fd, ((name, value) for name, value in xattrs if not name.startswith("user.")))
        else:
            os.fchmod(fd, described.mode)
        os.utime(fd, ns=(described.atime, described.mtime))

    def to_name(self, directory: int, name: bytes, described: Described, *, has_mode: bool) -> None:
        """Describe what is not opened: a symbolic link, which has no mode, a device or a fifo (TAR-42)."""
        if owner := self._owner(described):
            with _ownership(described, self._options):
                os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
        if has_mode:
            _chmod(directory, name, described.mode)
        if described.xattrs or self._recorded:
            # There is no setxattrat before Linux 6.13. The way leads through our own descriptor.
            self._set(b"/proc/self/fd/%d/%b" % (directory, name), self._kept(described))
        os.utime(name, ns=(described.atime, described.mtime), dir_fd=directory, follow_symlinks=False)

    def _owner(self, described: Described) -> tuple[int, int] | None:
        """Return the owner to give on this host, None for the one it has. Raises Unsupported (TAR-52)."""
        if self._recorded:
            return None
        ids = described.uid, described.gid
        owner = self._owners.get(ids)
        if owner is None:
            owner = _on_host(ids[0], "uid", self._options.uids), _on_host(ids[1], "gid", self._options.gids)
            if len(self._owners) > _OWNERS:
                self._owners.clear()
            self._owners[ids] = owner
        return None if owner == self.new_owner else owner

    def _kept(self, described: Described) -> list[tuple[str, bytes]]:
        """Return the attributes to set, the capability last; count those left out."""
        kept = []
        for name, value in described.xattrs.items():
            if name.startswith(_OVERLAY) or (self._recorded and name == RECORD):
                self.notices["overlay attribute left out"] += 1
            elif name in _KEPT or name.startswith(("user.", "trusted.")):
                kept.append((name, value))
            else:
                self.notices["security or system attribute left out"] += 1
        if self._recorded and (described.uid, described.gid) != (0, 0):
            kept.append((RECORD, b"%d:%d:0%o" % (described.uid, described.gid, described.mode)))
        kept.sort(key=lambda item: item[0] == _CAPABILITY)
        return kept

    def _set(self, target: int | bytes, xattrs: Iterable[tuple[str, bytes]]) -> None:
        for name, value in xattrs:
            try:
                os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
            except OSError as error:
                if error.errno not in _NOT_ALLOWED:
                    raise
                self.notices[
                    "owner not recorded" if name == RECORD else "attribute refused by the system"
                ] += 1


def _on_host(id_: int, which: str, map_: IdMap) -> int:
    host = map_.to_host(id_)
    if host is None:
        raise Unsupported(f"the {which} {id_} is not in the map {map_}")
    return host


@contextmanager
def _ownership(described: Described, options: Options) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # EINVAL: the user namespace does not have the id. EPERM: we may not give files away.
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        raise Unsupported(
            f"the owner {described.uid}:{described.gid} cannot be given here; uid map {options.uids} in the "
            f"process's {IdMap.of_process('uid')}, gid map {options.gids} in {IdMap.of_process('gid')}"
        ) from error


def _chmod(directory: int, name: bytes, mode: int) -> None:
    """Change the mode of anything but a link, without opening it. There is no fchmodat2 before Linux 6.6."""
    place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        # Of a link that another process put there, this changes nothing: EOPNOTSUPP.
        os.chmod(f"/proc/self/fd/{place}", mode)
    finally:
        os.close(place)


def new_owner(root: int) -> tuple[int, int] | None:
    """Return whom files made in the empty directory belong to, None where the file system cannot say."""
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=root)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return status.st_uid, status.st_gid
