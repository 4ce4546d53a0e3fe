"""Waiting and trying again: as long as a registry asks, never for ever (NET-09, CLI-07)."""

import threading
from collections.abc import Iterable, Iterator
from email.utils import formatdate

import pytest

from client.clock import Deadline
from client.content import BytesContent
from client.errors import Cancelled, TimedOut, Unreachable
from client.http import Timeouts
from client.network import Network
from client.retry import PATIENCE, Backoff, Patience
from storage.oci.digest import Digest
from storage.oci.errors import (
    RegistryError,
    TooManyRequests,
    Unavailable,
)
from storage.oci.manifest import Manifest
from storage.oci.media_types import IMAGE_MANIFEST
from storage.oci.names import RepositoryName, Tag
from tests.client.clocks import FakeClock
from tests.client.conftest import Open
from tests.client.lying import (
    Received,
    cut,
    lying,
    once,
    reply,
    reply_error,
    reply_json,
)
from tests.registry.pushing import image

NAME = RepositoryName("library/app")
MANIFEST = image(b"{}", b"layer")
DIGEST = Digest.of(MANIFEST)
BLOB = bytes(range(256)) * 100
BLOB_DIGEST = Digest.of(BLOB)
TYPE = {"Content_Type": IMAGE_MANIFEST}


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


def test_stops_waiting_for_bytes_when_it_is_told_to(open_session: Open) -> None:
    stop = threading.Event()

    def stalling(_: Received) -> Iterator[bytes]:
        yield from reply(200, BLOB[:100], Content_Length=len(BLOB))
        stop.set()
        never.wait(20)

    never = threading.Event()
    with lying(stalling) as server:
        session = open_session(server.address, network=Network(deadline=Deadline.after(None, stop=stop)))
        with pytest.raises(Cancelled), session.open_blob(NAME, BLOB_DIGEST) as stream:
            list(stream)
        never.set()


def test_stops_waiting_for_another_try_when_it_is_told_to(open_session: Open) -> None:
    stop = threading.Event()

    def refusing(_: Received) -> Iterable[bytes]:
        stop.set()
        return reply_error(429, "TOOMANYREQUESTS", Retry_After="60")

    with lying(refusing) as server:
        session = open_session(server.address, network=Network(deadline=Deadline.after(None, stop=stop)))
        with pytest.raises(Cancelled):
            session.ping()

        assert len(server.requests) == 1


def test_says_which_registry_is_down(open_session: Open, clock: FakeClock) -> None:
    with lying(lambda _: cut()) as server:
        address = server.address

    with pytest.raises(Unreachable, match=f"cannot connect to {address}") as caught:
        open_session(address).ping()

    assert isinstance(caught.value, Unavailable)
    assert Deadline(None, clock).limit(5) == 5


@pytest.mark.parametrize("seconds", [-5, 1e12, float("nan"), True])
def test_cli_07_believes_the_header_alone(open_session: Open, clock: FakeClock, seconds: object) -> None:
    """What the body says about waiting is anybody's."""

    def refuse() -> Iterable[bytes]:
        detail = {"retry_after_seconds": seconds}
        return reply_json(429, {"errors": [{"code": "TOOMANYREQUESTS", "detail": detail}]})

    with lying(once(refuse, lambda: reply(200, b"{}"))) as server:
        open_session(server.address).ping()

    assert clock.slept == [pytest.approx(0.15)]


def test_cli_07_waits_as_long_as_the_storage_asks(open_session: Open, clock: FakeClock) -> None:
    with (
        lying(once(lambda: reply(429, Retry_After="7"), lambda: reply(200, BLOB))) as storage,
        lying(lambda _: reply(307, Location=f"{storage.url}/b")) as server,
    ):
        open_session(server.address).open_blob(NAME, BLOB_DIGEST).close()

    assert clock.slept == [7.0]
