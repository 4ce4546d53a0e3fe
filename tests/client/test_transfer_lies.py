"""Blobs from places that break off, lie or lack them, until they are whole and verified (CLI-01, CLI-02)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from client.download import PACE, Pace
from client.errors import (
    AnswerInvalid,
    ContentMismatch,
    CredentialsUnusable,
    DestinationRefused,
    Unreachable,
)
from client.partial import PartialFiles
from client.progress import Failed, Restarted, Retried, Started
from client.sources import ForeignSource, RepositorySource
from storage.oci.errors import BlobUnknown, RegistryError, TooManyRequests, Unauthorized
from storage.oci.names import RepositoryName
from tests.client.clocks import FakeClock
from tests.client.conftest import Open
from tests.client.lying import Received, cut, lying, reply, reply_error, reply_range
from tests.client.moving import (
    BLOB,
    CONTENT,
    MIB,
    NAME,
    SPLITTING,
    WRONG,
    Breaking,
    Mover,
    Sourced,
    cut_after,
    descriptor,
    honest,
)


def test_cli_02_goes_on_where_it_broke(mover: Mover, source: Sourced, clock: FakeClock) -> None:
    with lying(Breaking(2 * MIB, MIB + 7, MIB)) as server:
        mover.fetch([source(server.address)])

    assert [each.range for each in server.requests] == [
        (0, None), (2 * MIB, None), (3 * MIB + 7, None), (4 * MIB + 7, None),
    ]  # fmt: skip
    assert mover.blob() == CONTENT
    assert len(mover.told(Retried)) == 3
    # Each brought a mebibyte or more, which earns the next one without a wait.
    assert not clock.slept


def test_cli_02_begins_again_where_there_are_no_ranges(mover: Mover, source: Sourced) -> None:
    with lying(Breaking(2 * MIB, ranges=False)) as server:
        mover.fetch([source(server.address)])

    assert ["range" in each.headers for each in server.requests] == [False, True]
    assert mover.blob() == CONTENT


def test_cli_02_a_place_that_brings_nothing_is_left(mover: Mover, source: Sourced, clock: FakeClock) -> None:
    with lying(Breaking(*[10] * 99)) as server:
        with pytest.raises(Unreachable):
            mover.fetch([source(server.address)])

        assert len(server.requests) == 3
    assert clock.slept == sorted(clock.slept)
    assert len(clock.slept) == 2
    assert isinstance(mover.events[-1], Failed)
    assert mover.kept == 30


def test_cli_02_goes_on_in_another_process(mover: Mover, source: Sourced) -> None:
    with lying(Breaking(2 * MIB, 0, 0, 0)) as server, pytest.raises(Unreachable):
        mover.fetch([source(server.address)])
    with lying(honest) as server:
        mover.fetch([source(server.address)])

        assert [each.range for each in server.requests] == [(2 * MIB, None)]
    assert mover.blob() == CONTENT
    assert mover.told(Started)[-1] == Started(BLOB.digest, BLOB.size, 2 * MIB)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(lambda received: reply_range(received, WRONG), ContentMismatch, id="wrong-digest"),
        pytest.param(lambda received: reply_range(received, CONTENT[:-1]), ContentMismatch, id="short"),
        pytest.param(lambda received: reply_range(received, CONTENT + b"x"), ContentMismatch, id="long"),
        pytest.param(lambda received: endless(), ContentMismatch, id="endless"),
        pytest.param(lambda received: reply_error(404, "BLOB_UNKNOWN"), BlobUnknown, id="unknown"),
        pytest.param(lambda received: reply_error(401, "UNAUTHORIZED"), Unauthorized, id="unauthorized"),
        pytest.param(
            lambda received: reply_error(429, "TOOMANYREQUESTS", Retry_After="9999"),
            TooManyRequests,
            id="rate-limited",
        ),
        pytest.param(lambda received: reply(200, CONTENT, Content_Encoding="gzip"), AnswerInvalid, id="gzip"),
        pytest.param(
            lambda received: reply(307, Location="http://169.254.169.254/"), DestinationRefused, id="metadata"
        ),
    ],
)
@pytest.mark.parametrize("pace", [pytest.param(PACE, id="as-one"), pytest.param(SPLITTING, id="in-parts")])
def test_cli_01_publishes_nothing_that_is(
    mover: Mover,
    source: Sourced,
    answer: Callable[[Received], Iterable[bytes]],
    error: type[RegistryError],
    pace: Pace,
) -> None:
    with lying(answer) as server, pytest.raises(error):
        mover.fetch([source(server.address)], pace=pace)

    assert mover.blob() is None
    assert mover.kept == 0
    assert isinstance(mover.events[-1], Failed)


def endless() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    while True:
        yield CONTENT


def test_cli_07_goes_on_when_the_token_expires_in_mid_blob(open_session: Open, mover: Mover) -> None:
    """The connection breaks, and the registry wants a new token for the rest."""
    tokens = iter(["one", "two"])
    good = ["one"]

    def answer(received: Received) -> Iterator[bytes]:
        if received.path == "/token":
            yield from reply(200, b'{"token": "%s"}' % next(tokens).encode())
        elif received.authorization != f"Bearer {good[0]}":
            challenge = f'Bearer realm="{server.url}/token",service="s"'
            yield from reply_error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        elif good[0] == "one":
            good[0] = "two"
            yield from cut_after(reply_range(received, CONTENT), 2 * MIB)
        else:
            yield from reply_range(received, CONTENT)

    with lying(answer) as server:
        mover.fetch([RepositorySource(open_session(server.address), NAME)])

    assert mover.blob() == CONTENT
    assert server.requests[-1].range == (2 * MIB, None)


def test_cli_02_resolves_an_expired_redirect_anew(mover: Mover, source: Sourced) -> None:
    """Presigned URLs are good for minutes; the rest of a blob gets a new one."""
    served: list[str] = []

    def storage(received: Received) -> Iterable[bytes]:
        (signature,) = received.query["s"]
        if signature in served:
            return reply(403)
        served.append(signature)
        whole = reply_range(received, CONTENT)
        return cut_after(whole, 2 * MIB) if len(served) == 1 else whole

    with lying(storage) as cdn:
        redirects = iter(range(100))
        # The second redirect is the first one again, from a cache.
        signature = {0: "a", 1: "a", 2: "b"}
        with lying(lambda _: reply(307, Location=f"{cdn.url}/b?s={signature[next(redirects)]}")) as server:
            mover.fetch([source(server.address)])

        assert [each.range[0] for each in cdn.requests] == [0, 2 * MIB, 2 * MIB]
    assert mover.blob() == CONTENT


# Mirrors


@pytest.mark.parametrize(
    "mirror",
    [
        pytest.param(lambda _: reply_error(404, "BLOB_UNKNOWN"), id="lacks-it"),
        pytest.param(lambda _: reply(500), id="fails"),
        pytest.param(lambda _: reply_error(401, "UNAUTHORIZED"), id="wants-credentials"),
        pytest.param(lambda received: cut_after(reply_range(received, CONTENT), 0), id="breaks"),
        pytest.param(lambda received: reply_range(received, CONTENT[:-1]), id="has-a-shorter-one"),
    ],
)
def test_asks_the_next_place_when_a_mirror(
    mover: Mover, source: Sourced, mirror: Callable[[Received], Iterable[bytes]]
) -> None:
    with lying(mirror) as first, lying(honest) as second:
        mover.fetch([source(first.address), source(second.address)])

        assert first.requests
        assert len(second.requests) == 1
    assert mover.blob() == CONTENT


def test_goes_on_at_the_next_place_where_a_mirror_broke(mover: Mover, source: Sourced) -> None:
    with lying(Breaking(2 * MIB, 0, 0, 0)) as first, lying(honest) as second:
        mover.fetch([source(first.address), source(second.address)])

        assert [each.range for each in second.requests] == [(2 * MIB, None)]
    assert mover.blob() == CONTENT


def test_asks_nobody_else_when_the_mirror_has_it(mover: Mover, source: Sourced) -> None:
    with lying(honest) as first, lying(honest) as second:
        mover.fetch([source(first.address), source(second.address)])

        assert not second.requests


def test_a_poisoned_mirror_is_found_out(mover: Mover, source: Sourced) -> None:
    """It serves wrong bytes and breaks off, so that the registry's bytes are mixed with them."""
    poison = bytes(2 * MIB)

    def mirror(received: Received) -> Iterator[bytes]:
        return cut_after(reply_range(received, poison + CONTENT[2 * MIB :]), 2 * MIB)

    with lying(mirror) as first, lying(honest) as second:
        mover.fetch([source(first.address), source(second.address)])

    assert mover.blob() == CONTENT
    assert mover.told(Restarted)


def test_poisoned_leftovers_are_found_out(mover: Mover, source: Sourced) -> None:
    """What another time left may be wrong too, and is then fetched again."""
    sinks = PartialFiles(mover.directory / "partial", mover.directory / "blobs")
    with sinks.open(BLOB, lambda: None) as sink:
        assert sink is not None
        sink.write(0, bytes(2 * MIB))

    with lying(honest) as server:
        mover.fetch([source(server.address)])

        assert [each.range for each in server.requests] == [(2 * MIB, None), (0, None)]
    assert mover.blob() == CONTENT


def test_cli_09_does_not_pass_over_credentials_that_cannot_be_had(mover: Mover, open_session: Open) -> None:
    class Failing:
        def find(self, registry: str, repository: RepositoryName | None) -> None:
            raise CredentialsUnusable("the helper failed")

    def asking(_: Received) -> Iterable[bytes]:
        return reply_error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')

    with lying(asking) as first, lying(honest) as second:
        sources = [
            RepositorySource(open_session(first.address, Failing()), NAME),
            RepositorySource(open_session(second.address), NAME),
        ]
        with pytest.raises(CredentialsUnusable):
            mover.fetch(sources)

        assert not second.requests


def test_net_06_fetches_a_foreign_layer_where_it_is(mover: Mover, open_session: Open) -> None:
    with lying(honest) as server:
        session = open_session(server.address)
        mover.fetch([ForeignSource(session, f"{server.url}/layer.tar.gz")])

        assert server.requests[0].path == "/layer.tar.gz"
    assert mover.blob() == CONTENT


@pytest.mark.parametrize("status", [400, 416, 501])
def test_cli_02_asks_a_storage_for_the_whole_where_parts_fail(
    mover: Mover, source: Sourced, status: int
) -> None:
    def stored(received: Received) -> Iterable[bytes]:
        return reply(status) if "range" in received.headers else reply(200, CONTENT)

    with (
        lying(stored) as storage,
        lying(lambda _: reply(307, Location=f"{storage.url}/b")) as server,
    ):
        mover.fetch([source(server.address)], pace=SPLITTING)

    assert mover.blob() == CONTENT


@pytest.mark.parametrize("first", ["the-honest", "the-liar"])
def test_a_liar_does_not_take_away_what_an_honest_place_gave(
    mover: Mover, source: Sourced, first: str
) -> None:
    """The honest one went down in the middle; its bytes are kept for the next time."""
    with (
        lying(Breaking(4 * MIB, *[0] * 99)) as honest_one,
        lying(lambda received: reply_range(received, CONTENT[:-1])) as liar,
    ):
        sources = [source(honest_one.address), source(liar.address)]
        with pytest.raises((ContentMismatch, Unreachable)):
            mover.fetch(sources if first == "the-honest" else sources[::-1])

    assert mover.kept == 4 * MIB
    with lying(honest) as server:
        mover.fetch([source(server.address)])

        assert [each.range for each in server.requests] == [(4 * MIB, None)]
    assert mover.blob() == CONTENT


def test_what_a_single_place_gave_before_it_broke_is_kept(mover: Mover, source: Sourced) -> None:
    """Nobody has shown it to be wrong, as what was there before it."""
    with mover.sinks.open(BLOB, lambda: None) as sink:
        assert sink is not None
        sink.write(0, WRONG)
    with lying(Breaking(4 * MIB, *[0] * 99)) as server, pytest.raises(Unreachable):
        mover.fetch([source(server.address)])

    assert mover.kept == 4 * MIB


def test_a_mirror_that_is_down_is_waited_for_once(mover: Mover, source: Sourced) -> None:
    """Not for every blob again, nor again and again for one."""
    blobs = [descriptor(CONTENT[:size]) for size in (1000, 2000, 3000)]

    def answer(received: Received) -> Iterable[bytes]:
        (size,) = [each.size for each in blobs if received.path.endswith(str(each.digest))]
        return reply_range(received, CONTENT[:size])

    with lying(lambda _: cut()) as mirror, lying(answer) as server:
        sources = [source(mirror.address), source(server.address)]
        mover.fetch(sources, *blobs, pace=replace(PACE, parallel_blobs=1))

        # As often as its session tries.
        assert len(mirror.requests) == 2
    assert [mover.blob(each) for each in blobs] == [CONTENT[:1000], CONTENT[:2000], CONTENT[:3000]]
