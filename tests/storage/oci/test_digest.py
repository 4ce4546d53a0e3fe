import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.oci.digest import ALGORITHMS, Digest, hasher
from storage.oci.errors import DigestInvalid

HEX_LENGTH = {"sha256": 64, "sha512": 128}

digests = st.sampled_from(ALGORITHMS).flatmap(
    lambda algorithm: st.builds(
        Digest,
        st.just(algorithm),
        st.text("0123456789abcdef", min_size=HEX_LENGTH[algorithm], max_size=HEX_LENGTH[algorithm]),
    )
)


@given(digests)
def test_prints_what_it_reads(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest


@given(st.text(max_size=200) | st.from_regex(r"sha(256|512):[a-fA-F0-9]{60,130}\n?"))
def test_api_02_reads_any_text_exactly_or_refuses_it(text: str) -> None:
    with contextlib.suppress(DigestInvalid):
        assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("sha256", id="no-colon"),
        pytest.param("sha256:", id="no-hex"),
        pytest.param("sha256:" + "a" * 63, id="short"),
        pytest.param("sha256:" + "a" * 65, id="long"),
        pytest.param("sha256:" + "A" * 64, id="upper-case"),
        pytest.param("SHA256:" + "a" * 64, id="upper-case-algorithm"),
        pytest.param("sha256:" + "g" * 64, id="not-hex"),
        pytest.param("sha256:" + "a" * 64 + "\n", id="trailing-newline"),
        pytest.param(" sha256:" + "a" * 64, id="leading-space"),
        pytest.param("sha256:" + "a" * 128, id="sha256-of-sha512-length"),
        pytest.param("sha512:" + "a" * 64, id="sha512-of-sha256-length"),
        pytest.param("sha384:" + "a" * 96, id="sha384"),
        pytest.param("blake3:" + "a" * 64, id="blake3"),
        pytest.param("md5:" + "a" * 32, id="md5"),
        pytest.param("sha256:../../etc/passwd", id="path"),
        pytest.param("sha256:" + "\u0661" * 64, id="other-digits"),
    ],
)
def test_api_02_refuses(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_computes_the_digest_of_bytes(algorithm: str) -> None:
    digest = Digest.of(b"cargo", algorithm)

    assert digest == Digest(algorithm, hashlib.new(algorithm, b"cargo").hexdigest())
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_hashes_in_pieces(algorithm: str) -> None:
    running = hasher(algorithm)
    running.update(b"car")
    fork = running.copy()
    running.update(memoryview(b"go"))

    assert Digest(algorithm, running.hexdigest()) == Digest.of(b"cargo", algorithm)
    assert Digest(algorithm, fork.hexdigest()) == Digest.of(b"car", algorithm)


@pytest.mark.parametrize("algorithm", ["", "md5", "SHA256", "sha256\n", "blake3", "x" * 1000])
def test_refuses_an_algorithm_that_it_does_not_compute(algorithm: str) -> None:
    with pytest.raises(DigestInvalid):
        hasher(algorithm)
    with pytest.raises(DigestInvalid):
        Digest.of(b"", algorithm)


def test_is_sha256_unless_told() -> None:
    assert str(Digest.of(b"{}")) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
