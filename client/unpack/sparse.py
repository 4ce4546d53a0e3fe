"""The map of a sparse file, as GNU tar writes it in PAX format 1.0: text before the file's data.

The older ways (type `S`, PAX 0.0 and 0.1) are refused, as moby, umoci and buildah refuse all of them.
Source: GNU tar manual, "Storing Sparse Files".
"""

from collections.abc import Callable

from client.unpack.entry import Segment
from client.unpack.errors import LimitExceeded, Malformed, Unsupported
from client.unpack.fields import BLOCK

_PREFIX = b"GNU.sparse."
_DIGITS = 19


def real_size(records: dict[bytes, bytes]) -> bytes | None:
    """Return the record of a sparse file's size with its holes, None where `records` describe no such file.

    Raises Unsupported for other versions.
    """
    if not any(key.startswith(_PREFIX) for key in records):
        return None
    version = records.get(_PREFIX + b"major"), records.get(_PREFIX + b"minor")
    if version != (b"1", b"0"):
        raise Unsupported("sparse files are unpacked from PAX format 1.0 only")
    size = records.get(_PREFIX + b"realsize")
    if size is None:
        raise Malformed("a sparse file without its real size")
    return size


class SparseMap:
    """Reads the map off the beginning of an entry's data; `taken` counts the bytes, whole blocks."""

    def __init__(self, take: Callable[[int], bytes], stored: int, limit: int) -> None:
        self._take = take
        self._stored = stored
        self._limit = limit
        self._text = b""
        self.taken = 0

    def read(self, size: int) -> tuple[Segment, ...]:
        """Return where the data of a file of `size` bytes goes.

        Raises Malformed for a map out of order or range or that does not fit the data, and LimitExceeded.
        """
        segments: list[Segment] = []
        end = 0
        for _ in range(self._number()):
            segment = Segment(self._number(), self._number())
            if segment.offset < end or segment.offset + segment.length > size:
                raise Malformed("the map of a sparse file is out of order or beyond its end")
            end = segment.offset + segment.length
            segments.append(segment)
        if sum(segment.length for segment in segments) != self._stored - self.taken:
            raise Malformed("the map of a sparse file does not fit its data")
        return tuple(segments)

    def _number(self) -> int:
        while b"\n" not in self._text:
            if self.taken + BLOCK > self._stored or len(self._text) > _DIGITS:
                raise Malformed("the map of a sparse file does not end")
            if self.taken + BLOCK > self._limit:
                raise LimitExceeded(f"the map of a sparse file has more than {self._limit} bytes")
            self._text += self._take(BLOCK)
            self.taken += BLOCK
        digits, _, self._text = self._text.partition(b"\n")
        if not digits.isdigit() or len(digits) > _DIGITS:
            raise Malformed("the map of a sparse file holds no number")
        return int(digits)
