"""Uploads that break, vanish, or are refused in one piece."""

from collections.abc import Callable, Iterable

import pytest

from client.content import BytesContent
from client.errors import Unreachable
from storage.oci.digest import Digest
from storage.oci.errors import (
    Denied,
)
from storage.oci.media_types import IMAGE_MANIFEST
from storage.oci.names import RepositoryName
from tests.client.conftest import Open
from tests.client.lying import (
    Received,
    cut,
    lying,
    reply,
    reply_error,
)
from tests.registry.pushing import image

NAME = RepositoryName("library/app")
MANIFEST = image(b"{}", b"layer")
DIGEST = Digest.of(MANIFEST)
BLOB = bytes(range(256)) * 100
BLOB_DIGEST = Digest.of(BLOB)
TYPE = {"Content_Type": IMAGE_MANIFEST}


def upload_server(stored: bytearray, broken: list[int]) -> Callable[[Received], Iterable[bytes]]:
    """Keep an upload; each number in `broken` is where one PATCH breaks off."""

    def answer(received: Received) -> Iterable[bytes]:
        if received.method == "POST":
            stored.clear()
            return reply(202, Location="/upload?state=1")
        if received.method == "GET":
            return reply(204, Location="/upload?state=2", Range=f"0-{max(len(stored) - 1, 0)}")
        if received.method == "HEAD":
            return reply(404)
        if received.method == "PATCH":
            start = int(received.headers.get("content-range", "0-").partition("-")[0])
            if start != len(stored):
                return reply_error(416, "BLOB_UPLOAD_INVALID")
            if broken:
                stored.extend(received.body[: broken.pop(0)])
                return cut()
            stored.extend(received.body)
            return reply(202, Location="/upload?state=3", Range=f"0-{len(stored) - 1}")
        stored.extend(received.body)
        return reply(201)

    return answer


@pytest.mark.parametrize("chunk_bytes", [None, 3 * 1024 * 1024])
def test_goes_on_with_an_upload_that_broke(open_session: Open, chunk_bytes: int | None) -> None:
    content, stored = bytes(range(256)) * 32768, bytearray()
    with lying(upload_server(stored, [2_000_000, 0, 500_000])) as server:
        open_session(server.address).upload_blob(
            NAME, Digest.of(content), BytesContent(content), chunk_bytes=chunk_bytes
        )

        assert len(server.seen("POST")) == 1
    assert stored == content


def test_begins_anew_when_the_upload_is_gone(open_session: Open) -> None:
    content, stored = b"x" * 5_000_000, bytearray()
    honest = upload_server(stored, [])
    gone = iter(["PATCH", "GET"])
    lost = [next(gone)]

    def answer(received: Received) -> Iterable[bytes]:
        if received.method == lost[0]:
            lost[0] = next(gone, "")
            return reply_error(404, "BLOB_UPLOAD_UNKNOWN")
        return honest(received)

    with lying(answer) as server:
        open_session(server.address).upload_blob(NAME, Digest.of(content), BytesContent(content))

        assert len(server.seen("POST")) == 2
    assert stored == content


def test_does_not_push_again_when_only_the_answer_was_lost(open_session: Open) -> None:
    def answer(received: Received) -> Iterable[bytes]:
        match received.method:
            case "POST":
                return reply(202, Location="/upload")
            case "PUT":
                return cut()
            case "GET":
                return reply_error(404, "BLOB_UPLOAD_UNKNOWN")
        return reply(200)

    with lying(answer) as server:
        open_session(server.address).upload_blob(NAME, Digest.of(b"x"), BytesContent(b"x"))

        assert [each.method for each in server.requests] == ["POST", "PUT", "GET", "HEAD"]


def test_pushes_in_chunks_where_a_proxy_refuses_the_whole(open_session: Open) -> None:
    content, stored = b"x" * (40 * 1024 * 1024), bytearray()
    honest = upload_server(stored, [])

    def answer(received: Received) -> Iterable[bytes]:
        return reply(413) if len(received.body) > 20_000_000 else honest(received)

    with lying(answer) as server:
        open_session(server.address).upload_blob(NAME, Digest.of(content), BytesContent(content))

        assert [each.headers.get("content-range") for each in server.seen("PATCH")][1:] == [
            "0-16777215",
            "16777216-33554431",
            "33554432-41943039",
        ]
    assert stored == content


def test_sends_chunks_as_large_as_the_registry_wants(open_session: Open) -> None:
    content, stored = b"x" * 500_000, bytearray()
    honest = upload_server(stored, [])

    def answer(received: Received) -> Iterable[bytes]:
        if received.method == "POST":
            return reply(202, Location="/upload", OCI_Chunk_Min_Length=200_000)
        return honest(received)

    with lying(answer) as server:
        open_session(server.address).upload_blob(
            NAME, Digest.of(content), BytesContent(content), chunk_bytes=1000
        )

        assert [len(each.body) for each in server.seen("PATCH")] == [200_000, 200_000, 100_000]


def test_gives_up_an_upload_that_is_refused(open_session: Open) -> None:
    def answer(received: Received) -> Iterable[bytes]:
        if received.method == "PUT":
            return reply_error(403, "DENIED")
        return reply(202 if received.method == "POST" else 204, Location="/upload")

    with lying(answer) as server:
        with pytest.raises(Denied):
            open_session(server.address).upload_blob(NAME, Digest.of(b"x"), BytesContent(b"x"))

        assert [each.method for each in server.requests] == ["POST", "PUT", "DELETE"]


def test_gives_up_an_upload_that_never_moves(open_session: Open) -> None:
    with lying(upload_server(bytearray(), [0] * 100)) as server:
        with pytest.raises(Unreachable):
            open_session(server.address).upload_blob(
                NAME, Digest.of(b"x" * 5_000_000), BytesContent(b"x" * 5_000_000)
            )

        assert len(server.seen("PATCH")) == 5


def test_keeps_the_query_of_an_upload_location(open_session: Open) -> None:
    location = "/v2/library/app/blobs/uploads/1?_state=a%2Fb%3D%3D&x=a+b"

    def answer(received: Received) -> Iterable[bytes]:
        return reply(202, Location=location) if received.method == "POST" else reply(201)

    with lying(answer) as server:
        open_session(server.address).upload_blob(NAME, Digest.of(b"x"), BytesContent(b"x"))

        assert server.requests[1].target == f"{location}&digest={Digest.of(b'x')}".replace(
            "sha256:", "sha256%3A"
        )
