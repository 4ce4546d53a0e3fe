"""TAR-86..TAR-92 and TAROK-06: compressed streams, to their last byte."""

import bz2
import io
import lzma
import os
import random
import zlib
from collections.abc import Callable

import pytest

from client.unpack.decompress import decompressed
from client.unpack.errors import (
    LimitExceeded,
    Malformed,
    StreamFailed,
    UnpackError,
    Unsupported,
    VerificationFailed,
)
from client.unpack.layer import unpack_layer
from client.unpack.limits import Limits
from client.unpack.options import Form, Options
from storage.oci.digest import Digest
from tests.client.unpack.archives import archive, file, gzipped, skippable, zstded
from tests.client.unpack.sandbox import Sandbox

MIB = 1 << 20
LAYER = archive(file("f", b"1" * 5000))
NOISE = random.Random(1).randbytes(3 * MIB)  # the same at every run
GZIP, ZSTD = gzipped(LAYER), zstded(LAYER)
# Extra field, name, comment and header checksum, which the first ISA-L bindings could not read.
_HEADER = b"\x1f\x8b\x08\x1e" + bytes(4) + b"\x00\x03" + b"\x04\x00ABCD" + b"name\0comment\0"
RICH_GZIP = _HEADER + (zlib.crc32(_HEADER) & 0xFFFF).to_bytes(2, "little") + GZIP[10:]


def inside(data: bytes, limits: Limits | None = None) -> bytes:
    return b"".join(decompressed(io.BytesIO(data), limits or Limits()))


READ = [
    pytest.param(LAYER, LAYER, id="TAROK-06-uncompressed"),
    pytest.param(b"", b"", id="TAR-87-nothing"),
    pytest.param(gzipped(b""), b"", id="TAR-87-empty-gzip"),
    pytest.param(zstded(b""), b"", id="TAR-87-empty-zstd"),
    pytest.param(gzipped(LAYER[:700]) + gzipped(LAYER[700:]), LAYER, id="TAR-89-members"),
    pytest.param(gzipped(b"") + GZIP + gzipped(b""), LAYER, id="TAR-89-empty-members"),
    pytest.param(
        b"".join(gzipped(LAYER[i : i + 1]) for i in range(len(LAYER))), LAYER, id="TAR-89-tiny-members"
    ),
    pytest.param(gzipped(LAYER, 0), LAYER, id="TAR-89-stored"),
    pytest.param(RICH_GZIP, LAYER, id="TAROK-06-rich-header"),
    pytest.param(gzipped(NOISE), NOISE, id="gzip-of-noise"),
    pytest.param(gzipped(bytes(3 * MIB)), bytes(3 * MIB), id="gzip-of-whole-blocks"),
    pytest.param(zstded(LAYER[:700]) + zstded(LAYER[700:]), LAYER, id="TAR-90-frames"),
    pytest.param(skippable(b"toc") + ZSTD, LAYER, id="TAR-90-skippable-first"),
    pytest.param(ZSTD + skippable(b"toc") + skippable(b""), LAYER, id="TAR-90-skippable-last"),
    pytest.param(skippable(NOISE) + ZSTD + skippable(NOISE), LAYER, id="TAROK-06-zstd-chunked"),
    pytest.param(zstded(NOISE), NOISE, id="zstd-of-noise"),
    pytest.param(zstded(bytes(3 * MIB)), bytes(3 * MIB), id="zstd-of-whole-blocks"),
]

REFUSED = [
    pytest.param(GZIP + b"junk", Malformed, id="TAR-89-junk"),
    pytest.param(GZIP + bytes(512), Malformed, id="TAR-89-zeros"),
    pytest.param(GZIP + GZIP[:-1], Malformed, id="TAR-89-second-cut"),
    pytest.param(GZIP[:-8], Malformed, id="TAR-89-no-trailer"),
    pytest.param(GZIP[: len(GZIP) // 2], Malformed, id="TAR-89-cut"),
    pytest.param(GZIP[:5], Malformed, id="TAR-89-cut-header"),
    pytest.param(GZIP[:-8] + b"\0\0\0\0" + GZIP[-4:], Malformed, id="TAR-89-crc"),
    pytest.param(GZIP[:-4] + b"\1\0\0\0", Malformed, id="TAR-89-size"),
    pytest.param(GZIP[:20] + b"\xff\xff\xff\xff" + GZIP[24:], Malformed, id="TAR-89-damaged"),
    pytest.param(ZSTD + b"junk", Malformed, id="TAR-90-junk"),
    pytest.param(ZSTD + GZIP, Malformed, id="TAR-90-gzip-behind"),
    pytest.param(ZSTD[:-3], Malformed, id="TAR-90-cut"),
    pytest.param(skippable(b"12345")[:-1], Malformed, id="TAR-90-skippable-cut"),
    pytest.param(zstded(NOISE, window_log=30), Malformed, id="TAR-90-window"),
    pytest.param(ZSTD[:6] + b"\xff\xff\xff" + ZSTD[9:], Malformed, id="TAR-90-damaged"),
    pytest.param(bz2.compress(LAYER), Unsupported, id="TAR-91-bzip2"),
    pytest.param(lzma.compress(LAYER), Unsupported, id="TAR-91-xz"),
]


@pytest.mark.parametrize(("data", "expected"), READ)
def test_reads(data: bytes, expected: bytes) -> None:
    assert inside(data) == expected


@pytest.mark.parametrize(("data", "error"), REFUSED)
def test_refuses(data: bytes, error: type[UnpackError]) -> None:
    with pytest.raises(error):
        inside(data)


@pytest.mark.parametrize("compress", [gzipped, zstded])
def test_TAR_91_stops_at_the_ratio(compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(bytes(200 * MIB))
    pieces: list[int] = []

    with pytest.raises(LimitExceeded, match="200 times"):
        pieces.extend(len(piece) for piece in decompressed(io.BytesIO(bomb), Limits()))

    assert 62 * MIB <= sum(pieces) <= 65 * MIB


def test_TAR_91_stops_at_the_size() -> None:
    with pytest.raises(LimitExceeded, match="more than 1000 bytes"):
        inside(gzipped(NOISE), Limits(unpacked=1000))


def test_UNP_08_bounds_each_piece() -> None:
    data = gzipped(bytes(40 * MIB)) + gzipped(NOISE)

    assert max(len(piece) for piece in decompressed(io.BytesIO(data), Limits())) <= MIB


def test_UNP_08_many_small_members_take_linear_time() -> None:
    """Each inflater copies what follows its end: 20,000 members of 20 bytes would copy gigabytes."""
    member = gzipped(b"")
    source = io.BytesIO(member * 20_000 + GZIP)

    assert b"".join(decompressed(source, Limits())) == LAYER


@pytest.mark.parametrize("data", [GZIP, ZSTD, LAYER])
def test_TAR_92_looks_at_the_bytes(sandbox: Sandbox, data: bytes) -> None:
    """There is no media type to be wrong about."""
    assert sandbox.unpack(data).diff_id == Digest.of(LAYER)
    assert sandbox.tree() == {"f": b"1" * 5000}


class _Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a socket may."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def read(self, size: int = -1) -> bytes:
        piece, self._rest = self._rest[:7], self._rest[7:]
        return piece


@pytest.mark.parametrize("data", [GZIP, ZSTD, LAYER])
def test_reads_streams_that_trickle(data: bytes) -> None:
    assert b"".join(decompressed(_Trickle(data), Limits())) == LAYER  # type: ignore[arg-type]  # read is enough


@pytest.mark.parametrize("form", Form)
def test_UNP_12_verifies_to_the_last_byte(sandbox: Sandbox, form: Form) -> None:
    """What follows the end of the archive counts (TAR-86)."""
    data = LAYER + b"junk" * 1000
    options = Options(form=form)

    stats = unpack_layer(io.BytesIO(gzipped(data)), sandbox.root, diff_id=Digest.of(data), options=options)

    assert (stats.diff_id, stats.unpacked, stats.entries) == (Digest.of(data), len(data), 1)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_UNP_12_refuses_another_diff_id(sandbox: Sandbox, algorithm: str) -> None:
    data = LAYER + b"junk"

    with pytest.raises(VerificationFailed):
        unpack_layer(io.BytesIO(data), sandbox.root, diff_id=Digest.of(LAYER, algorithm), options=Options())

    assert oct(sandbox.root.stat().st_mode) == "0o40700"


class _Broken(io.RawIOBase):
    def __init__(self, data: bytes, error: Exception) -> None:
        self._data = io.BytesIO(data)
        self._error = error

    def read(self, size: int = -1) -> bytes:
        data = self._data.read(size)
        if not data:
            raise self._error
        return data


def test_passes_errors_of_the_stream_on(sandbox: Sandbox) -> None:
    stream = _Broken(LAYER[:700], LookupError("mine"))

    with pytest.raises(LookupError, match="mine"):
        unpack_layer(stream, sandbox.root, diff_id=None, options=Options())  # type: ignore[arg-type]  # read is enough


def test_tells_a_broken_stream_from_a_broken_target(sandbox: Sandbox) -> None:
    stream = _Broken(LAYER[:700], OSError(5, "Input/output error"))

    with pytest.raises(StreamFailed, match="Input/output error"):
        unpack_layer(stream, sandbox.root, diff_id=None, options=Options())  # type: ignore[arg-type]  # read is enough


def test_stops_reading_after_an_error(sandbox: Sandbox) -> None:
    """The other thread waits for room in the queue when this one gives up."""
    stream = io.BytesIO(archive(file("../x")) + os.urandom(64 * MIB))

    with pytest.raises(UnpackError):
        unpack_layer(stream, sandbox.root, diff_id=None, options=Options())

    assert stream.tell() < 32 * MIB
