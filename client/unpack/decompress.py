"""The bytes inside a compressed stream: gzip, zstd or neither, told apart by their first bytes.

Every member and frame is read to the end of the stream; anything behind the last one is an error (UNP-08).
The media type is not asked: moby and containerd look at the bytes too, and the diffID decides (TAR-92).
"""

import sys
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import BinaryIO

from client.unpack.errors import LimitExceeded, Malformed, Unsupported
from client.unpack.limits import KIB, MIB, Limits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# There is no wheel of isal for every platform; zlib has the same interface and takes twice the time.
inflate: ModuleType
try:
    from isal import isal_zlib as inflate
except ImportError:
    inflate = zlib

BLOCK = MIB
_READ = 128 * KIB
# Decompressors copy what follows their end, so a million small members must not each be fed 128 KiB.
_FIRST = KIB

_GZIP = b"\x1f\x8b"
_GZIP_WBITS = 31
_ZSTD = b"\x28\xb5\x2f\xfd"
_REFUSED = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}


def decompressed(stream: BinaryIO, limits: Limits) -> Iterator[bytes]:
    """Yield what is inside `stream` in pieces of at most a MiB, none empty, until its last byte was read.

    Raises Malformed for a stream that is cut, damaged or followed by something else, Unsupported for other
    compressions, and LimitExceeded.
    """
    source = _Source(stream)
    unpacked = 0
    for piece in _pieces(source, limits):
        unpacked += len(piece)
        if unpacked > limits.unpacked:
            raise LimitExceeded(f"the layer unpacks to more than {limits.unpacked} bytes")
        if unpacked > limits.ratio_from and unpacked > limits.ratio * source.taken:
            raise LimitExceeded(f"the layer unpacks to more than {limits.ratio} times its size")
        yield piece


def _pieces(source: "_Source", limits: Limits) -> Iterator[bytes]:
    start = source.peek(6)
    for magic, name in _REFUSED.items():
        if start.startswith(magic):
            raise Unsupported(f"layers compressed with {name} are not unpacked")
    if start.startswith(_GZIP):
        return _gzip(source)
    if _is_zstd(start):
        return _zstd(source, limits)
    return iter(source.take, b"")


def _is_zstd(start: bytes) -> bool:
    """Whether a frame or a skippable frame begins. Source: RFC 8878, 3.1.1 and 3.1.2."""
    return start.startswith(_ZSTD) or (start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50)


class _Source:
    """A stream that can be looked at ahead; `taken` counts what was used of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffer = b""
        self._position = 0
        self.taken = 0

    def peek(self, size: int) -> bytes:
        while len(self._buffer) - self._position < size and (data := self._stream.read(_READ)):
            self._buffer = self._buffer[self._position :] + data
            self._position = 0
        return self._buffer[self._position : self._position + size]

    def take(self, size: int = _READ) -> bytes:
        """Return some bytes, none at the end only."""
        if self._position == len(self._buffer):
            self._buffer, self._position = self._stream.read(_READ), 0
        data = self._buffer[self._position : self._position + size]
        self._position += len(data)
        self.taken += len(data)
        return data

    def give_back(self, size: int) -> None:
        """Return the end of what was taken last."""
        self._position -= size
        self.taken -= size


def _gzip(source: _Source) -> Iterator[bytes]:
    """Source: RFC 1952, 2.2: "members simply appear one after another"."""
    while start := source.peek(2):
        if start != _GZIP:
            raise Malformed("something follows the gzip stream")
        yield from _member(source)


def _member(source: _Source) -> Iterator[bytes]:
    inflater = inflate.decompressobj(wbits=_GZIP_WBITS)
    size = _FIRST
    while not inflater.eof:
        data = source.take(size)
        if not data:
            raise Malformed("the gzip stream is cut")
        size = min(size * 4, _READ)
        more = True
        while more and not inflater.eof:
            try:
                piece = inflater.decompress(data, BLOCK)
            except inflate.error as error:
                raise Malformed(f"the gzip stream is damaged: {error}") from error
            data = inflater.unconsumed_tail
            more = bool(data) or len(piece) == BLOCK
            if piece:
                yield piece
    source.give_back(len(inflater.unused_data))


def _zstd(source: _Source, limits: Limits) -> Iterator[bytes]:
    """Source: RFC 8878, 3: "Zstandard compressed data is made up of one or more frames"."""
    while start := source.peek(4):
        if not _is_zstd(start):
            raise Malformed("something follows the zstd stream")
        yield from _frame(source, limits)


def _frame(source: _Source, limits: Limits) -> Iterator[bytes]:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: limits.zstd_window_log}
    decompressor = zstd.ZstdDecompressor(options=options)
    size = _FIRST
    while not decompressor.eof:
        data = b""
        if decompressor.needs_input:
            data = source.take(size)
            if not data:
                raise Malformed("the zstd stream is cut")
            size = min(size * 4, _READ)
        try:
            piece = decompressor.decompress(data, BLOCK)
        except zstd.ZstdError as error:
            raise Malformed(f"the zstd stream is damaged or needs too much memory: {error}") from error
        if piece:
            yield piece
    source.give_back(len(decompressor.unused_data))
