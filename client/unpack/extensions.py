"""What stands before an entry because its header has no room: PAX records, GNU long names."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from client.unpack import fields, sparse
from client.unpack.errors import LimitExceeded, Malformed
from client.unpack.limits import COMPONENT, Limits

_XATTR = b"SCHILY.xattr."
_SPARSE_NAME = b"GNU.sparse.name"
_MEANINGFUL = (b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"atime", _SPARSE_NAME)


class Extensions:
    """The extended headers of one entry, at most one of each type.

    Programs differ on which of two wins, so two are refused (M4), and on whether an empty record takes a
    field away, so these are refused too.
    """

    TYPES: ClassVar = frozenset((b"x", b"L", b"K"))

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seen: set[bytes] = set()
        self._records: dict[bytes, bytes] = {}
        self._long_name = b""
        self._long_link = b""

    def add(self, type_: bytes, size: int, take: Callable[[int], bytes]) -> None:
        """Read the header of type x, L or K whose data `take` gives. Raises Malformed and LimitExceeded."""
        if type_ in self._seen:
            raise Malformed("two extended headers of one type for one entry")
        self._seen.add(type_)
        if size > self._limits.extension:
            raise LimitExceeded(f"an extended header of more than {self._limits.extension} bytes")
        data = take(size)
        if type_ == b"x":
            self._records = dict(fields.records(data))
            if any(self._records.get(key) == b"" for key in _MEANINGFUL):
                raise Malformed("an empty PAX record of an entry's own field")
        elif type_ == b"L":
            self._long_name = _without_nul(data.rstrip(b"\0"))
        else:
            self._long_link = _without_nul(data.rstrip(b"\0"))

    def name(self, name: bytes) -> bytes:
        return (
            self._agreed(self._records.get(_SPARSE_NAME) or self._records.get(b"path"), self._long_name)
            or name
        )

    def link(self, link: bytes) -> bytes:
        return self._agreed(self._records.get(b"linkpath"), self._long_link) or link

    def _agreed(self, record: bytes | None, long: bytes) -> bytes:
        if record is None:
            return long
        if long and record != long:
            # Python takes the one and Go the other (M4).
            raise Malformed("a PAX record and a GNU long name that differ", record)
        return _without_nul(record)

    def size(self, size: int) -> int:
        record = self._records.get(b"size")
        return size if record is None else fields.decimal(record, "size")

    def real_size(self) -> int | None:
        """Return the size with its holes of a sparse file, None for other entries. Raises Unsupported."""
        record = sparse.real_size(self._records)
        return None if record is None else fields.decimal(record, "GNU.sparse.realsize")

    def owner(self, owner: tuple[int, int]) -> tuple[int, int]:
        """Return uid and gid. Names are ignored: they would mean this host's users (TAR-65)."""
        uid, gid = self._records.get(b"uid"), self._records.get(b"gid")
        return (
            owner[0] if uid is None else fields.decimal(uid, "uid"),
            owner[1] if gid is None else fields.decimal(gid, "gid"),
        )

    def times(self, modified: int) -> tuple[int, int]:
        """Return the times of modification and access, in nanoseconds."""
        mtime, atime = self._records.get(b"mtime"), self._records.get(b"atime")
        if mtime is not None:
            modified = fields.nanoseconds(mtime)
        return modified, modified if atime is None else fields.nanoseconds(atime)

    def xattrs(self) -> Mapping[str, bytes]:
        found = {
            key[len(_XATTR) :].decode("utf-8", "surrogateescape"): value
            for key, value in self._records.items()
            if key.startswith(_XATTR)
        }
        if any(not 0 < len(name.encode("utf-8", "surrogateescape")) <= COMPONENT for name in found):
            raise LimitExceeded(f"an extended attribute whose name has no or more than {COMPONENT} bytes")
        if sum(len(name) + len(value) for name, value in found.items()) > self._limits.xattrs:
            raise LimitExceeded(f"extended attributes of more than {self._limits.xattrs} bytes")
        return found


def _without_nul(name: bytes) -> bytes:
    if b"\0" in name:
        raise Malformed("a name with a NUL inside", name)
    return name
