"""Tar archives, entry by entry, well made or not. Names follow research/security-reliability.md §3.2."""

import io
import struct
import sys
import tarfile
import zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK = 512
END = bytes(2 * BLOCK)

_KINDS = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "link": tarfile.LNKTYPE,
    "character": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


def entry(
    name: str,
    data: bytes = b"",
    *,
    kind: str = "file",
    link: str = "",
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1_000_000_000,
    device: tuple[int, int] = (0, 0),
    pax: dict[str, str] | None = None,
) -> bytes:
    """One entry as Python writes it: GNU, or PAX with records."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = _KINDS[kind], link, mode
    info.uid, info.gid, info.mtime = uid, gid, mtime
    info.devmajor, info.devminor = device
    info.size = len(data)
    if pax is None:
        header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    else:
        info.pax_headers = pax
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + padded(data)


def file(name: str, data: bytes = b"", **fields: object) -> bytes:
    return entry(name, data, **fields)  # type: ignore[arg-type]  # passed on


def directory(name: str, **fields: object) -> bytes:
    return entry(name, kind="directory", **{"mode": 0o755, **fields})  # type: ignore[arg-type]  # passed on


def symlink(name: str, target: str, **fields: object) -> bytes:
    return entry(name, kind="symlink", link=target, **{"mode": 0o777, **fields})  # type: ignore[arg-type]  # passed on


def link(name: str, target: str, **fields: object) -> bytes:
    return entry(name, kind="link", link=target, **fields)  # type: ignore[arg-type]  # passed on


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def checked(header: bytes) -> bytes:
    """Put the right checksum into a header."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def raw(
    name: bytes = b"n",
    *,
    type_: bytes = b"0",
    size: int | bytes = 0,
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    mtime: bytes = b"00000000000\0",
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    devices: bytes = bytes(16),
    prefix: bytes = b"",
    padding: bytes = b"",
    data: bytes = b"",
    checksum: bool = True,
) -> bytes:
    """An entry byte for byte; the size is written as it is given, whatever the data."""
    field = b"%011o\0" % size if isinstance(size, int) else size
    header = struct.pack(
        "100s8s8s8s12s12s8ss100s8s64s16s155s12s",
        name, mode, uid, b"0000000\0", field, mtime, b" " * 8, type_, link, magic, b"", devices, prefix,
        padding,
    )  # fmt: skip
    return (checked(header) if checksum else header) + padded(data)


def base_256(number: int, size: int = 12) -> bytes:
    """A number as GNU tar writes what octal does not hold."""
    if number < 0:
        return number.to_bytes(size, "big", signed=True)
    field = number.to_bytes(size, "big")
    return bytes([field[0] | 0x80]) + field[1:]


def records(*pairs: tuple[str | bytes, str | bytes]) -> bytes:
    """PAX records: `length key=value`."""
    result = b""
    for key, value in pairs:
        text = b" %b=%b\n" % (_bytes(key), _bytes(value))
        length = len(text)
        while len(b"%d" % length) + len(text) != length:
            length = len(b"%d" % length) + len(text)
        result += b"%d%b" % (length, text)
    return result


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def x(*pairs: tuple[str | bytes, str | bytes], type_: bytes = b"x") -> bytes:
    """An extended header; with type g a global one."""
    return extension(type_, records(*pairs))


def extension(type_: bytes, data: bytes) -> bytes:
    return raw(b"extended", type_=type_, size=len(data), data=data)


def long_name(name: str | bytes) -> bytes:
    data = _bytes(name) + b"\0"
    return raw(b"././@LongLink", type_=b"L", size=len(data), data=data, magic=b"ustar  \0")


def long_link(name: str | bytes) -> bytes:
    data = _bytes(name) + b"\0"
    return raw(b"././@LongLink", type_=b"K", size=len(data), data=data, magic=b"ustar  \0")


def archive(*entries: bytes, end: bytes = END) -> bytes:
    return b"".join(entries) + end


def gzipped(data: bytes, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, wbits=31)
    return compressor.compress(data) + compressor.flush()


def zstded(data: bytes, window_log: int | None = None) -> bytes:
    options: dict[int, int] = {} if window_log is None else {zstd.CompressionParameter.window_log: window_log}
    # In two steps, so that the frame does not tell its size, by which the window would be made smaller.
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(data) + compressor.flush()


def skippable(data: bytes) -> bytes:
    """A frame that a zstd reader passes over. Source: RFC 8878, 3.1.2."""
    return b"\x51\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def stream(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)
