"""The Range header of a blob GET. Source: RFC 9110 §14.1 and §14.2."""

import re
from dataclasses import dataclass
from itertools import pairwise

from storage.oci.errors import BlobRangeInvalid

# A zstd:chunked pull asks for up to 1,024 pieces of a layer in one request.
MOST_RANGES = 1024
_NUMBER_DIGITS = 19

_SPEC = re.compile(r"(\d*)-(\d*)").fullmatch


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` up to, not including, `stop`."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse(header: str | None, size: int) -> list[ByteRange] | None:
    """Read a Range header over `size` bytes; None means the whole blob is to be sent.

    Another unit, a malformed header, more than MOST_RANGES and overlapping ranges are ignored, as the RFC
    allows. Raises BlobRangeInvalid when no range of a well-formed header touches the blob.
    """
    if header is None or not header.startswith("bytes="):
        return None
    specs = header.removeprefix("bytes=").split(",", MOST_RANGES)
    bounds = [_bounds(spec.strip(" \t")) for spec in specs if spec.strip(" \t")]
    if not bounds or len(specs) > MOST_RANGES or None in bounds:
        return None
    found = [found for bound in bounds if bound and (found := _over(*bound, size)) is not None]
    if not found:
        raise BlobRangeInvalid(f"no such range: the blob has {size} bytes", size=size)
    return None if _overlap(found) else found


def _bounds(spec: str) -> tuple[int | None, int | None] | None:
    match = _SPEC(spec)
    if match is None or spec == "-" or max(map(len, match.groups())) > _NUMBER_DIGITS or not spec.isascii():
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if first is not None and last is not None and last < first:
        return None
    return first, last


def _over(first: int | None, last: int | None, size: int) -> ByteRange | None:
    if first is None:
        start, stop = max(size - (last or 0), 0), size
    else:
        start, stop = first, size if last is None else min(last + 1, size)
    return ByteRange(start, stop) if start < stop else None


def _overlap(ranges: list[ByteRange]) -> bool:
    ordered = sorted(ranges, key=lambda item: item.start)
    return any(left.stop > right.start for left, right in pairwise(ordered))
