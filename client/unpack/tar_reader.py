"""A tar archive, entry by entry, forwards only; tarfile stops silently where this one raises (M2, M3).

Read as Go's archive/tar reads, or refused: the same bytes must never make another tree in another program.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from client.unpack import fields, sparse
from client.unpack.entry import Entry, Kind, Segment
from client.unpack.errors import LimitExceeded, Malformed, Unsupported, printable
from client.unpack.extensions import Extensions
from client.unpack.fields import BLOCK, HEADER, ZERO, number, repeated_number, text
from client.unpack.limits import PATH, Limits
from client.unpack.options import LARGEST_ID

_USTAR = b"ustar\0"
_GNU = b"ustar  \0"
_STAR_TRAILER = b"tar\0"
_STAR_PREFIX = 131

_KINDS = {kind.value.encode(): kind for kind in Kind}
# The first tars wrote a NUL for a file and marked a directory by its name.
_OLD_FILE = b"\0"

_NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})
_SECOND = 10**9


class TarReader:
    """Iterate over the entries; between two, `read` gives the data of the first, and need not be used up.

    The iteration ends at the end of the archive; the blocks behind it are read, so all of them were hashed.
    It raises Malformed, Unsupported and LimitExceeded, and what `blocks` raises.
    """

    def __init__(self, blocks: Iterator[bytes], limits: Limits) -> None:
        self._blocks = blocks
        self._limits = limits
        self._block = b""
        self._view = memoryview(b"")
        self._position = 0
        # Of the current entry: data not read yet, and the zeros that fill its last 512 bytes.
        self._left = 0
        self._padding = 0
        self._size = 0
        self.entries = 0

    def __iter__(self) -> Iterator[Entry]:
        extensions: Extensions | None = None
        while header := self._header():
            values = HEADER.unpack(header)
            fields.verify_checksum(header, values[6])
            type_, size = values[7], self._data_size(number(values[4]))
            if type_ in Extensions.TYPES:
                extensions = extensions or Extensions(self._limits)
                extensions.add(type_, size, self._exactly)
                continue
            self._count()
            if type_ == b"g":
                self._skip_global(size, extensions)
                continue
            yield self._entry(values, size, extensions)
            extensions = None
        if extensions is not None:
            raise Malformed("the archive ends where the entry of an extended header should be")
        for _ in self._blocks:
            pass

    def read(self, limit: int = 2**63) -> memoryview:
        """Return at most `limit` bytes of the current entry's data, none only when all was read."""
        if not self._left:
            return self._view[:0]
        if self._position == len(self._block) and not self._more():
            raise Malformed("the archive is cut in the data of an entry")
        start = self._position
        stop = min(start + self._left, len(self._block), start + limit)
        self._position = stop
        self._left -= stop - start
        return self._view[start:stop]

    def _more(self) -> bool:
        for block in self._blocks:
            self._block, self._view, self._position = block, memoryview(block), 0
            return True
        return False

    def _take(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end only."""
        start = self._position
        data = self._block[start : start + size]
        self._position = start + len(data)
        while len(data) < size and self._more():
            more = self._block[: size - len(data)]
            self._position = len(more)
            data += more
        return data

    def _exactly(self, size: int) -> bytes:
        """Return `size` bytes of the current entry and skip the padding."""
        padding = -size % BLOCK
        data = self._take(size + padding)
        if len(data) < size:
            raise Malformed("the archive is cut in an extended header")
        return data[:size]

    def _header(self) -> bytes:
        """Skip the rest of the entry; return the next header, nothing at the end of the archive."""
        while self._left:
            self.read()
        if self._padding:
            # Go does not miss the padding of the last entry, nor do we.
            self._take(self._padding)
            self._padding = 0
        header = self._take(BLOCK)
        if header == ZERO:
            if self._take(BLOCK) not in (ZERO, b""):
                raise Malformed("a single block of zeros inside the archive")
            return b""
        if header and len(header) < BLOCK:
            raise Malformed("the archive is cut in a header")
        return header

    def _data_size(self, size: int) -> int:
        if size < 0:
            raise Malformed("a negative size in a header")
        if size > self._limits.unpacked:
            raise LimitExceeded(f"an entry of more than {self._limits.unpacked} bytes")
        return size

    def _count(self) -> None:
        self.entries += 1
        if self.entries > self._limits.entries:
            raise LimitExceeded(f"a layer of more than {self._limits.entries} entries")

    def _skip_global(self, size: int, extensions: Extensions | None) -> None:
        """Global headers mean nothing in a layer; git writes its commit there (TAR-44)."""
        if extensions is not None:
            # Go forgets the pending header here and others do not.
            raise Malformed("a global header between an extended header and its entry")
        Extensions(self._limits).add(b"x", size, self._exactly)

    def _entry(self, values: tuple[bytes, ...], size: int, extensions: Extensions | None) -> Entry:
        name, mode, uid, gid, _, mtime, _, type_, link, magic, devices, prefix, padding = values
        name = _full_name(text(name), magic, prefix, padding)
        link = text(link)
        device = (0, 0)
        if magic.startswith(b"ustar"):
            device = repeated_number(devices[:8]), repeated_number(devices[8:])
        owner = repeated_number(uid), repeated_number(gid)
        modified = accessed = fields.checked_time(repeated_number(mtime) * _SECOND)
        xattrs = _NO_XATTRS
        real_size = None
        if extensions is not None:
            name, link = extensions.name(name), extensions.link(link)
            owner = extensions.owner(owner)
            modified, accessed = extensions.times(modified)
            size = self._data_size(extensions.size(size))
            xattrs = extensions.xattrs() or xattrs
            real_size = extensions.real_size()
        kind = _kind(type_, name)
        permissions = repeated_number(mode)
        _check(name, link, owner, permissions)
        size, segments = self._data(kind, size, real_size, name)
        return Entry(
            name, kind, permissions & 0o7777, *owner, size, modified, accessed, link, device, xattrs, segments
        )

    def _data(
        self, kind: Kind, stored: int, real_size: int | None, name: bytes
    ) -> tuple[int, tuple[Segment, ...] | None]:
        """Expect the data of an entry; return the size of its file and, for a sparse one, the map."""
        if kind is Kind.DIRECTORY and stored:
            raise Malformed("a directory with data", name)
        if kind is not Kind.FILE:
            if real_size is not None:
                raise Malformed("a sparse entry that is no file", name)
            # Old tars noted the size of a hard link's file here; no data follows.
            return 0, None
        self._padding = -stored % BLOCK
        size, segments = stored, None
        if real_size is not None:
            size = self._data_size(real_size)
            map_ = sparse.SparseMap(self._take, stored, self._limits.extension)
            segments = map_.read(size)
            stored -= map_.taken
        self._left = stored
        self._size += size
        if self._size > self._limits.unpacked:
            raise LimitExceeded(f"files of more than {self._limits.unpacked} bytes", name)
        return size, segments


def _full_name(name: bytes, magic: bytes, prefix: bytes, padding: bytes) -> bytes:
    if magic.startswith(_USTAR):
        if padding[8:] == _STAR_TRAILER:
            number(prefix[_STAR_PREFIX : _STAR_PREFIX + 12])
            number(prefix[_STAR_PREFIX + 12 :])
            prefix = prefix[:_STAR_PREFIX]
        if prefix[0]:
            return text(prefix) + b"/" + name
    elif magic == _GNU and prefix[0]:
        # Times of access and change. A Go before 1.8 put the prefix here; that is refused, not guessed.
        number(prefix[:12])
        number(prefix[12:24])
    return name


def _kind(type_: bytes, name: bytes) -> Kind:
    if type_ == _OLD_FILE:
        return Kind.DIRECTORY if name.endswith(b"/") else Kind.FILE
    kind = _KINDS.get(type_)
    if kind is None:
        raise Unsupported(f"entries of type {printable(type_)} are not unpacked", name)
    return kind


def _check(name: bytes, link: bytes, owner: tuple[int, int], mode: int) -> None:
    if len(name) > PATH + 1:
        raise LimitExceeded(f"a path of more than {PATH} bytes", name)
    if len(link) > PATH:
        raise LimitExceeded(f"a link to a path of more than {PATH} bytes", name)
    if not (0 <= owner[0] <= LARGEST_ID and 0 <= owner[1] <= LARGEST_ID):
        raise Unsupported(f"the owner {owner[0]}:{owner[1]} is out of range", name)
    if mode < 0:
        raise Malformed("a negative mode", name)
