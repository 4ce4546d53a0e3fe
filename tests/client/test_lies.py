"""A session and registries that break off, lie, or ask for patience (NET-09, NET-10, CLI-01 to CLI-08)."""

import gzip
from collections.abc import Callable, Iterable

import pytest

from client.errors import AnswerInvalid, AnswerTooLarge, ContentMismatch, Unreachable
from client.session import Session
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import (
    ManifestInvalid,
    ManifestUnknown,
    RegistryError,
)
from storage.oci.manifest import MANIFEST_LIMIT, Manifest
from storage.oci.media_types import IMAGE_MANIFEST, OCTET_STREAM
from storage.oci.names import RepositoryName, Tag
from tests.client.conftest import Open
from tests.client.lying import (
    Received,
    cut,
    endless,
    lying,
    reply,
    reply_json,
    reply_range,
)
from tests.registry.pushing import image

NAME = RepositoryName("library/app")
MANIFEST = image(b"{}", b"layer")
DIGEST = Digest.of(MANIFEST)
BLOB = bytes(range(256)) * 100
BLOB_DIGEST = Digest.of(BLOB)
TYPE = {"Content_Type": IMAGE_MANIFEST}


# Manifests


def test_cli_08_refuses_another_manifest_than_was_pinned(open_session: Open) -> None:
    with lying(lambda _: reply(200, MANIFEST + b"\n", **TYPE, Docker_Content_Digest=DIGEST)) as server:
        session = open_session(server.address)

        with pytest.raises(ContentMismatch):
            session.get_manifest(NAME, DIGEST)


def test_cli_08_refuses_the_head_of_another_manifest(open_session: Open) -> None:
    headers = TYPE | {"Docker_Content_Digest": str(Digest.of(b"other"))}
    with (
        lying(lambda _: reply(200, MANIFEST, **headers)) as server,
        pytest.raises(ContentMismatch),
    ):
        open_session(server.address).head_manifest(NAME, DIGEST)


def test_cli_05_the_digest_of_what_was_fetched_wins(open_session: Open) -> None:
    headers = TYPE | {"Docker_Content_Digest": str(Digest.of(b"moved meanwhile"))}
    with lying(lambda _: reply(200, MANIFEST, **headers)) as server:
        assert open_session(server.address).get_manifest(NAME, Tag("v1")).digest == DIGEST


def test_cli_05_refuses_a_manifest_of_another_size_than_its_descriptor(open_session: Open) -> None:
    with (
        lying(lambda _: reply(200, MANIFEST, **TYPE)) as server,
        pytest.raises(ContentMismatch, match="descriptor"),
    ):
        open_session(server.address).get_manifest(NAME, DIGEST, len(MANIFEST) + 1)


@pytest.mark.parametrize("framing", ["announced", "endless"])
def test_cli_06_refuses_a_manifest_above_four_mebibytes(open_session: Open, framing: str) -> None:
    def answer(_: Received) -> Iterable[bytes]:
        return reply(200, b" " * (MANIFEST_LIMIT + 1), **TYPE) if framing == "announced" else endless()

    with lying(answer) as server, pytest.raises(AnswerTooLarge):
        open_session(server.address).get_manifest(NAME, Tag("v1"))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="html"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"schemaVersion":1}', id="schema-1"),
    ],
)
def test_cli_06_refuses_what_is_no_manifest(open_session: Open, body: bytes) -> None:
    with lying(lambda _: reply(200, body, **TYPE)) as server, pytest.raises(ManifestInvalid):
        open_session(server.address).get_manifest(NAME, Tag("v1"))


def test_fetches_what_the_head_does_not_describe(open_session: Open) -> None:
    with lying(lambda _: reply(200, MANIFEST, **TYPE)) as server:
        found = open_session(server.address).head_manifest(NAME, Tag("v1"))

        assert found == Descriptor(IMAGE_MANIFEST, DIGEST, len(MANIFEST))
        assert [each.method for each in server.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("call", ["get", "blob", "error"])
def test_net_10_refuses_encoded_content(open_session: Open, call: str) -> None:
    calls: dict[str, Callable[[Session], object]] = {
        "get": lambda session: session.get_manifest(NAME, Tag("v1")),
        "error": lambda session: session.get_manifest(NAME, Tag("v1")),
        "blob": lambda session: list(session.open_blob(NAME, BLOB_DIGEST)),
    }
    status = 404 if call == "error" else 200
    body = gzip.compress(MANIFEST)
    with lying(lambda _: reply(status, body, **TYPE, Content_Encoding="gzip")) as server:
        session = open_session(server.address)

        with pytest.raises(ManifestUnknown if call == "error" else AnswerInvalid):
            calls[call](session)

        assert server.requests[0].headers["accept-encoding"] == "identity"


def test_cli_01_tells_when_the_registry_stored_something_else(open_session: Open) -> None:
    manifest = Manifest.parse(IMAGE_MANIFEST, MANIFEST)
    with (
        lying(lambda _: reply(201, Docker_Content_Digest=Digest.of(b"other"))) as server,
        pytest.raises(ContentMismatch),
    ):
        open_session(server.address).put_manifest(NAME, Tag("v1"), manifest)


# Blobs


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(lambda _: reply(200, BLOB[:-1]), ContentMismatch, id="short"),
        pytest.param(lambda _: reply(200, BLOB + b"x"), ContentMismatch, id="long"),
        pytest.param(lambda _: cut(*reply(200, BLOB[:100], Content_Length=len(BLOB))), Unreachable, id="cut"),
        pytest.param(lambda _: endless(), ContentMismatch, id="endless"),
        pytest.param(
            lambda _: cut(b"HTTP/1.1 200 OK\r\n\r\n", BLOB[:100]), Unreachable, id="short-without-a-length"
        ),
        pytest.param(
            lambda _: reply(200, BLOB, Content_Length=f"{len(BLOB)}\r\nContent-Length: 5"),
            Unreachable,
            id="two-lengths",
        ),
    ],
)
def test_cli_01_refuses_a_blob_that_is(
    open_session: Open, answer: Callable[[Received], Iterable[bytes]], error: type[RegistryError]
) -> None:
    with (
        lying(answer) as server,
        pytest.raises(error),
        open_session(server.address).open_blob(NAME, BLOB_DIGEST, size=len(BLOB)) as stream,
    ):
        assert sum(map(len, stream)) <= len(BLOB)


@pytest.mark.parametrize(
    "content_range",
    [
        pytest.param("", id="absent"),
        pytest.param("bytes 0-4/25600", id="from-zero"),
        pytest.param("bytes 10-20/25600", id="beyond-what-was-asked"),
        pytest.param("bytes 10-9/25600", id="backwards"),
        pytest.param("bytes 10-14/12", id="behind-the-end"),
        pytest.param("bytes 10-14/99999", id="of-another-size"),
        pytest.param("bytes 10-13/25600", id="of-another-length"),
        pytest.param("chars 10-14/25600", id="other-unit"),
        pytest.param("bytes 10-14,20-24/25600", id="two"),
    ],
)
def test_cli_02_refuses_a_wrong_content_range(open_session: Open, content_range: str) -> None:
    with (
        lying(lambda _: reply(206, BLOB[10:15], Content_Range=content_range)) as server,
        pytest.raises(AnswerInvalid),
    ):
        open_session(server.address).open_blob(NAME, BLOB_DIGEST, 10, 15, size=len(BLOB))


def test_cli_02_tells_that_a_part_became_the_whole(open_session: Open) -> None:
    with (
        lying(lambda _: reply(200, BLOB)) as server,
        open_session(server.address).open_blob(NAME, BLOB_DIGEST, 10, 15, size=len(BLOB)) as stream,
    ):
        assert (stream.is_range, stream.start, stream.stop) == (False, 0, len(BLOB))
        assert b"".join(stream) == BLOB


@pytest.mark.parametrize(
    "body", [pytest.param(BLOB[:-1] + b"x", id="wrong-bytes"), pytest.param(BLOB[:-1], id="short")]
)
def test_cli_01_checks_a_small_blob(open_session: Open, body: bytes) -> None:
    with lying(lambda _: reply(200, body)) as server, pytest.raises(ContentMismatch):
        open_session(server.address).read_blob(NAME, Descriptor(OCTET_STREAM, BLOB_DIGEST, len(BLOB)))


def test_cli_02_asks_the_registry_anew_when_a_redirect_has_expired(open_session: Open) -> None:
    """A presigned URL is good for minutes; the registry makes a new one."""
    with lying(
        lambda received: reply_range(received, BLOB) if "new" in received.target else reply(403)
    ) as cdn:
        signatures = iter(["old", "new"])
        with (
            lying(lambda _: reply(307, Location=f"{cdn.url}/blob?s={next(signatures)}")) as server,
            open_session(server.address).open_blob(NAME, BLOB_DIGEST) as stream,
        ):
            assert b"".join(stream) == BLOB


def test_reads_the_whole_manifest_where_a_head_names_another_kind_of_digest(open_session: Open) -> None:
    """A registry may name a manifest by sha256 that was asked for by sha512."""
    wanted = Digest.of(MANIFEST, "sha512")
    with lying(lambda _: reply(200, MANIFEST, **TYPE, Docker_Content_Digest=DIGEST)) as server:
        found = open_session(server.address).head_manifest(NAME, wanted)

    assert (found.digest, found.size) == (wanted, len(MANIFEST))


@pytest.mark.parametrize("answer", [reply(200, b"x" * 1000), reply(404)], ids=["there", "absent"])
def test_uses_the_connection_again_after_a_head(open_session: Open, answer: Iterable[bytes]) -> None:
    pieces = list(answer)
    with lying(lambda _: pieces) as server:
        session = open_session(server.address)
        for _ in range(3):
            session.has_blob(NAME, BLOB_DIGEST)

        assert server.connections == 1


def test_reads_chunked_answers(open_session: Open) -> None:
    def chunked(body: bytes) -> Iterable[bytes]:
        yield (
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nContent-Type: %s\r\n\r\n"
            % IMAGE_MANIFEST.encode()
        )
        for start in range(0, len(body), 100):
            piece = body[start : start + 100]
            yield b"%x\r\n%s\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"

    with lying(lambda received: chunked(MANIFEST if "manifests" in received.path else BLOB)) as server:
        session = open_session(server.address)
        assert session.get_manifest(NAME, Tag("v1")).body == MANIFEST
        with session.open_blob(NAME, BLOB_DIGEST, size=len(BLOB)) as stream:
            assert b"".join(stream) == BLOB

        assert server.connections == 1


def test_an_ipv6_registry_is_one(open_session: Open) -> None:
    with lying(lambda _: reply(200, MANIFEST, **TYPE), host="::1") as server:
        session = open_session(f"[::1]:{server.port}")
        assert session.get_manifest(NAME, Tag("v1")).digest == DIGEST

        assert server.requests[0].headers["host"] == f"[::1]:{server.port}"


def test_a_detail_may_have_any_name(open_session: Open) -> None:
    error = {"code": "MANIFEST_UNKNOWN", "message": "none", "detail": {"message": "x", "self": "y"}}
    with (
        lying(lambda _: reply_json(404, {"errors": [error]})) as server,
        pytest.raises(ManifestUnknown) as caught,
    ):
        open_session(server.address).get_manifest(NAME, Tag("v1"))

    assert caught.value.detail == error["detail"]


def test_hears_an_answer_behind_a_word_of_patience(open_session: Open) -> None:
    def hinting(received: Received) -> Iterable[bytes]:
        yield b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        yield from reply(200, b"{}")

    with lying(hinting) as server:
        open_session(server.address).ping()
