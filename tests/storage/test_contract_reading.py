"""What every BlobStore does about claims and with committed bytes (TEST-05)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from storage.blobs import BlobStore, Location
from storage.oci.digest import ALGORITHMS
from storage.oci.errors import BlobRangeInvalid, BlobUnknown, RangeInvalid
from tests.storage.pushing import OpenStore, content, push


def test_lets_one_claim_an_upload(open_store: OpenStore) -> None:
    store, other = open_store(), open_store()
    upload = store.begin()

    with store.claim(upload):
        for refused in (store, other):
            with pytest.raises(RangeInvalid, match="another request"), refused.claim(upload):
                pytest.fail("claimed twice")

    with other.claim(upload):
        pass


def test_frees_a_claim_whose_holder_failed(store: BlobStore) -> None:
    upload = store.begin()
    with pytest.raises(KeyError), store.claim(upload):
        raise KeyError

    with store.claim(upload):
        pass


def test_lets_one_of_many_threads_claim_an_upload(store: BlobStore) -> None:
    upload = store.begin()
    tried, results = threading.Barrier(8), []

    def claim() -> None:
        held = store.claim(upload)
        try:
            held.__enter__()
        except RangeInvalid:
            results.append("refused")
            tried.wait()
        else:
            results.append("claimed")
            tried.wait()
            held.__exit__(None, None, None)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(claim) for _ in range(8)]:
            done.result()

    assert sorted(results) == ["claimed"] + ["refused"] * 7


def test_claims_two_uploads_at_once(store: BlobStore) -> None:
    with store.claim(store.begin()), store.claim(store.begin()):
        pass


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        pytest.param(0, None, b"0123456789", id="all"),
        pytest.param(0, 10, b"0123456789", id="all-said"),
        pytest.param(3, None, b"3456789", id="from"),
        pytest.param(3, 5, b"34", id="between"),
        pytest.param(9, 10, b"9", id="last"),
        pytest.param(4, 4, b"", id="none"),
        pytest.param(10, None, b"", id="end"),
    ],
)
def test_opens_a_range(store: BlobStore, start: int, stop: int | None, expected: bytes) -> None:
    location = push(store, b"0123456789")

    with closing(store.open(location, start, stop)) as file:
        assert file.read(1) + file.read(100) == expected
        assert file.read(100) == b""


@pytest.mark.parametrize(("start", "stop"), [(0, 11), (11, None), (11, 12), (5, 4), (-1, 3), (0, -1)])
def test_refuses_a_range_that_is_not_there(store: BlobStore, start: int, stop: int | None) -> None:
    location = push(store, b"0123456789")

    with pytest.raises(BlobRangeInvalid) as refused:
        store.open(location, start, stop)

    assert refused.value.headers == {"Content-Range": "bytes */10"}


def test_reads_on_at_another_offset_of_what_is_open(store: BlobStore) -> None:
    location = push(store, b"0123456789")

    with closing(store.open(location, 2, 8)) as file:
        assert file.seek(6) == 6
        assert file.read(100) == b"67"
        assert file.seek(2) == 2
        assert file.read(2) == b"23"
        for outside in (1, 9):
            with pytest.raises(ValueError, match="not within"):
                file.seek(outside)


@pytest.mark.parametrize(
    "location",
    [
        pytest.param(f"blobs/sha256/00/{'0' * 64}.{'0' * 16}", id="absent"),
        pytest.param(f"blobs/sha256/{'0' * 64}", id="absent-plain"),
        pytest.param(f"blobs/sha256/11/{'0' * 64}.{'0' * 16}", id="wrong-fan-out"),
        pytest.param(f"blobs/sha256/00/{'0' * 128}.{'0' * 16}", id="wrong-length"),
        pytest.param(f"blobs/sha256/../{'0' * 64}", id="parent"),
        pytest.param("blobs/../uploads/x", id="escape"),
        pytest.param("/etc/passwd", id="absolute"),
        pytest.param(f"blobs/sha256/{'0' * 64}\n", id="newline"),
        pytest.param("", id="empty"),
    ],
)
def test_knows_no_location_that_it_did_not_make(store: BlobStore, location: str) -> None:
    with pytest.raises(BlobUnknown):
        store.open(Location(location))
    with pytest.raises(BlobUnknown):
        store.size(Location(location))


def test_deletes_and_forgets(store: BlobStore) -> None:
    location = push(store, b"x")

    store.delete(location)
    store.delete(location)

    assert list(store.locations()) == []
    with pytest.raises(BlobUnknown):
        store.open(location)


def test_crash_18_stores_again_what_was_deleted(store: BlobStore) -> None:
    store.delete(push(store, b"x"))

    assert content(store, push(store, b"x")) == b"x"


def test_lists_every_location_once(store: BlobStore) -> None:
    pushed = [push(store, b"%d" % number, ALGORITHMS[number % 2]) for number in range(12)]

    assert sorted(store.locations()) == sorted(pushed)


def test_lists_uploads_of_every_algorithm(store: BlobStore) -> None:
    begun = [store.begin(algorithm) for algorithm in ALGORITHMS]

    assert sorted(store.uploads()) == sorted(begun)


def test_crash_06_commits_one_digest_many_times_at_once(store: BlobStore) -> None:
    data = b"the same" * 10_000
    start = threading.Barrier(6)

    def push_at_once() -> Location:
        start.wait()
        return push(store, data)

    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(push_at_once) for _ in range(6)]

    for location in {future.result() for future in done}:
        assert content(store, location) == data


def test_says_what_room_is_left(store: BlobStore) -> None:
    free = store.free_bytes()

    assert free is None or free > 0


def test_gives_a_url_or_none(store: BlobStore) -> None:
    url = store.url(push(store, b"x"))

    assert url is None or url.startswith("http")
