"""What every BlobStore does with an upload (TEST-05); test_contract_reading.py has the rest."""

from contextlib import closing
from functools import partial

import pytest

from storage.blobs import Appended, BlobStore, UploadId
from storage.oci.digest import ALGORITHMS, Digest
from storage.oci.errors import BlobUploadUnknown, DigestInvalid, RangeInvalid
from tests.storage.pushing import OpenStore, append, commit, content, push


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 1, 4096, 3 * 1024 * 1024 + 1])
def test_keeps_what_was_pushed(store: BlobStore, algorithm: str, size: int) -> None:
    data = (b"0123456789abcde" * (size // 15 + 1))[:size]

    location = push(store, data, algorithm)

    assert store.size(location) == size
    assert content(store, location) == data


def test_hides_content_until_its_commit(store: BlobStore) -> None:
    upload = store.begin()
    appended = append(store, upload, 0, b"content")

    assert list(store.locations()) == []
    assert list(store.uploads()) == [upload]

    location = commit(store, upload, Digest.of(b"content"), appended)

    assert list(store.locations()) == [location]
    assert list(store.uploads()) == []


def test_names_uploads_by_128_random_bits(store: BlobStore) -> None:
    uploads = {store.begin() for _ in range(20)}

    assert len(uploads) == 20
    assert all(len(upload) == 32 and int(upload, 16) >= 0 for upload in uploads)


def test_refuses_an_algorithm_that_it_does_not_compute(store: BlobStore) -> None:
    with pytest.raises(DigestInvalid):
        store.begin("md5")


def test_hashes_with_the_algorithm_of_the_expected_digest(store: BlobStore) -> None:
    upload = store.begin(expected=Digest.of(b"data", "sha512"))

    assert append(store, upload, 0, b"data").digest == Digest.of(b"data", "sha512")


def test_tells_offset_and_digest_at_every_flush(store: BlobStore) -> None:
    upload = store.begin()

    with store.claim(upload), closing(store.append(upload, 0)) as writer:
        writer.write(b"one")
        assert writer.flush() == Appended(3, Digest.of(b"one"))
        writer.write(memoryview(b"two"))
        assert writer.flush() == Appended(6, Digest.of(b"onetwo"))

    assert store.offset(upload) == 6


def test_hashes_on_in_the_process_that_has_the_state(store: BlobStore) -> None:
    upload = store.begin("sha512")
    first = append(store, upload, 0, b"one")

    second = append(store, upload, first.offset, b"two", first.digest)

    assert second == Appended(6, Digest.of(b"onetwo", "sha512"))


def test_does_not_know_the_digest_of_bytes_another_process_wrote(open_store: OpenStore) -> None:
    upload = open_store().begin()
    first = append(open_store(), upload, 0, b"one")

    second = append(open_store(), upload, 3, b"two", first.digest)

    assert second == Appended(6, None)


def test_crash_04_computes_the_digest_from_stored_bytes_after_a_restart(open_store: OpenStore) -> None:
    before, after = open_store(), open_store()
    upload = before.begin()
    append(before, upload, 0, b"one")

    appended = append(after, upload, 3, b"two")
    with pytest.raises(DigestInvalid):
        commit(after, upload, Digest.of(b"onetwo!"), appended)
    location = commit(after, upload, Digest.of(b"onetwo"), appended)

    assert content(after, location) == b"onetwo"


def test_crash_04_does_not_trust_a_hash_state_whose_bytes_were_replaced(open_store: OpenStore) -> None:
    """One process writes and cannot acknowledge; the client goes on with other bytes at another one."""
    one, other = open_store(), open_store()
    upload = one.begin()
    append(one, upload, 0, b"evil")
    row = append(other, upload, 0, b"good")

    with_proof = append(one, upload, 4, b"!", row.digest)
    assert with_proof == Appended(5, None)
    with pytest.raises(DigestInvalid):
        commit(one, upload, Digest.of(b"evil!"), with_proof)

    location = commit(one, upload, Digest.of(b"good!"), with_proof)
    assert content(one, location) == b"good!"


def test_crash_04_does_not_trust_what_a_writer_of_an_earlier_claim_left(open_store: OpenStore) -> None:
    one, other = open_store(), open_store()
    upload = one.begin()
    append(one, upload, 0, b"evil")
    append(other, upload, 0, b"good")

    with pytest.raises(DigestInvalid):
        commit(one, upload, Digest.of(b"evil"))


def test_commits_what_was_written_and_never_flushed(store: BlobStore) -> None:
    upload = store.begin()

    with store.claim(upload):
        with closing(store.append(upload, 0)) as writer:
            writer.write(b"whole")
        location = store.commit(upload, Digest.of(b"whole"), Appended(0, None))

    assert content(store, location) == b"whole"


@pytest.mark.parametrize("offset", [1, 3, 2**40])
def test_refuses_to_append_where_bytes_are_missing(store: BlobStore, offset: int) -> None:
    upload = store.begin()
    append(store, upload, 0, b"x")
    offset += 1

    with pytest.raises(RangeInvalid) as refused:
        append(store, upload, offset, b"y")

    assert refused.value.headers == {"Range": "0-0"}
    assert store.offset(upload) == 1


def test_drops_bytes_that_were_never_acknowledged(store: BlobStore) -> None:
    upload = store.begin()
    row = append(store, upload, 0, b"kept")
    append(store, upload, 4, b" and lost", row.digest)

    row = append(store, upload, 4, b"!", row.digest)

    assert row.offset == 5
    assert content(store, commit(store, upload, Digest.of(b"kept!"), row)) == b"kept!"


def test_keeps_what_was_written_before_a_close_without_flush(store: BlobStore) -> None:
    upload = store.begin()

    with store.claim(upload), closing(store.append(upload, 0)) as writer:
        writer.write(b"cut off")

    assert store.offset(upload) == 7


def test_takes_no_bytes_after_close(store: BlobStore) -> None:
    upload = store.begin()
    with store.claim(upload):
        writer = store.append(upload, 0)
        writer.close()
        writer.close()

        with pytest.raises(ValueError, match="closed"):
            writer.write(b"late")
        with pytest.raises(ValueError, match="closed"):
            writer.flush()


@pytest.mark.parametrize(
    "verified",
    [
        pytest.param(None, id="nothing-known"),
        pytest.param(Appended(7, None), id="no-digest"),
        pytest.param(Appended(7, Digest.of(b"content")), id="the-digest-of-the-upload"),
        pytest.param(Appended(7, Digest.of(b"content", "sha512")), id="another-algorithm"),
    ],
)
def test_refuses_a_wrong_digest_and_keeps_the_upload(
    open_store: OpenStore, verified: Appended | None
) -> None:
    upload = open_store().begin()
    append(open_store(), upload, 0, b"content")
    store = open_store()

    with pytest.raises(DigestInvalid):
        commit(store, upload, Digest.of(b"other"), verified)

    assert list(store.locations()) == []
    assert store.offset(upload) == 7
    assert content(store, commit(store, upload, Digest.of(b"content"), verified)) == b"content"


def test_does_not_believe_a_digest_of_fewer_bytes_than_there_are(open_store: OpenStore) -> None:
    upload = open_store().begin()
    row = append(open_store(), upload, 0, b"short")
    append(open_store(), upload, 5, b"ened")

    with pytest.raises(DigestInvalid):
        commit(open_store(), upload, Digest.of(b"short"), row)


def test_commits_by_another_algorithm_than_the_upload_was_begun_with(store: BlobStore) -> None:
    upload = store.begin("sha256")
    row = append(store, upload, 0, b"content")

    location = commit(store, upload, Digest.of(b"content", "sha512"), row)

    assert content(store, location) == b"content"


def test_ends_an_upload_with_its_commit(store: BlobStore) -> None:
    upload = store.begin()
    row = append(store, upload, 0, b"x")
    commit(store, upload, Digest.of(b"x"), row)

    _assert_unknown(store, upload)


def test_ends_an_upload_with_its_abort(store: BlobStore) -> None:
    upload = store.begin()
    append(store, upload, 0, b"x")

    store.abort(upload)
    store.abort(upload)

    _assert_unknown(store, upload)
    assert list(store.uploads()) == []


@pytest.mark.parametrize(
    "upload",
    [
        pytest.param("0" * 32, id="never-begun"),
        pytest.param("", id="empty"),
        pytest.param("../blobs/sha256/aa", id="parent"),
        pytest.param("A" * 32, id="upper-case"),
        pytest.param("0" * 32 + "\n", id="newline"),
        pytest.param("0" * 31 + "\0", id="nul"),
        pytest.param("0" * 33, id="long"),
    ],
)
def test_knows_no_upload_that_it_did_not_begin(store: BlobStore, upload: str) -> None:
    store.abort(UploadId(upload))

    _assert_unknown(store, UploadId(upload))


def _assert_unknown(store: BlobStore, upload: UploadId) -> None:
    for use in (
        partial(store.offset, upload),
        partial(store.append, upload, 0),
        partial(store.commit, upload, Digest.of(b"x"), None),
        store.claim(upload).__enter__,
    ):
        with pytest.raises(BlobUploadUnknown):
            use()
