"""The fields of a 512-byte tar header and of PAX records, as strict as Go's archive/tar.

Source: POSIX pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format".
"""

import functools
import struct
import zlib
from collections.abc import Iterator

from client.unpack.errors import Malformed

BLOCK = 512
ZERO = bytes(BLOCK)

# name mode uid gid size mtime checksum type link magic+version owner-names devices prefix padding
HEADER = struct.Struct("100s 8s 8s 8s 12s 12s 8s s 100s 8s 64x 16s 155s 12s")

_CHECKSUM = slice(148, 156)
_SPACES_SUM = 8 * ord(" ")
# A sign and 63 bits, as in Go.
_LARGEST = 2**63 - 1

_SECOND = 10**9


def number(field: bytes) -> int:
    """Read an octal or base-256 number. Raises Malformed for anything else, and beyond 64 bits."""
    if field[0] & 0x80:
        return _base_256(field)
    text = field.strip(b" \0").partition(b"\0")[0]
    if not text:
        return 0
    # isdigit leaves out what int() would take: signs, underscores, 0o, spaces.
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise Malformed(f"a number in a header is not octal: {text!r}")
    return int(text, 8)


repeated_number = functools.lru_cache(maxsize=4096)(number)
"""The same for owners, modes, times and devices, of which an archive has few."""


def _base_256(field: bytes) -> int:
    """Source: GNU tar manual, "Extensions to the Archive Format": big endian two's complement."""
    value = int.from_bytes(field, "big")
    bits = 8 * len(field)
    # The first bit marks the format, the second is the sign.
    value -= 1 << (bits if field[0] & 0x40 else bits - 1)
    if not -_LARGEST - 1 <= value <= _LARGEST:
        raise Malformed("a number in a header has more than 64 bits")
    return value


def text(field: bytes) -> bytes:
    """Return a field up to its first NUL."""
    return field.partition(b"\0")[0]


def verify_checksum(header: bytes, checksum: bytes) -> None:
    """Raises Malformed where neither the sum of unsigned bytes nor that of signed ones (old BSD) matches."""
    expected = number(checksum)
    # Adler-32's lower half is one plus the sum of the bytes, modulo a number above 256 * 255: exact for half
    # a header, in a tenth of the time of sum().
    low, high = zlib.adler32(header[:256]) & 0xFFFF, zlib.adler32(header[256:]) & 0xFFFF
    unsigned = low + high - 2 - sum(header[_CHECKSUM]) + _SPACES_SUM
    if unsigned == expected:
        return
    rest = header[: _CHECKSUM.start] + header[_CHECKSUM.stop :]
    if unsigned - 256 * sum(byte > 127 for byte in rest) != expected:
        raise Malformed("the checksum of a header does not match; the archive is damaged")


def records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a PAX header's `length key=value` lines. Raises Malformed."""
    position, end = 0, len(data)
    while position < end:
        space = data.find(b" ", position, position + 10)
        size = data[position : max(space, position)]
        if not size.isdigit():
            raise Malformed("a PAX record without a length")
        stop = position + int(size)
        if not space < stop <= end or data[stop - 1] != 0x0A:
            raise Malformed("a PAX record whose length is wrong")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise Malformed("a PAX record without a key")
        yield key, value
        position = stop


def decimal(value: bytes, key: str) -> int:
    """Read a PAX number that may not be negative. Raises Malformed."""
    if not value.isdigit() or len(value) > 19 or (result := int(value)) > _LARGEST:
        raise Malformed(f"the PAX record {key} is no number")
    return result


def nanoseconds(value: bytes) -> int:
    """Read a PAX time, decimal seconds with any fraction. Raises Malformed for other text and beyond 64 bits.

    Source: POSIX pax, "pax Extended Header File Times". Digits beyond the ninth are dropped, as Go does.
    """
    sign = -1 if value.startswith(b"-") else 1
    seconds, _, fraction = value.removeprefix(b"-").partition(b".")
    if not seconds.isdigit() or len(seconds) > 19 or (fraction and not fraction.isdigit()):
        raise Malformed("a PAX record of a time is no number")
    return checked_time(sign * (int(seconds) * _SECOND + int(fraction[:9].ljust(9, b"0"))))


def checked_time(time: int) -> int:
    """Raises Malformed for nanoseconds whose seconds have more than 64 bits."""
    if not -_LARGEST - 1 <= time // _SECOND <= _LARGEST:
        raise Malformed("a time of more than 64 bits")
    return time
