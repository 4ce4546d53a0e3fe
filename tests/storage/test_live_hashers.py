from storage.blobs import UploadId
from storage.live_hashers import LiveHasher, LiveHashers
from storage.oci.digest import Digest, hasher


def live(data: bytes) -> LiveHasher:
    hash_ = hasher("sha256")
    hash_.update(data)
    return LiveHasher("sha256", hash_)


def test_gives_a_hasher_once_to_who_knows_its_digest() -> None:
    hashers, upload, kept = LiveHashers(), UploadId("a"), live(b"x")
    hashers.keep(upload, kept)

    assert hashers.take(upload, Digest.of(b"x")) is kept
    assert hashers.take(upload, Digest.of(b"x")) is None


def test_gives_no_hasher_without_proof() -> None:
    hashers, upload = LiveHashers(), UploadId("a")

    for digest in (None, Digest.of(b"y"), Digest.of(b"x", "sha512")):
        hashers.keep(upload, live(b"x"))
        assert hashers.take(upload, digest) is None


def test_keeps_the_latest_of_many_uploads() -> None:
    hashers = LiveHashers()
    for number in range(300):
        hashers.keep(UploadId(str(number)), live(b"x"))
        hashers.keep(UploadId("0"), live(b"x"))

    found = [number for number in range(300) if hashers.take(UploadId(str(number)), Digest.of(b"x"))]

    assert found == [0, *range(45, 300)]
