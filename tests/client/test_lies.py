"""A session and registries that break off, lie, or ask for patience (NET-09, NET-10, CLI-01 to CLI-08)."""

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate

import pytest

from client.clock import Deadline
from client.content import BytesContent
from client.errors import AnswerInvalid, AnswerTooLarge, ContentMismatch, TimedOut, Unreachable
from client.http import Timeouts
from client.network import Network
from client.retry import PATIENCE, Backoff, Patience
from client.session import Session
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import (
    Denied,
    ManifestInvalid,
    ManifestUnknown,
    RegistryError,
    TooManyRequests,
    Unavailable,
)
from storage.oci.manifest import MANIFEST_LIMIT, Manifest
from storage.oci.media_types import IMAGE_MANIFEST, OCTET_STREAM
from storage.oci.names import RepositoryName, Tag
from tests.client.clocks import FakeClock
from tests.client.conftest import Open
from tests.client.lying import Cut, Received, lying, reply, reply_error, reply_json, reply_range
from tests.registry.pushing import image

NAME = RepositoryName("library/app")
MANIFEST = image(b"{}", b"layer")
DIGEST = Digest.of(MANIFEST)
BLOB = bytes(range(256)) * 100
BLOB_DIGEST = Digest.of(BLOB)
TYPE = {"Content_Type": IMAGE_MANIFEST}


def once(
    first: Callable[[], Iterable[bytes]], then: Callable[[], Iterable[bytes]]
) -> Callable[..., Iterable[bytes]]:
    """Answer the first request in one way and all others in another."""
    left = [first]
    return lambda _: left.pop()() if left else then()


def cut(*pieces: bytes) -> Iterator[bytes]:
    yield from pieces
    raise Cut


def endless(
    head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n",
) -> Iterator[bytes]:
    yield head
    while True:
        yield b"\0" * 65536


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


# Patience


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param(formatdate(1_800_001_000 + 30, usegmt=True), 30.0, id="date"),
        pytest.param("0", 0.0, id="none"),
        pytest.param("soon", 0.15, id="rubbish"),
        pytest.param("-5", 0.15, id="negative"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_cli_07_waits_as_long_as_it_is_asked(
    open_session: Open, clock: FakeClock, retry_after: str, waited: float, status: int
) -> None:
    def refuse() -> Iterable[bytes]:
        return reply_error(status, "TOOMANYREQUESTS", Retry_After=retry_after)

    with lying(once(refuse, lambda: reply(200, MANIFEST, **TYPE))) as server:
        open_session(server.address).get_manifest(NAME, Tag("v1"))

    assert clock.slept == [pytest.approx(waited)]


def test_cli_07_reads_a_date_on_the_clock_of_the_registry(open_session: Open, clock: FakeClock) -> None:
    headers = {"Retry_After": formatdate(1000 + 12, usegmt=True), "Date": formatdate(1000, usegmt=True)}

    with lying(once(lambda: reply(429, **headers), lambda: reply(200, b"{}"))) as server:
        open_session(server.address).ping()

    assert clock.slept == [12.0]


def test_cli_07_does_not_wait_for_an_hour(open_session: Open, clock: FakeClock) -> None:
    with (
        lying(lambda _: reply_error(429, "TOOMANYREQUESTS", Retry_After="3600")) as server,
        pytest.raises(TooManyRequests) as caught,
    ):
        open_session(server.address).ping()

    assert caught.value.detail["retry_after_seconds"] == 3600
    assert not clock.slept


@pytest.mark.parametrize("method", ["manifest", "blob", "chunked-blob"])
def test_cli_07_waits_for_uploads_too(open_session: Open, clock: FakeClock, method: str) -> None:
    """Also for those with a body, which is read again."""
    content = b"x" * (6 * 1024 * 1024)
    stored: list[bytes] = []
    refused: list[str] = []

    def answer(received: Received) -> Iterable[bytes]:
        if received.method in ("PUT", "PATCH") and received.method not in refused:
            refused.append(received.method)
            return reply_error(429, "TOOMANYREQUESTS", Retry_After="5")
        if received.method == "GET":
            return reply(204, Location="/u", Range=f"0-{max(len(b''.join(stored)) - 1, 0)}")
        if received.method == "POST":
            return reply(202, Location="/u")
        stored.append(received.body)
        return reply(201 if received.method == "PUT" else 202, Location="/u")

    with lying(answer) as server:
        session = open_session(server.address)
        if method == "manifest":
            content = MANIFEST
            session.put_manifest(NAME, Tag("v1"), Manifest.parse(IMAGE_MANIFEST, MANIFEST))
        else:
            chunk_bytes = 2 * 1024 * 1024 if method == "chunked-blob" else None
            session.upload_blob(NAME, Digest.of(content), BytesContent(content), chunk_bytes=chunk_bytes)

    assert b"".join(stored) == content
    assert set(clock.slept) == {5.0}


def test_cli_07_all_threads_wait_when_one_is_told_to(clock: FakeClock) -> None:
    backoff = Backoff(PATIENCE, clock.deadline())
    other = FakeClock()
    backoff._clock = other  # the other thread's moment is before the wait

    backoff.fail(TooManyRequests("x", retry_after_seconds=4), 1)
    backoff.wait()

    assert clock.slept == [4.0, 4.5]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_tries_again_after_a_server_error(open_session: Open, clock: FakeClock, status: int) -> None:
    with lying(once(lambda: reply(status), lambda: reply(200, b"{}"))) as server:
        open_session(server.address).ping()

    assert len(clock.slept) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 409, 501])
def test_does_not_repeat_what_was_refused(open_session: Open, clock: FakeClock, status: int) -> None:
    with lying(lambda _: reply(status)) as server:
        with pytest.raises(RegistryError):
            open_session(server.address).ping()

        assert len(server.requests) == 1


def test_gives_up_with_growing_delays(open_session: Open, clock: FakeClock) -> None:
    with lying(lambda _: cut()) as server:
        with pytest.raises(Unreachable):
            open_session(server.address).ping()

        assert len(server.requests) == 5
    assert clock.slept == sorted(clock.slept)
    assert len(clock.slept) == 4


def test_an_outage_uses_up_the_budget_for_retries(open_session: Open, clock: FakeClock) -> None:
    network = Network(deadline=clock.deadline(), patience=Patience(attempts=5, budget=6))
    with lying(lambda _: cut()) as server:
        session = open_session(server.address, network=network)
        for _ in range(5):
            with pytest.raises(Unreachable):
                session.ping()

        # Five first attempts, and six retries among them.
        assert len(server.requests) == 11


def test_stops_when_the_time_is_over(open_session: Open, clock: FakeClock) -> None:
    network = Network(deadline=clock.deadline(20))
    with (
        lying(lambda _: reply_error(429, "TOOMANYREQUESTS", Retry_After="15")) as server,
        pytest.raises(TimedOut),
    ):
        open_session(server.address, network=network).ping()

    assert clock.slept == [15.0]


def test_net_09_waits_for_no_first_byte(open_session: Open, clock: FakeClock) -> None:
    never = threading.Event()
    network = Network(
        timeouts=Timeouts(first_byte_seconds=0.05), deadline=clock.deadline(), patience=Patience(attempts=1)
    )

    def silent(_: Received) -> Iterable[bytes]:
        never.wait(5)
        return []

    with lying(silent) as server:
        with pytest.raises(TimedOut, match="stopped sending"):
            open_session(server.address, network=network).ping()
        never.set()


def test_net_09_a_stalled_body_is_cut(open_session: Open) -> None:
    never = threading.Event()
    network = Network(timeouts=Timeouts(stall_seconds=0.05))

    def stalling(_: Received) -> Iterator[bytes]:
        yield from reply(200, BLOB[:100], Content_Length=len(BLOB))
        never.wait(5)

    with lying(stalling) as server:
        with (
            open_session(server.address, network=network).open_blob(NAME, BLOB_DIGEST) as stream,
            pytest.raises(TimedOut),
        ):
            list(stream)
        never.set()


# Lists


@pytest.mark.parametrize(
    ("document", "error"),
    [
        pytest.param({"tags": 5}, AnswerInvalid, id="a-number"),
        pytest.param([], AnswerInvalid, id="an-array"),
        pytest.param({"tags": ["a" * 2**24]}, AnswerTooLarge, id="too-large"),
    ],
)
def test_refuses_a_list_that_is(open_session: Open, document: object, error: type[RegistryError]) -> None:
    with lying(lambda _: reply_json(200, document)) as server, pytest.raises(error):
        list(open_session(server.address).tags(NAME))


def test_leaves_out_what_is_no_tag(open_session: Open) -> None:
    with lying(lambda _: reply_json(200, {"tags": ["v1", "\x1b[2J", None, "v2"]})) as server:
        assert list(open_session(server.address).tags(NAME)) == [Tag("v1"), Tag("None"), Tag("v2")]


def test_reads_null_as_no_tags(open_session: Open) -> None:
    with lying(lambda _: reply_json(200, {"tags": None})) as server:
        assert list(open_session(server.address).tags(NAME)) == []


def test_does_not_go_in_circles(open_session: Open) -> None:
    with (
        lying(lambda received: reply_json(200, {"tags": ["v1"]}, Link='</v2/b>; rel="next"')) as server,
        pytest.raises(AnswerInvalid, match="circle"),
    ):
        list(open_session(server.address).tags(NAME))


@pytest.mark.parametrize(
    ("link", "pages"),
    [
        pytest.param('</v2/next>; rel="next"', 2, id="quoted"),
        pytest.param("</v2/next>; rel=next", 2, id="plain"),
        pytest.param('</v2/prev>; rel="prev", </v2/next>; title="a, b"; rel="next"', 2, id="second"),
        pytest.param('</v2/next>; rel="prev"', 1, id="another-relation"),
        pytest.param("rubbish", 1, id="rubbish"),
    ],
)
def test_reads_where_the_next_page_is(open_session: Open, link: str, pages: int) -> None:
    def answer(received: Received) -> Iterable[bytes]:
        is_first = received.path.endswith("tags/list")
        return reply_json(200, {"tags": ["v1"]}, **({"Link": link} if is_first else {}))

    with lying(answer) as server:
        assert len(list(open_session(server.address).tags(NAME))) == pages


# Uploads


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


def test_says_which_registry_is_down(open_session: Open, clock: FakeClock) -> None:
    with lying(lambda _: cut()) as server:
        address = server.address

    with pytest.raises(Unreachable, match=f"cannot connect to {address}") as caught:
        open_session(address).ping()

    assert isinstance(caught.value, Unavailable)
    assert Deadline(None, clock).limit(5) == 5
