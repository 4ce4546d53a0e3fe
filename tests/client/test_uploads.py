"""Uploads that break, vanish, or are refused in one piece."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx
import pytest

from client.content import BytesContent, FileContent
from client.endpoints import Host, Scheme
from client.errors import DiskFailed, TimedOut, Unreachable
from client.http import Timeouts
from client.network import Network
from client.retry import Patience
from client.tls import Tls
from client.uploads import Upload
from storage.oci.digest import Digest
from storage.oci.errors import (
    Denied,
)
from storage.oci.media_types import IMAGE_MANIFEST
from storage.oci.names import RepositoryName
from tests.client.certificates import Authority
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


@pytest.mark.parametrize("answer_to_get", [lambda: reply(400), lambda: reply(200), lambda: reply(405)])
def test_begins_anew_where_nobody_says_how_far_an_upload_got(
    open_session: Open, answer_to_get: Callable[[], Iterable[bytes]]
) -> None:
    content, stored = b"x" * 5_000_000, bytearray()
    honest = upload_server(stored, [1_000_000])

    def answer(received: Received) -> Iterable[bytes]:
        return answer_to_get() if received.method == "GET" else honest(received)

    with lying(answer) as server:
        open_session(server.address).upload_blob(NAME, Digest.of(content), BytesContent(content))

        assert len(server.seen("POST")) == 2
    assert stored == content


@pytest.mark.parametrize("location", ["/u?signed", "/u?a=%2f+%20b&a=", "/u?k=a%2Bb;c=d&x=~!'()*"])
def test_changes_nothing_in_the_query_of_an_upload_location(open_session: Open, location: str) -> None:
    """It may be signed as it is."""

    def answer(received: Received) -> Iterable[bytes]:
        return reply(202, Location=location) if received.method == "POST" else reply(201)

    with lying(answer) as server:
        open_session(server.address).upload_blob(NAME, Digest.of(b"x"), BytesContent(b"x"))

        assert server.requests[1].target.startswith(f"{location}&digest=sha256")


def test_names_the_file_that_it_cannot_push(open_session: Open, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with lying(lambda _: reply(202, Location="/u")) as server:
        session = open_session(server.address)
        for name in ("absent", "directory"):
            with pytest.raises(DiskFailed, match=name):
                session.upload_blob(NAME, Digest.of(b"x"), FileContent(tmp_path / name))


def test_a_file_that_became_shorter_is_not_pushed(open_session: Open, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"x" * 100)

    class Shrinking(FileContent):
        @property
        def size(self) -> int:
            return 200

    with lying(lambda _: reply(202, Location="/u")) as server, pytest.raises(DiskFailed, match="blob"):
        open_session(server.address).upload_blob(NAME, Digest.of(b"x"), Shrinking(path))


class Deaf:
    """A registry that answers a request from its head alone, and reads no more of it."""

    def __init__(self, answer: Callable[[int], bytes], context: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._context = context
        self.requests = 0
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for each in (*self._open, self._listener):
            each.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(1000)
                self.requests += 1
                connection.sendall(self._answer(self.requests))


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "tls"])
def test_hears_a_refusal_while_it_sends(open_session: Open, tmp_path: Path, has_tls: bool) -> None:
    authority = Authority.create(tmp_path / "authority")
    context = authority.server_context() if has_tls else None

    with Deaf(lambda _: b"".join(reply_error(403, "DENIED")), context) as registry:
        scheme = Scheme.HTTPS if has_tls else Scheme.HTTP
        tls = Tls(ca_files=(authority.certificate,))
        session = open_session("", host=Host(registry.address, registry.address, scheme, tls=tls))
        upload = Upload(httpx.URL(f"{scheme.value}://{registry.address}/u"))
        content = BytesContent(bytes(64 * 1024 * 1024))
        with pytest.raises(Denied):
            session.upload_blob(NAME, Digest.of(b""), content, upload=upload)

        # The upload and its end, which is refused too.
        assert registry.requests == 2


def test_does_not_take_a_word_of_patience_for_an_answer(open_session: Open) -> None:
    """Some servers say 100 without being asked."""
    with Deaf(lambda _: b"HTTP/1.1 100 Continue\r\n\r\n") as registry:
        network = Network(timeouts=Timeouts(stall_seconds=0.3), patience=Patience(attempts=1))
        session = open_session("", host=Host("x", registry.address, Scheme.HTTP), network=network)
        upload = Upload(httpx.URL(f"http://{registry.address}/u"))
        with pytest.raises(TimedOut, match="stopped receiving"):
            session.upload_blob(NAME, Digest.of(b""), BytesContent(bytes(64 * 1024 * 1024)), upload=upload)
