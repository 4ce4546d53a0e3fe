"""Who an image's process runs as, by the image's own /etc/passwd and /etc/group (UNP-11).

Source: image-spec conversion.md, "Config.User"; config.md, "Properties", `User`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from client.bundle.errors import BundleRefused, UserUnknown
from client.unpack.errors import UnpackError

Read = Callable[[bytes], bytes | None]
"""Reads a regular file of the root file system, of at most 1 MiB; None where there is none."""

LARGEST_ID = 2**31 - 1
# Source: linux/limits.h, NGROUPS_MAX.
_GROUPS = 65536
_HOME = "/"


@dataclass(frozen=True, slots=True)
class User:
    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()
    home: str = _HOME


@dataclass(frozen=True, slots=True)
class _Account:
    name: bytes
    uid: int
    gid: int
    home: str


def resolve(text: str, read: Read) -> User:
    """Return who `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid` is; root for nothing.

    Numbers stand for themselves, known or not. The groups a user is in are added for a name without a group
    only. Raises UserUnknown, and BundleRefused for a passwd or group that cannot be read.
    """
    name, colon, group = text.partition(":")
    account, is_known = _user(name or "0", read)
    gid = _group(group, read) if group else account.gid
    if colon and not group:
        raise UserUnknown(f"the image's user {text!r} ends with a colon and no group")
    is_name = is_known and bool(name) and _number(name) is None
    gids = () if group or not is_name else _groups_of(account, read)
    return User(account.uid, gid, gids, account.home)


def _user(name: str, read: Read) -> tuple[_Account, bool]:
    uid = _number(name)
    for account in _accounts(read):
        if account.uid == uid if uid is not None else account.name == _encoded(name):
            return account, True
    if uid is None:
        raise UserUnknown(f"the image's /etc/passwd has no user {name!r}; try a uid, as --user 1000:1000")
    return _Account(b"", uid, 0, _HOME), False


def _group(group: str, read: Read) -> int:
    gid = _number(group)
    if gid is not None:
        return gid
    for name, gid, _ in _groups(read):
        if name == _encoded(group):
            return gid
    raise UserUnknown(f"the image's /etc/group has no group {group!r}; try a gid")


def _groups_of(account: _Account, read: Read) -> tuple[int, ...]:
    gids = dict.fromkeys(gid for _, gid, members in _groups(read) if account.name in members)
    gids.pop(account.gid, None)
    if len(gids) > _GROUPS:
        raise BundleRefused(f"the image's /etc/group has the user in more than {_GROUPS} groups")
    return tuple(gids)


def _number(text: str) -> int | None:
    """Read an id, None for a name. Raises UserUnknown for a number that is none (CVE-2024-40635)."""
    digits = text.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        return None
    if digits != text or len(text) > len(str(LARGEST_ID)) or int(text) > LARGEST_ID:
        raise UserUnknown(f"{text} is no user or group id: these are 0 to {LARGEST_ID}")
    return int(text)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _accounts(read: Read) -> Iterator[_Account]:
    """Yield the well-formed lines of /etc/passwd. Source: passwd(5)."""
    for fields in _lines(read, b"etc/passwd", needed=4, count=7):
        uid, gid = _field_id(fields[2]), _field_id(fields[3])
        if uid is not None and gid is not None:
            yield _Account(fields[0], uid, gid, _home(fields[5]))


def _groups(read: Read) -> Iterator[tuple[bytes, int, frozenset[bytes]]]:
    """Yield name, gid and members of the well-formed lines of /etc/group. Source: group(5)."""
    for fields in _lines(read, b"etc/group", needed=3, count=4):
        gid = _field_id(fields[2])
        if gid is not None:
            yield fields[0], gid, frozenset(fields[3].split(b","))


def _lines(read: Read, path: bytes, *, needed: int, count: int) -> Iterator[list[bytes]]:
    """Yield lines of at least `needed` fields, empty ones added up to `count`."""
    try:
        data = read(path) or b""
    except UnpackError as error:
        raise BundleRefused(f"the image's users cannot be read: {error}") from error
    for line in data.split(b"\n"):
        fields = line.strip().split(b":")
        if len(fields) >= needed and fields[0] and not line.startswith(b"#"):
            yield fields + [b""] * (count - len(fields))


def _field_id(field: bytes) -> int | None:
    if not field.isdigit() or len(field) > len(str(LARGEST_ID)) or int(field) > LARGEST_ID:
        return None
    return int(field)


def _home(field: bytes) -> str:
    """Read a home directory; what could not be a variable's value, or is no absolute path, is the root."""
    try:
        text = field.decode()
    except UnicodeDecodeError:
        return _HOME
    return text if text.startswith("/") and "\0" not in text else _HOME
