"""Range headers: the parser against the RFC's words, and what zstd:chunked and resuming clients get."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.ranges import MOST_RANGES, ByteRange, parse
from storage.oci.errors import BlobRangeInvalid
from tests.registry.conftest import WAYS
from tests.registry.pushing import Repository, error_code

CONTENT = bytes(range(256)) * 16
NUMBER = st.integers(0, 40).map(str)
SPEC = st.one_of(
    st.tuples(NUMBER, NUMBER).map("-".join),
    NUMBER.map("{}-".format),
    NUMBER.map("-{}".format),
    st.text("0123456789-, \t", max_size=6),
    st.sampled_from(
        ["-", "", "0-" + "9" * 19, "0-" + "9" * 20, "-" + "9" * 19, "²-³", "٣-٤", "+1-2", "0x1-2"]
    ),
)
UNHURRIED = settings(deadline=None)


def wanted(spec: str, size: int) -> set[int] | None:
    """Say which bytes a spec asks for, byte by byte; None for what the RFC's grammar does not have."""
    spec = spec.strip(" \t")
    first, hyphen, last = spec.partition("-")
    numbers = [number for number in (first, last) if number]
    if not hyphen or not numbers or any(re.fullmatch("[0-9]{1,19}", number) is None for number in numbers):
        return None
    if not first:
        return set(range(size)[-int(last) :]) if int(last) else set()
    if last and int(last) < int(first):
        return None
    return {byte for byte in range(size) if int(first) <= byte <= int(last or size)}


def parsed(header: str, size: int) -> list[ByteRange] | None:
    """Parse; an empty list stands for a refusal."""
    try:
        return parse(header, size)
    except BlobRangeInvalid:
        return []


@UNHURRIED
@given(st.lists(SPEC, max_size=5), st.integers(0, 40))
def test_http_09_a_header_means_what_the_rfc_says(specs: list[str], size: int) -> None:
    header = "bytes=" + ",".join(specs)
    asked = [wanted(spec, size) for text in specs for spec in text.split(",") if spec.strip(" \t")]
    bytes_asked = [part for part in asked if part]

    found = parsed(header, size)

    if not asked or None in asked:
        assert found is None, "what is no range is as if it were not there"
    elif not bytes_asked:
        assert found == [], "no byte of the blob was asked for"
    elif sum(map(len, bytes_asked)) != len(set().union(*bytes_asked)):
        assert found is None, "overlapping ranges would send more than there is"
    else:
        assert found is not None
        assert [set(range(part.start, part.stop)) for part in found] == bytes_asked


@UNHURRIED
@given(st.text(max_size=50), st.integers(0, 2**62))
def test_http_09_any_header_is_read_refused_or_ignored(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        found = parsed(header, size)
        assert found is None or all(0 <= part.start < part.stop <= size for part in found)


def test_no_header_is_the_whole_blob() -> None:
    assert parse(None, 10) is None


@pytest.mark.parametrize("size", [0, 10])
@pytest.mark.parametrize(
    "header", ["bytes=10-", "bytes=-0", "bytes=10-20,11-", "bytes=9999999999-9999999999"]
)
def test_no_byte_is_416(header: str, size: int) -> None:
    with pytest.raises(BlobRangeInvalid):
        parse(header, size)


def test_an_empty_blob_has_no_first_byte() -> None:
    with pytest.raises(BlobRangeInvalid):
        parse("bytes=0-0", 0)


def test_what_is_behind_the_end_falls_away() -> None:
    assert parse("bytes=0-1,500-600,8-99", 10) == [ByteRange(0, 2), ByteRange(8, 10)]


def test_http_09_as_many_ranges_as_zstd_chunked_sends_and_no_more() -> None:
    header = "bytes=" + ",".join(f"{2 * number}-{2 * number}" for number in range(MOST_RANGES))

    found = parse(header, 4 * MOST_RANGES)

    assert found is not None
    assert len(found) == MOST_RANGES
    assert parse(f"{header},4000-4000", 4 * MOST_RANGES) is None
    assert parse("bytes=" + "," * 1_000_000, 10) is None


# Over HTTP, with and without the extensions


@pytest.fixture(params=WAYS, scope="module", name="way")
def every_way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("start", [1, 100, len(CONTENT) - 1])
def test_docker_and_containerd_go_on_where_they_were_cut(repository: Repository, start: int) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.get(f"blobs/{digest}", Range=f"bytes={start}-")

    assert response.status_code == 206
    assert response.content == CONTENT[start:]
    assert response.headers["Content-Range"] == f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert response.headers["Content-Length"] == str(len(CONTENT) - start)
    assert response.headers["Docker-Content-Digest"] == str(digest), "of the blob, not of the part"


def test_a_client_that_has_all_is_told_so(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.get(f"blobs/{digest}", Range=f"bytes={len(CONTENT)}-")

    assert (response.status_code, error_code(response)) == (416, "SIZE_INVALID")
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"
    assert response.json()["errors"][0]["detail"] == {"size": len(CONTENT)}


@pytest.mark.parametrize(
    ("header", "status"), [("bytes=0-0", 416), ("bytes=0-", 416), ("bytes=-1", 416), ("bytes=x", 200)]
)
def test_an_empty_blob_has_no_range(repository: Repository, header: str, status: int) -> None:
    digest = repository.push_blob(b"")

    response = repository.get(f"blobs/{digest}", Range=header)

    assert response.status_code == status


def test_zstd_chunked_gets_a_thousand_pieces_in_one_answer(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)
    starts = range(0, len(CONTENT), 4)
    header = "bytes=" + ",".join(f"{start}-{start + 1}" for start in starts)
    assert len(starts) == MOST_RANGES

    response = repository.get(f"blobs/{digest}", Range=header)

    assert response.status_code == 206
    assert response.headers["Content-Length"] == str(len(response.content))
    boundary = response.headers["Content-Type"].removeprefix("multipart/byteranges; boundary=").encode()
    first, *parts, last = response.content.split(b"\r\n--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    for start, part in zip(starts, parts, strict=True):
        head, _, body = part.partition(b"\r\n\r\n")
        assert f"Content-Range: bytes {start}-{start + 1}/{len(CONTENT)}".encode() in head
        assert body == CONTENT[start : start + 2]


def test_head_tells_the_whole_size_whatever_the_range(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.http.head(f"{repository.url}/blobs/{digest}", headers={"Range": "bytes=0-9"})

    assert response.status_code == 200
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        pytest.param('"{}"', 206, id="same"),
        pytest.param('W/"{}"', 200, id="weak-is-never-the-same"),
        pytest.param('"other"', 200, id="other"),
        pytest.param("Wed, 21 Oct 2015 07:28:00 GMT", 200, id="date"),
    ],
)
def test_if_range_decides_whether_the_range_counts(
    repository: Repository, if_range: str, status: int
) -> None:
    digest = repository.push_blob(CONTENT)

    response = repository.get(
        f"blobs/{digest}", **{"Range": "bytes=0-9", "If-Range": if_range.format(digest)}
    )

    assert response.status_code == status


def test_a_manifest_is_always_whole(repository: Repository) -> None:
    body = repository.push_image("v1")

    response = repository.get("manifests/v1", Range="bytes=0-9")

    assert (response.status_code, response.content) == (200, body)
