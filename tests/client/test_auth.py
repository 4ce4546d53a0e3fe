"""From a challenge to a token, against a registry and token endpoint that say what a test wants."""

import base64
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from client.auth import TokenCache
from client.credentials import Credential, Given
from client.errors import AnswerInvalid, AnswerTooLarge, DestinationRefused
from client.network import Network
from client.session import Session
from storage.oci.digest import Digest
from storage.oci.errors import Denied, RegistryError, Unauthorized
from storage.oci.names import RepositoryName
from tests.client.clocks import FakeClock
from tests.client.conftest import Open
from tests.client.lying import Lying, Received, lying, reply, reply_error, reply_json

NAME = RepositoryName("library/app")
BLOB = Digest.of(b"")
PASSWORD = Credential("me", "secret", source="the test")
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
IDENTITY = Credential("me", identity_token="refresh-1", source="the test")


@dataclass
class Registry:
    """A registry that wants the tokens of its own endpoint; `good` are those it takes."""

    challenge: str = 'Bearer realm="{url}/token",service="registry.example",scope="{scope}"'
    good: list[str] = field(default_factory=lambda: ["token-1"])
    # What the endpoint answers, in order; the last one again and again.
    tokens: list[object] = field(default_factory=lambda: [{"token": "token-1"}])
    token_statuses: dict[str, int] = field(default_factory=dict)
    server: Lying = field(init=False)
    issued: int = 0

    def __call__(self, received: Received) -> Iterable[bytes]:
        if received.path == "/token":
            return self._token(received)
        if received.authorization in [f"Bearer {token}" for token in self.good] + [BASIC]:
            return reply(200, b"")
        scope = "" if received.path == "/v2/" else f"repository:{NAME}:pull"
        challenge = self.challenge.format(url=self.server.url, scope=scope)
        return reply_error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

    def _token(self, received: Received) -> Iterator[bytes]:
        status = self.token_statuses.get(received.method, 200)
        if status != 200:
            return reply_json(status, {"details": "no"})
        answer = self.tokens[min(self.issued, len(self.tokens) - 1)]
        self.issued += 1
        return reply(200, answer) if isinstance(answer, bytes) else reply_json(200, answer)

    @property
    def asked(self) -> list[Received]:
        return [each for each in self.server.requests if each.path == "/token"]


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    with lying(registry) as server:
        registry.server = server
        yield registry


@pytest.fixture
def session(registry: Registry, open_session: Open) -> Session:
    return open_session(registry.server.address)


@pytest.fixture
def known(registry: Registry, open_session: Open) -> Session:
    """A session with a password."""
    return open_session(registry.server.address, Given(registry.server.address, PASSWORD))


def test_tok_02_asks_anonymously_with_get(registry: Registry, session: Session) -> None:
    session.head_blob(NAME, BLOB)

    (asked,) = registry.asked
    assert (asked.method, asked.authorization) == ("GET", None)
    assert asked.query == {
        "service": ["registry.example"],
        "scope": ["repository:library/app:pull"],
        "client_id": ["cargohold"],
    }


def test_tok_02_asks_with_a_password(registry: Registry, known: Session) -> None:
    known.head_blob(NAME, BLOB)

    (asked,) = registry.asked
    assert (asked.method, asked.authorization) == ("GET", BASIC)
    assert asked.query["account"] == ["me"]


def test_tok_02_asks_for_every_scope_of_a_mount(registry: Registry, known: Session) -> None:
    with pytest.raises(RegistryError):
        known.mount_blob(NAME, BLOB, RepositoryName("other"))

    assert registry.asked[0].query["scope"] == ["repository:library/app:pull,push", "repository:other:pull"]


def test_tok_02_trades_a_refresh_token(registry: Registry, open_session: Open) -> None:
    registry.tokens = [
        {"access_token": "token-1", "refresh_token": "refresh-2"},
        {"access_token": "token-1"},
    ]
    address = registry.server.address
    session = open_session(address, Given(address, IDENTITY))

    session.head_blob(NAME, BLOB)
    session.head_blob(RepositoryName("other"), BLOB)

    first, second = registry.asked
    assert (first.method, first.authorization) == ("POST", None)
    assert first.form == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh-1"],
        "service": ["registry.example"],
        "client_id": ["cargohold"],
        "scope": ["repository:library/app:pull"],
    }
    assert second.form["refresh_token"] == ["refresh-2"]


@pytest.mark.parametrize("status", [404, 405])
def test_tok_02_falls_back_to_the_oauth2_form(registry: Registry, known: Session, status: int) -> None:
    registry.token_statuses = {"GET": status}

    known.head_blob(NAME, BLOB)

    form = registry.asked[-1].form
    assert (form["grant_type"], form["username"], form["password"]) == (["password"], ["me"], ["secret"])


@pytest.mark.parametrize(
    "challenge",
    [
        pytest.param('Basic realm="x"', id="alone"),
        pytest.param('Negotiate, BASIC realm="a, b"', id="beside-an-unknown-one"),
    ],
)
def test_tok_02_answers_basic(registry: Registry, known: Session, challenge: str) -> None:
    registry.challenge = challenge

    known.head_blob(NAME, BLOB)
    known.head_blob(NAME, BLOB)

    # The second request carries it at once.
    assert [each.authorization for each in registry.server.requests] == [None, BASIC, BASIC]


def test_tok_02_prefers_a_token_to_a_password(registry: Registry, known: Session) -> None:
    registry.challenge = 'Basic realm="x", Bearer realm="{url}/token",service="s"'

    known.head_blob(NAME, BLOB)

    assert registry.server.requests[-1].authorization == "Bearer token-1"


def test_sends_a_registry_token_as_it_is(registry: Registry, open_session: Open) -> None:
    address = registry.server.address
    session = open_session(address, Given(address, Credential(registry_token="token-1")))

    session.head_blob(NAME, BLOB)

    assert not registry.asked


def test_net_07_keeps_a_token_for_its_scopes(registry: Registry, known: Session) -> None:
    for name in ("a", "a", "b", "a"):
        known.head_blob(RepositoryName(name), BLOB)

    assert [each.query["scope"] for each in registry.asked] == [
        ["repository:a:pull", "repository:library/app:pull"],
        ["repository:b:pull"],
    ]


@pytest.mark.parametrize(
    ("seconds", "kept_for", "asked"),
    [
        pytest.param(300, 289, 1, id="nearly-over"),
        pytest.param(300, 291, 2, id="over"),
        pytest.param(10, 49, 1, id="never-less-than-a-minute"),
        pytest.param(None, 51, 2, id="a-minute-when-silent"),
        pytest.param(10**9, 3591, 2, id="never-more-than-an-hour"),
    ],
)
def test_net_07_keeps_a_token_until_shortly_before_its_end(
    registry: Registry, known: Session, clock: FakeClock, seconds: int | None, kept_for: float, asked: int
) -> None:
    registry.tokens = [{"token": "token-1", **({} if seconds is None else {"expires_in": seconds})}]
    known.ping()

    clock.advance(kept_for)
    known.ping()

    assert len(registry.asked) == asked


def test_net_07_shares_tokens_but_not_between_identities(
    registry: Registry, open_session: Open, clock: FakeClock
) -> None:
    address, cache = registry.server.address, TokenCache()
    network = Network(deadline=clock.deadline())
    sessions = [
        Session(open_session(address).host, Given(address, credential), network, cache)
        for credential in (PASSWORD, PASSWORD, Credential("you", "other"))
    ]

    for session in sessions:
        with session:
            session.ping()

    assert [each.query["account"] for each in registry.asked] == [["me"], ["you"]]


def test_fetches_a_token_once_for_all_threads(registry: Registry, known: Session) -> None:
    known.ping()
    name = RepositoryName("parallel")
    threads = [threading.Thread(target=known.head_blob, args=(name, BLOB)) for _ in range(6)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [each.query.get("scope") for each in registry.asked] == [None, ["repository:parallel:pull"]]


def test_cli_07_replaces_a_token_that_expired_early(registry: Registry, known: Session) -> None:
    registry.tokens = [{"token": "token-1"}, {"token": "token-2"}]
    known.head_blob(NAME, BLOB)
    registry.good = ["token-2"]

    known.head_blob(NAME, BLOB)

    assert len(registry.asked) == 2
    assert registry.server.requests[-1].authorization == "Bearer token-2"


def test_cli_07_gives_up_after_two_rounds(registry: Registry, known: Session) -> None:
    registry.good, registry.tokens = [], [{"token": f"bad-{number}"} for number in range(9)]

    with pytest.raises(Unauthorized):
        known.head_blob(NAME, BLOB)

    assert len(registry.asked) == 2
    assert len(registry.server.seen("HEAD")) == 3


def test_cli_07_does_not_repeat_a_refused_password(registry: Registry, known: Session) -> None:
    registry.challenge = 'Basic realm="x"'
    wrong = Given(registry.server.address, Credential("me", "wrong", source="/some/file:3"))
    session = Session(known.host, wrong)

    with session, pytest.raises(Unauthorized, match="of me from /some/file:3"):
        session.head_blob(NAME, BLOB)

    assert len(registry.server.requests) == 2


def test_cli_07_asks_again_for_a_scope_that_was_lacking(registry: Registry, known: Session) -> None:
    registry.tokens = [{"token": "small"}, {"token": "token-1"}]
    registry.challenge = 'Bearer realm="{url}/token",scope="repository:other:push",error="insufficient_scope"'

    known.head_blob(NAME, BLOB)

    assert registry.asked[-1].query["scope"] == ["repository:library/app:pull", "repository:other:push"]


def test_cli_07_says_whose_credentials_were_refused(registry: Registry, known: Session) -> None:
    registry.token_statuses = {"GET": 401}

    with pytest.raises(Unauthorized, match="of me from the test") as caught:
        known.head_blob(NAME, BLOB)

    assert "secret" not in repr(caught.value)
    assert "secret" not in repr(PASSWORD)


def test_says_that_there_are_no_credentials(registry: Registry, session: Session) -> None:
    registry.challenge = 'Basic realm="x"'

    with pytest.raises(Unauthorized, match="none were found"):
        session.ping()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"<html>", AnswerInvalid, id="no-json"),
        pytest.param(b"[" * 100_000, AnswerInvalid, id="deep"),
        pytest.param([], AnswerInvalid, id="no-object"),
        pytest.param({}, AnswerInvalid, id="no-token"),
        pytest.param({"token": "a\r\nX-Evil: 1"}, AnswerInvalid, id="a-header-in-the-token"),
        pytest.param({"token": 7}, AnswerInvalid, id="a-number"),
        pytest.param(b" " * (1024 * 1024 + 1), AnswerTooLarge, id="net-09-too-large"),
    ],
)
def test_refuses_what_is_no_token(
    registry: Registry, known: Session, answer: object, error: type[RegistryError]
) -> None:
    registry.tokens = [answer]

    with pytest.raises(error):
        known.ping()


def test_cli_06_stops_reading_an_endless_token(registry: Registry, known: Session) -> None:
    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield b" " * 65536

    registry._token = lambda received: endless()  # type: ignore[method-assign]

    with pytest.raises(AnswerTooLarge):
        known.ping()


@pytest.mark.parametrize(
    "challenge",
    [
        pytest.param('Bearer realm=""', id="empty"),
        pytest.param('Bearer realm="/token"', id="no-host"),
        pytest.param('Bearer realm="file:///etc/passwd"', id="scheme"),
        pytest.param('Bearer realm="http://you:pw@127.0.0.1/token"', id="with-a-user"),
        pytest.param('Bearer realm="http://[::1"', id="no-url"),
        pytest.param('Bearer realm="http://169.254.169.254/token"', id="metadata"),
        pytest.param("Unheard of", id="unknown-scheme"),
    ],
)
def test_net_05_sends_nothing_to_a_wrong_realm(registry: Registry, known: Session, challenge: str) -> None:
    registry.challenge = challenge

    with pytest.raises((DestinationRefused, Unauthorized)):
        known.ping()

    assert len(registry.server.requests) == 1


def test_net_04_leaves_the_password_behind_when_the_realm_redirects(
    registry: Registry, known: Session
) -> None:
    with lying(lambda _: reply_json(200, {"token": "token-1"})) as other:
        registry._token = lambda received: reply(307, Location=f"{other.url}/t")  # type: ignore[method-assign]

        known.ping()

        assert [each.authorization for each in other.requests] == [None]


def test_net_04_sends_no_form_to_where_the_realm_redirects(registry: Registry, open_session: Open) -> None:
    address = registry.server.address
    session = open_session(address, Given(address, IDENTITY))
    with lying(lambda _: reply_json(200, {"token": "token-1"})) as other:
        registry._token = lambda received: reply(307, Location=f"{other.url}/t")  # type: ignore[method-assign]

        with pytest.raises(DestinationRefused):
            session.ping()

        assert not other.requests


@pytest.mark.parametrize(
    ("answer", "stored"),
    [
        pytest.param(
            {"token": "token-1", "refresh_token": "refresh"},
            Credential("me", identity_token="refresh"),
            id="a-refresh-token",
        ),
        pytest.param({"token": "token-1"}, PASSWORD, id="the-password"),
    ],
)
def test_logs_in(registry: Registry, session: Session, answer: object, stored: Credential) -> None:
    registry.tokens = [answer]

    assert session.login(PASSWORD) == stored
    assert registry.asked[-1].query["offline_token"] == ["true"]


def test_does_not_log_in_with_a_wrong_password(registry: Registry, session: Session) -> None:
    registry.token_statuses = {"GET": 401, "POST": 401}

    with pytest.raises(Unauthorized):
        session.login(Credential("me", "wrong"))


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_token_endpoint_that_is_not_there_says_nothing_about_a_blob(
    registry: Registry, session: Session, status: int
) -> None:
    registry.token_statuses = {"GET": status, "POST": status}

    with pytest.raises(AnswerInvalid, match=f"token endpoint.*{status}"):
        session.has_blob(NAME, BLOB)


def test_cli_07_tells_what_is_denied_from_who_is_unknown(registry: Registry, known: Session) -> None:
    registry.good, registry.tokens = [], [{"token": f"small-{number}"} for number in range(9)]
    registry.challenge = 'Bearer realm="{url}/token",scope="{scope}",error="insufficient_scope"'

    with pytest.raises(Denied, match=r"me .*repository:library/app:pull"):
        known.head_blob(NAME, BLOB)


def test_cli_07_asks_who_is_nobody_for_credentials(registry: Registry, session: Session) -> None:
    registry.good, registry.tokens = [], [{"token": f"small-{number}"} for number in range(9)]
    registry.challenge = 'Bearer realm="{url}/token",scope="{scope}",error="insufficient_scope"'

    with pytest.raises(Unauthorized, match="none were found"):
        session.head_blob(NAME, BLOB)


def test_cli_07_a_wrong_password_is_tried_once_by_many_threads(registry: Registry, known: Session) -> None:
    """More would lock the account."""
    registry.token_statuses = {"GET": 401}
    refused: list[RegistryError] = []
    together = threading.Barrier(6)

    def ask() -> None:
        together.wait()
        try:
            known.head_blob(NAME, BLOB)
        except Unauthorized as error:
            refused.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 6
    assert len(registry.asked) == 1
