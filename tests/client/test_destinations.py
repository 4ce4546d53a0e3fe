"""Where answers may send us: one table over every source of a URL (NET-02 to NET-06)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpx
import pytest

from client.content import BytesContent
from client.credentials import Credential, Given
from client.destinations import Destinations, is_loopback, shares_owner
from client.endpoints import Host, Scheme
from client.errors import ConfigurationInvalid, DestinationRefused
from client.network import Network
from client.session import Session
from storage.oci.digest import Digest
from storage.oci.errors import Unauthorized
from storage.oci.names import RepositoryName
from tests.client.clocks import FakeClock
from tests.client.conftest import Open
from tests.client.lying import Received, lying, reply, reply_error, reply_json

NAME = RepositoryName("library/app")
BLOB = Digest.of(b"")


def no_address(host: str, port: int) -> tuple[str, ...]:
    """Stand in for DNS: only loopback, which is where the lying server is."""
    assert host == "127.0.0.1"
    return (host,)


@dataclass(frozen=True)
class Source:
    """A place in an answer that names a URL, and the call that meets it."""

    answer: Callable[[Received, str], Iterable[bytes]]
    call: Callable[[Session, str], object]


def _open_blob(session: Session, _: str) -> object:
    return session.open_blob(NAME, BLOB)


SOURCES = {
    "redirect": Source(lambda _, url: reply(307, Location=url), _open_blob),
    "realm": Source(
        lambda _, url: reply_error(401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="{url}",service="s"'),
        _open_blob,
    ),
    "upload-location": Source(
        lambda _, url: reply(202, Location=url),
        lambda session, _: session.upload_blob(NAME, BLOB, BytesContent(b"")),
    ),
    "next-page": Source(
        lambda _, url: reply_json(200, {"tags": ["v1"]}, Link=f'<{url}>; rel="next"'),
        lambda session, _: list(session.tags(NAME)),
    ),
    "foreign-layer": Source(lambda _, __: [], lambda session, url: session.open_foreign(url, 1)),
}
METADATA = {
    "aws": "http://169.254.169.254/latest/meta-data/",
    "aws-ipv6": "http://[fd00:ec2::254]/latest/",
    "gcp": "http://metadata.google.internal/computeMetadata/v1/",
    "metadata": "http://metadata/",
    "alibaba": "http://100.100.100.200/",
    "mapped": "http://[::ffff:169.254.169.254]/",
    "nat64": "http://[64:ff9b::a9fe:a9fe]/",
    "6to4": "http://[2002:a9fe:a9fe::]/",
    "decimal": "http://2852039166/",
    "hexadecimal": "http://0xa9fea9fe/",
    "octal": "http://0251.0376.0251.0376/",
    "trailing-dot": "http://metadata.google.internal./",
    "unspecified": "http://0.0.0.0/",
    "unspecified-ipv6": "http://[::]/",
    "multicast": "http://224.0.0.1/",
}
OTHER = {
    "file": "file:///etc/passwd",
    "ftp": "ftp://127.0.0.1/",
    "with-a-user": "http://user:secret@127.0.0.1/",
}
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


@every_source
@pytest.mark.parametrize("url", (METADATA | OTHER).values(), ids=METADATA | OTHER)
def test_net_03_refuses_from_every_source(
    source: Source, url: str, open_session: Open, clock: FakeClock
) -> None:
    with lying(lambda received: source.answer(received, url)) as server:
        credentials = Given(server.address, Credential("me", "secret"))
        network = Network(deadline=clock.deadline(), resolve=no_address)
        session = open_session(server.address, credentials, network)

        with pytest.raises(DestinationRefused) as caught:
            source.call(session, url)

    assert "secret" not in str(caught.value.detail) + caught.value.message
    assert not clock.slept


@pytest.mark.parametrize("url", METADATA.values(), ids=METADATA)
def test_net_03_refuses_as_a_registry(url: str, open_session: Open) -> None:
    address = url.removeprefix("http://").partition("/")[0]

    # httpx takes the octal form for no address at all.
    with pytest.raises((DestinationRefused, ConfigurationInvalid)):
        open_session(address).ping()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{}/", "http://10.0.0.1/", "http://localhost:{}/", "https://[::1]/"]
)
@pytest.mark.parametrize("what", ["the redirect", "the token realm", "the upload location"])
def test_net_05_a_public_registry_leads_to_no_private_address(url: str, what: str) -> None:
    rules = Destinations(httpx.URL("http://registry.example"), resolve=lambda host, port: ("203.0.113.7",))
    public = Destinations(httpx.URL("http://registry.example"), resolve=lambda host, port: ("8.8.8.8",))
    target = httpx.URL(url.format(80))

    with pytest.raises(DestinationRefused, match="network"):
        public.check(target, rules.registry, what)


@pytest.mark.parametrize(
    ("registry", "address", "target"),
    [
        pytest.param("registry.example", "8.8.8.8", "http://cdn.example/x", id="public-to-a-name"),
        pytest.param("registry.example", "8.8.8.8", "http://8.8.4.4/x", id="public-to-public"),
        pytest.param("registry.lan", "10.1.2.3", "http://10.0.0.9/x", id="private-to-private"),
        pytest.param("10.1.2.3", "10.1.2.3", "http://10.0.0.9/x", id="a-private-address-to-private"),
        pytest.param("localhost:5000", "127.0.0.1", "http://127.0.0.1:9000/x", id="loopback-to-loopback"),
        pytest.param("127.0.0.1:5000", "127.0.0.1", "http://10.0.0.9/x", id="loopback-to-private"),
    ],
)
def test_net_05_an_address_may_be_as_near_as_the_registry(registry: str, address: str, target: str) -> None:
    rules = Destinations(httpx.URL(f"http://{registry}"), resolve=lambda host, port: (address,))

    rules.check(httpx.URL(target), rules.registry, "the redirect")


def test_net_01_https_is_not_left_for_http() -> None:
    rules = Destinations(httpx.URL("https://registry.example"))

    with pytest.raises(DestinationRefused, match="leaves https"):
        rules.check(httpx.URL("http://registry.example/x"), rules.registry, "the redirect")
    with pytest.raises(DestinationRefused, match="leaves https"):
        rules.check_realm(httpx.URL("http://registry.example/token"))


@pytest.mark.parametrize(
    ("host", "realm", "is_allowed"),
    [
        pytest.param("registry-1.docker.io", "https://auth.docker.io/token", True, id="docker-hub"),
        pytest.param("quay.io", "https://quay.io/v2/auth", True, id="same-host"),
        pytest.param("registry.co.uk", "https://evil.co.uk/token", False, id="second-level-domain"),
        pytest.param("a.azurecr.io", "https://b.azurecr.io/token", False, id="another-tenant"),
        pytest.param("registry.example", "https://evil.test/token", False, id="a-stranger"),
        pytest.param("registry.example", "https://8.8.8.8/token", False, id="an-address"),
        pytest.param("registry.example", "https://localhost/token", False, id="this-machine"),
        pytest.param("registry.example", "https://login.configured/token", True, id="configured"),
    ],
)
def test_net_05_a_mirror_gives_passwords_to_its_upstream_alone(
    host: str, realm: str, is_allowed: bool
) -> None:
    rules = Destinations(httpx.URL(f"https://{host}"), strict=True, allowed=frozenset({"login.configured"}))

    if is_allowed:
        rules.check_realm(httpx.URL(realm))
    else:
        with pytest.raises(DestinationRefused):
            rules.check_realm(httpx.URL(realm))


def test_net_05_a_client_follows_a_public_realm() -> None:
    Destinations(httpx.URL("https://registry.example")).check_realm(httpx.URL("https://login.test/token"))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1",
     "64:ff9b::a00:1", "2002:a00:1::", "169.254.1.1", "fe80::1%eth0", "0.0.0.0", "240.0.0.1"],
)  # fmt: skip
def test_net_02_a_server_connects_to_public_addresses_alone(address: str) -> None:
    rules = Destinations(httpx.URL("https://u.example"), strict=True, resolve=lambda host, port: (address,))

    with pytest.raises(DestinationRefused):
        rules.addresses("u.example", 443)


def test_net_02_a_name_is_resolved_once_and_the_checked_address_is_used(
    open_session: Open, clock: FakeClock
) -> None:
    """A name that answers differently the second time (DNS rebinding) gets no second time."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> tuple[str, ...]:
        asked.append(host)
        return ("127.0.0.1",) if len(asked) == 1 else ("127.0.0.2",)

    with lying(lambda _: reply(200, b"{}")) as server:
        allowed = frozenset({"upstream.example"})
        network = Network(deadline=clock.deadline(), resolve=rebinding, strict=True, allowed=allowed)
        host = Host("upstream.example", f"upstream.example:{server.port}", Scheme.HTTP)
        open_session("", network=network, host=host).ping()

    assert asked == ["upstream.example"]
    assert server.requests[0].headers["host"] == f"upstream.example:{server.port}"


def test_net_02_a_server_refuses_a_name_that_resolves_to_loopback(open_session: Open) -> None:
    network = Network(resolve=lambda host, port: ("8.8.8.8", "127.0.0.1"), strict=True)

    with pytest.raises(DestinationRefused, match="not public"):
        open_session("upstream.example", network=network).ping()


def test_net_06_a_foreign_layer_gets_no_credentials(open_session: Open) -> None:
    def answer(received: Received) -> Iterable[bytes]:
        if received.path == "/v2/" and received.authorization is None:
            return reply_error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')
        return reply(200, b"layer")

    with lying(answer) as server:
        session = open_session(server.address, Given(server.address, Credential("me", "secret")))
        session.ping()

        with session.open_foreign(f"{server.url}/layer", 5) as stream:
            assert b"".join(stream) == b"layer"

    assert server.requests[-1].authorization is None


def test_net_04_a_foreign_401_gets_no_credentials(open_session: Open) -> None:
    def ask(_: Received) -> Iterable[bytes]:
        return reply_error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')

    with lying(ask) as foreign, lying(lambda _: reply(307, Location=f"{foreign.url}/blob")) as server:
        session = open_session(server.address, Given(server.address, Credential("me", "secret")))

        with pytest.raises(Exception, match="answered 401") as caught:
            session.open_blob(NAME, BLOB)

    assert not isinstance(caught.value, Unauthorized)
    assert all(each.authorization is None for each in foreign.requests)


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("other-port", id="other-port"),
        pytest.param("other-host", id="other-host"),
        pytest.param("and-back", id="there-and-back"),
    ],
)
def test_net_04_credentials_stay_at_home(where: str, open_session: Open) -> None:
    """Not even the way back brings them again."""

    def away(_: Received) -> Iterable[bytes]:
        if where == "and-back":
            return reply(307, Location=f"{home.url}/v2/back")
        return reply(200, b"")

    def at_home(received: Received) -> Iterable[bytes]:
        if received.path == "/v2/back":
            return reply(200, b"")
        if received.authorization is None:
            return reply_error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')
        host = "localhost" if where == "other-host" else "127.0.0.1"
        return reply(307, Location=f"http://{host}:{foreign.port}/blob?signature=x")

    with lying(away) as foreign, lying(at_home) as home:
        host = Host(home.address, home.address, Scheme.HTTP, headers={"X-Key": "secret"})
        session = open_session(
            "",
            Given(home.address, Credential("me", "secret")),
            Network(resolve=lambda *_: ("127.0.0.1",)),
            host,
        )
        session.open_blob(NAME, BLOB).close()

    assert [each.authorization is not None for each in home.requests][:2] == [False, True]
    assert home.requests[1].headers["x-key"] == "secret"
    for each in foreign.requests + home.seen("GET", "/v2/back"):
        assert {"authorization", "x-key", "cookie", "referer"}.isdisjoint(each.headers)
    assert foreign.requests[0].target == "/blob?signature=x"


def test_net_01_redirects_end(open_session: Open) -> None:
    with lying(lambda received: reply(302, Location=received.path + "x")) as server:
        with pytest.raises(Exception, match="more than 5 times"):
            open_session(server.address).open_blob(NAME, BLOB)

        assert len(server.requests) == 6


def test_net_01_a_redirect_does_not_turn_a_push_into_a_get(open_session: Open) -> None:
    with lying(lambda _: reply(303, Location="/elsewhere")) as server:
        with pytest.raises(Exception, match="redirects a POST"):
            open_session(server.address).upload_blob(NAME, BLOB, BytesContent(b""))

        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("host", "other", "is_shared"),
    [
        ("a.example.com", "b.example.com", True),
        ("a.example.com", "example.com", True),
        ("example.com", "example.org", False),
        ("a.com.au", "b.com.au", False),
        ("x.a.com.au", "y.a.com.au", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("localhost", "localhost", True),
    ],
)
def test_tells_who_owns_a_name(host: str, other: str, is_shared: bool) -> None:
    assert shares_owner(host, other) is is_shared


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "a.localhost"])
def test_knows_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback(host + ".example")
