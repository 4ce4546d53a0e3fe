"""TAR-41..TAR-88: headers, extended headers, sparse files, ends of archives."""

import time
from collections.abc import Iterator

import pytest

from client.unpack.entry import Entry, Kind, Segment
from client.unpack.errors import LimitExceeded, Malformed, UnpackError, Unsupported
from client.unpack.limits import Limits
from client.unpack.tar_reader import TarReader
from tests.client.unpack.archives import (
    BLOCK,
    archive,
    base_256,
    directory,
    entry,
    extension,
    file,
    link,
    long_link,
    long_name,
    padded,
    raw,
    records,
    x,
)

KIB, MIB = 1 << 10, 1 << 20


def read(data: bytes, limits: Limits | None = None, block: int = MIB) -> list[tuple[Entry, bytes]]:
    blocks = (data[start : start + block] for start in range(0, len(data), block))
    reader = TarReader(blocks, limits or Limits())
    return [(found, b"".join(bytes(piece) for piece in iter(reader.read, b""))) for found in reader]


def names(data: bytes) -> list[bytes]:
    return [found.name for found, _ in read(data)]


def sparse(map_: bytes, data: bytes, size: int | str, *, stored: int | None = None, name: str = "s") -> bytes:
    """A sparse file in PAX 1.0."""
    body = padded(map_) + data
    return x(
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", name),
        ("GNU.sparse.realsize", str(size)),
    ) + raw(b"GNUSparseFile.0/s", size=len(body) if stored is None else stored, data=body)


REFUSED = [
    *(pytest.param([raw(type_=bytes([t]))], Unsupported, id=f"TAR-43-{chr(t)}") for t in b"QVDMN7"),
    pytest.param([raw(type_=b"5", size=512, data=bytes(512)), raw()], Malformed, id="TAR-48"),
    pytest.param([raw(uid=base_256(2**32 - 1, 8))], Unsupported, id="TAR-51-keep"),
    pytest.param([raw(uid=base_256(-1, 8))], Unsupported, id="TAR-51-negative"),
    pytest.param([raw(uid=base_256(2**32, 8))], Unsupported, id="TAR-51-large"),
    pytest.param([x(("mtime", "99999999999999999999")), raw()], Malformed, id="TAR-53-large"),
    pytest.param([x(("mtime", "9223372036854775808")), raw()], Malformed, id="TAR-53-65-bits"),
    pytest.param([x(("mtime", "nan")), raw()], Malformed, id="TAR-53-nan"),
    pytest.param([x(("mtime", "1.5e3")), raw()], Malformed, id="TAR-53-exponent"),
    pytest.param([raw(type_=b"x", size=64 * MIB)], LimitExceeded, id="TAR-57-size"),
    pytest.param(
        [extension(b"x", records(("a", "b" * 10)) * 100_000), raw()], LimitExceeded, id="TAR-57-records"
    ),
    pytest.param([raw(type_=b"L", size=2 * MIB)], LimitExceeded, id="TAR-57-name"),
    pytest.param([raw(type_=b"g", size=64 * MIB)], LimitExceeded, id="TAR-57-global"),
    *(
        pytest.param([extension(b"x", text), raw()], Malformed, id=f"TAR-58-{text[:12]!r}")
        for text in (
            b"0 path=x\n",
            b"999 path=x\n",
            b"9 pathxx\n",
            b"8 path=x",
            b"+12 path=xy\n",
            b"9 pa\0h=x\n",
            b"path=x\n",
            b"4 =\n",
            b"2 \n",
            b"-1 path=x\n",
            b" 9 path=x\n",
            b"9  ath=x\nq",
            b"9" * 30 + b" a=b\n",
        )
    ),
    pytest.param([x(("path", "one")), x(("path", "two")), raw()], Malformed, id="TAR-60"),
    *(
        pytest.param([x((key, "1"), (key, "")), raw()], Malformed, id=f"TAR-59-empty-{key}")
        for key in ("path", "linkpath", "size", "uid", "gid", "mtime", "atime")
    ),
    pytest.param([x(("size", "-512")), raw(size=512, data=bytes(512))], Malformed, id="TAR-63-negative"),
    pytest.param([x(("size", "abc")), raw()], Malformed, id="TAR-63-text"),
    pytest.param([x(("size", str(2**63))), raw()], Malformed, id="TAR-63-large"),
    pytest.param([x(("size", str(2**62))), raw()], LimitExceeded, id="TAR-63-beyond-the-limit"),
    pytest.param([x(("uid", "4294967296")), raw()], Unsupported, id="TAR-65"),
    pytest.param([raw(size=base_256(2**63))], Malformed, id="TAR-66-large"),
    pytest.param([raw(size=base_256(-1024))], Malformed, id="TAR-66-negative"),
    pytest.param([raw(size=b"00000000019\0")], Malformed, id="TAR-66-digit"),
    *(
        pytest.param([raw(size=size)], Malformed, id=f"TAR-66-{size!r}")
        for size in (
            b"0o0000000010",
            b"+0000000010\0",
            b"00000_000010",
            b"0 0000000010",
            b"-1\0",
            b"\x80" + b"\xff" * 11,
        )
    ),
    pytest.param([raw(type_=b"L", size=base_256(-512))], Malformed, id="TAR-74"),
    pytest.param([long_name("a"), long_name("b"), raw()], Malformed, id="TAR-75"),
    pytest.param([long_name("a")] * 5000 + [raw()], Malformed, id="TAR-76"),
    pytest.param([x(("path", "p")), long_name("g"), raw()], Malformed, id="TAR-77-name"),
    pytest.param([long_link("g"), x(("linkpath", "p")), raw(type_=b"2")], Malformed, id="TAR-77-link"),
    pytest.param([sparse(b"1000000000\n" + b"0\n0\n" * 300_000, b"", 5)], LimitExceeded, id="TAR-79-entries"),
    pytest.param([sparse(b"9" * 3000, b"", 5)], Malformed, id="TAR-79-endless-number"),
    pytest.param([sparse(b"3\n0\n1\n", b"", 5)], Malformed, id="TAR-79-cut"),
    pytest.param([sparse(b"2\n0\n4\n2\n4\n", b"x" * 8, 9)], Malformed, id="TAR-79-overlapping"),
    pytest.param([sparse(b"2\n4\n4\n0\n4\n", b"x" * 8, 9)], Malformed, id="TAR-79-unordered"),
    pytest.param([sparse(b"1\n4\n4\n", b"x" * 4, 7)], Malformed, id="TAR-79-beyond-the-end"),
    pytest.param([sparse(b"1\n0\n4\n", b"x" * 5, 9)], Malformed, id="TAR-79-too-much-data"),
    pytest.param([sparse(b"1\n0\n4\n", b"x" * 3, 9)], Malformed, id="TAR-79-too-little-data"),
    pytest.param([sparse(b"1\n-1\n4\n", b"x" * 4, 9)], Malformed, id="TAR-79-negative"),
    pytest.param([sparse(b"0\n", b"", 2**62)], LimitExceeded, id="TAR-80"),
    pytest.param([sparse(b"0\n", b"", 2**64)], Malformed, id="TAR-80-65-bits"),
    pytest.param([raw(type_=b"S", size=0)], Unsupported, id="TAR-81-gnu"),
    pytest.param(
        [x(("GNU.sparse.map", "0,1"), ("GNU.sparse.size", "1")), raw()], Unsupported, id="TAR-81-pax-0.1"
    ),
    pytest.param(
        [x(("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")), raw()], Unsupported, id="TAR-81-pax-2.0"
    ),
    pytest.param(
        [x(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")), raw()], Malformed, id="TAR-81-no-size"
    ),
    pytest.param(
        [
            x(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1")),
            raw(type_=b"5"),
        ],
        Malformed,
        id="TAR-81-directory",
    ),
    pytest.param([raw(checksum=False)], Malformed, id="TAR-82-first"),
    pytest.param([raw(), raw(checksum=False)], Malformed, id="TAR-82-second"),
    pytest.param([raw(), bytes(BLOCK), raw()], Malformed, id="TAR-84"),
    pytest.param([x(("a", "b")), x(("a", "b"), type_=b"g"), raw()], Malformed, id="a-global-header-between"),
    pytest.param([raw(mode=base_256(-1, 8))], Malformed, id="a-negative-mode"),
    pytest.param(
        [raw(magic=b"ustar  \0", prefix=b"dir/where/an/old/go/put/it")], Malformed, id="old-go-prefix"
    ),
    pytest.param([x(("SCHILY.xattr.user.a", "v" * 70_000)), raw()], LimitExceeded, id="TAR-71-value"),
    pytest.param([x(("SCHILY.xattr.user." + "n" * 300, "v")), raw()], LimitExceeded, id="TAR-71-name"),
    pytest.param([x(("SCHILY.xattr.", "v")), raw()], LimitExceeded, id="TAR-71-no-name"),
    pytest.param([x(("path", "p" * 4097)), raw()], LimitExceeded, id="a-long-path"),
    pytest.param([x(("linkpath", "p" * 4096)), raw(type_=b"2")], LimitExceeded, id="a-long-link"),
]


@pytest.mark.parametrize(("entries", "error"), REFUSED)
def test_refuses(entries: list[bytes], error: type[UnpackError]) -> None:
    data = archive(*entries)

    with pytest.raises(error):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(x(("a", "b")), id="TAR-61-cut"),
        pytest.param(archive(x(("a", "b"))), id="TAR-61-end"),
        pytest.param(archive(long_name("a")), id="TAR-61-long-name"),
        pytest.param(raw(size=600, data=bytes(600))[:1000], id="TAR-83-data"),
        pytest.param((raw() + raw())[:1000], id="TAR-83-header"),
        pytest.param(raw(size=10 * MIB), id="TAR-83-size"),
        pytest.param(x(("a", "b"))[:600], id="TAR-83-extended-header"),
        pytest.param(b"\0" * 100, id="TAR-83-zeros"),
    ],
)
def test_refuses_what_is_cut(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(raw(size=base_256(2**63)), Malformed, id="TAR-66"),
        pytest.param(raw(size=base_256(2**62)), LimitExceeded, id="TAR-66-limit"),
        pytest.param(sparse(b"0\n", b"", 2**62), LimitExceeded, id="TAR-80"),
    ],
)
def test_refuses_at_once(data: bytes, error: type[UnpackError]) -> None:
    """Python's tarfile skips 2^63 bytes in steps, buildah expands 2^62 zeros."""
    before = time.process_time()

    with pytest.raises(error):
        read(data)

    assert time.process_time() - before < 0.01


MADE = [
    pytest.param(
        [x(("comment", "0" * 40), type_=b"g"), x(("path", "../victim/x"), ("uid", "0"), type_=b"g"), raw()],
        [b"n"],
        id="TAR-44",
    ),
    pytest.param([x(("path", "one"), ("path", "two")), raw()], [b"two"], id="TAR-59"),
    pytest.param([x(("uname", ""), ("comment", "")), raw()], [b"n"], id="empty-records-that-mean-nothing"),
    pytest.param([x(("hdrcharset", "BINARY"), ("path", b"\xff")), raw()], [b"\xff"], id="TAR-64"),
    pytest.param([long_link("k"), long_name("l"), raw(type_=b"2")], [b"l"], id="TAR-75"),
    pytest.param([x(("path", "p")), long_name("p"), raw()], [b"p"], id="TAR-77-equal"),
    pytest.param(
        [raw(b"n", magic=b"ustar\x0000", prefix=b"p" * 155)], [b"p" * 155 + b"/n"], id="ustar-prefix"
    ),
    pytest.param(
        [raw(b"n", prefix=b"p" * 131 + b"00000000000\0" * 2, padding=b"\0" * 8 + b"tar\0")],
        [b"p" * 131 + b"/n"],
        id="star-prefix",
    ),
    pytest.param(
        [raw(b"n", magic=b"ustar  \0", prefix=b"00000000001\0" * 2)], [b"n"], id="gnu-times-are-no-prefix"
    ),
    pytest.param([raw(b"n", magic=bytes(8), prefix=b"p")], [b"n"], id="v7-has-no-prefix"),
    pytest.param([raw(b"n" * 100)], [b"n" * 100], id="a-name-that-fills-its-field"),
    pytest.param(
        [x(("LIBARCHIVE.xattr.a", "b"), ("SCHILY.acl.access", "u"), ("MSWINDOWS.rawsd", "A")), raw()],
        [b"n"],
        id="TAR-73",
    ),
]


@pytest.mark.parametrize(("entries", "expected"), MADE)
def test_names(entries: list[bytes], expected: list[bytes]) -> None:
    assert names(archive(*entries, raw(b"after"))) == [*expected, b"after"]


def test_TAR_45_takes_an_old_name_with_a_slash_for_a_directory() -> None:
    ((found, _),) = read(archive(raw(b"d/", type_=b"\0", magic=bytes(8))))

    assert found.kind is Kind.DIRECTORY


def test_TAR_78_decides_by_the_whole_name() -> None:
    """CPython gh-141707 loses what follows."""
    data = archive(long_name("e" * 119), raw(b"d" * 99 + b"/", type_=b"\0"), file("after"))

    assert [(found.name, found.kind) for found, _ in read(data)] == [
        (b"e" * 119, Kind.FILE),
        (b"after", Kind.FILE),
    ]


def test_TAR_62_takes_the_size_of_the_record() -> None:
    data = archive(x(("size", "1")), raw(size=1024, data=b"1"), file("z", b"2"))

    assert [(found.name, body) for found, body in read(data)] == [(b"n", b"1"), (b"z", b"2")]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        pytest.param([("mtime", "-1.5")], -1_500_000_000, id="TAR-53-negative"),
        pytest.param([("mtime", "8589934592")], 2**33 * 10**9, id="TAR-53-34-bits"),
        pytest.param([("mtime", "1.")], 10**9, id="no-fraction"),
        pytest.param([("mtime", "1.0000000019")], 10**9 + 1, id="more-digits-than-nanoseconds"),
        pytest.param([("mtime", "-0.000000001")], -1, id="just-before-1970"),
    ],
)
def test_TAR_53_reads_times(pairs: list[tuple[str, str]], expected: int) -> None:
    ((found, _),) = read(archive(x(*pairs), raw()))

    assert (found.mtime, found.atime) == (expected, expected)


def test_reads_times_before_1970_from_base_256() -> None:
    ((found, _),) = read(archive(raw(mtime=base_256(-5))))

    assert found.mtime == -5 * 10**9


def test_TAROK_05_reads_the_time_of_access() -> None:
    ((found, _),) = read(archive(x(("atime", "7.5"), ("ctime", "9")), raw()))

    assert (found.mtime, found.atime) == (0, 7_500_000_000)


@pytest.mark.parametrize("uid", [2**31, 2**32 - 2])
def test_TAR_51_takes_owners_of_32_bits(uid: int) -> None:
    ((found, _),) = read(archive(raw(uid=base_256(uid, 8))))

    assert found.uid == uid


def test_TAR_65_ignores_names_of_owners() -> None:
    ((found, _),) = read(archive(x(("uname", "root"), ("gname", "root")), entry("n", uid=1000, gid=1000)))

    assert (found.uid, found.gid) == (1000, 1000)


@pytest.mark.parametrize("block", [1, 7, 512, 700, MIB])
def test_TAR_81_reads_sparse_files_of_pax_1_0(block: int) -> None:
    data = archive(sparse(b"3\n2\n3\n7\n1\n100\n0\n", b"abcd", 100), file("z", b"2"))

    (first, body), (second, _) = read(data, block=block)

    assert (first.name, first.size, body) == (b"s", 100, b"abcd")
    assert first.segments == (Segment(2, 3), Segment(7, 1), Segment(100, 0))
    assert second.name == b"z"


@pytest.mark.parametrize(
    "end", [b"", bytes(BLOCK), bytes(2 * BLOCK), bytes(20 * BLOCK), bytes(2 * BLOCK + 100)]
)
def test_TAR_85_ends_with_any_number_of_zeros(end: bytes) -> None:
    assert names(archive(raw(), end=end)) == [b"n"]


def test_TAR_83_does_not_miss_the_padding_of_the_last_entry() -> None:
    ((_, body),) = read(raw(size=600, data=bytes(600))[: BLOCK + 600])

    assert len(body) == 600


def test_TAR_86_reads_but_ignores_what_follows_the_end() -> None:
    consumed = 0

    def blocks() -> Iterator[bytes]:
        nonlocal consumed
        for block in (archive(raw(b"a")), archive(raw(b"b")), b"junk" * 1000):
            consumed += 1
            yield block

    assert [found.name for found in TarReader(blocks(), Limits())] == [b"a"]
    assert consumed == 3


@pytest.mark.parametrize("data", [b"", bytes(1024)])
def test_TAR_87_reads_empty_layers(data: bytes) -> None:
    assert read(data) == []


def test_TAR_88_reads_old_numbers() -> None:
    header = raw(b"n\xff\xfe", mode=b"  644 \0 ", size=b"          3 ", data=b"abc")
    signed = sum(byte - 256 if byte > 127 else byte for byte in header[:148] + b" " * 8 + header[156:512])
    data = header[:148] + b"%6o\0 " % signed + header[156:]

    ((found, body),) = read(archive(data))

    assert (found.mode, body) == (0o644, b"abc")


def test_TAROK_05_reads_sizes_beyond_octal() -> None:
    """Nothing follows such a header, so the data is missing and the size was understood."""
    with pytest.raises(Malformed, match="cut in the data"):
        read(raw(size=base_256(9 << 30)))


def test_TAR_93_counts_entries() -> None:
    data = archive(*[raw()] * 11)

    assert len(read(data, Limits(entries=11))) == 11
    with pytest.raises(LimitExceeded):
        read(data, Limits(entries=10))


def test_TAR_93_counts_global_headers() -> None:
    with pytest.raises(LimitExceeded):
        read(archive(*[x(("a", "b"), type_=b"g")] * 11), Limits(entries=10))


def test_UNP_07_counts_the_bytes_of_files_with_holes() -> None:
    entries = [sparse(b"0\n", b"", 60), sparse(b"0\n", b"", 60)]

    with pytest.raises(LimitExceeded):
        read(archive(*entries), Limits(unpacked=100))


@pytest.mark.parametrize("block", [1, 7, 511, 512, 513, 4096])
def test_reads_the_same_from_blocks_of_any_size(block: int) -> None:
    data = archive(
        file("a", b"1" * 700),
        directory("d"),
        file("d/" + "e" * 200, b"22"),
        link("l", "a"),
        x(("path", "p")),
        raw(),
    )

    assert read(data, block=block) == read(data)


def test_passes_over_data_that_nobody_reads() -> None:
    reader = TarReader(iter([archive(file("a", b"1" * 700), file("b"))]), Limits())

    assert [found.name for found in reader] == [b"a", b"b"]
