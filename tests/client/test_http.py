"""Sockets: TLS and whom it trusts, plain http only where asked, proxies, and the floor under a transfer."""

import os
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from client.content import BytesContent
from client.credentials import Credential, Given
from client.endpoints import Host, Scheme
from client.errors import (
    CertificateRejected,
    ConfigurationInvalid,
    DestinationRefused,
    ProxyRefused,
    TimedOut,
    Unreachable,
)
from client.http import Pace, Timeouts
from client.network import Network
from client.proxies import Proxies
from client.retry import Patience
from client.session import Session
from client.tls import Tls
from storage.oci.digest import Digest
from storage.oci.names import RepositoryName
from tests.client.certificates import Authority
from tests.client.conftest import Open
from tests.client.lying import Received, lying, reply, reply_error, reply_json

NAME = RepositoryName("library/app")
DIGEST = Digest.of(b"")
ONCE = Patience(attempts=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("stranger"))


def ok(_: Received) -> Iterable[bytes]:
    return reply(200, b"{}")


def host(address: str, scheme: Scheme = Scheme.HTTPS, **tls: object) -> Host:
    return Host(address, address, scheme, tls=Tls(**tls))  # type: ignore[arg-type]


# TLS


def test_trusts_the_authority_it_is_given(authority: Authority, open_session: Open) -> None:
    with lying(ok, authority.server_context()) as server:
        open_session("", host=host(server.address, ca_files=(authority.certificate,))).ping()


@pytest.mark.parametrize("case", ["unknown-authority", "wrong-name"])
def test_rejects_a_certificate_of(
    case: str, authority: Authority, stranger: Authority, open_session: Open
) -> None:
    alternatives = "DNS:other.example" if case == "wrong-name" else None
    trusted = authority if case == "wrong-name" else stranger
    with (
        lying(ok, authority.server_context("odd", alternatives)) as server,
        pytest.raises(CertificateRejected, match=r"127\.0\.0\.1"),
    ):
        open_session("", host=host(server.address, ca_files=(trusted.certificate,))).ping()


def test_does_not_verify_where_it_is_told_so(authority: Authority, open_session: Open) -> None:
    with lying(ok, authority.server_context()) as server:
        open_session("", host=host(server.address, verify=False)).ping()


def test_net_08_an_insecure_registry_makes_no_insecure_token_host(
    authority: Authority, open_session: Open
) -> None:
    with lying(lambda _: reply_json(200, {"token": "x"}), authority.server_context("auth")) as auth:
        challenge = f'Bearer realm="{auth.url}/token"'
        with lying(
            lambda _: reply_error(401, "UNAUTHORIZED", WWW_Authenticate=challenge),
            authority.server_context(),
        ) as server:
            credentials = Given(server.address, Credential("me", "secret"))
            session = open_session("", credentials, host=host(server.address, verify=False))

            with pytest.raises(CertificateRejected):
                session.ping()

    assert not auth.requests


def test_net_08_an_insecure_registry_makes_no_insecure_redirect(
    authority: Authority, open_session: Open
) -> None:
    with (
        lying(ok, authority.server_context("cdn")) as cdn,
        lying(lambda _: reply(307, Location=f"{cdn.url}/b"), authority.server_context()) as server,
        pytest.raises(CertificateRejected),
    ):
        open_session("", host=host(server.address, verify=False)).open_blob(NAME, Digest.of(b""))


def test_net_08_a_host_named_insecure_is_so_as_a_token_host(authority: Authority, open_session: Open) -> None:
    with lying(lambda _: reply_json(200, {"token": "x"}), authority.server_context("auth")) as auth:

        def answer(received: Received) -> Iterable[bytes]:
            if received.authorization:
                return ok(received)
            return reply_error(401, "X", WWW_Authenticate=f'Bearer realm="{auth.url}/token"')

        with lying(answer, authority.server_context()) as server:
            network = Network(tls=lambda address: Tls(verify=address != auth.address))
            open_session("", network=network, host=host(server.address, verify=False)).ping()


def test_shows_its_certificate_to_its_registry_alone(authority: Authority, open_session: Open) -> None:
    def context(name: str) -> ssl.SSLContext:
        made = authority.server_context(name)
        made.verify_mode = ssl.CERT_OPTIONAL
        made.load_verify_locations(authority.certificate)
        return made

    certificate, key = authority.issue("client")
    with (
        lying(ok, context("cdn")) as cdn,
        lying(lambda _: reply(307, Location=f"{cdn.url}/b"), context("server")) as server,
    ):
        tls = host(
            server.address, ca_files=(authority.certificate,), client_certificates=((certificate, key),)
        )
        open_session("", host=tls).open_blob(NAME, Digest.of(b"")).close()

    assert (server.peer_certificates, cdn.peer_certificates) == (["client"], [None])


@pytest.mark.parametrize("what", ["ca_files", "client_certificates"])
def test_names_a_file_it_cannot_use(what: str, open_session: Open, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("rubbish")
    tls = {
        "ca_files": Tls(ca_files=(broken,)),
        "client_certificates": Tls(client_certificates=((broken, broken),)),
    }

    with pytest.raises(ConfigurationInvalid, match=r"broken\.pem"):
        open_session("", host=Host("x", "127.0.0.1:1", tls=tls[what])).ping()


# Plain http


def test_finds_that_there_is_tls(authority: Authority, open_session: Open) -> None:
    with lying(ok, authority.server_context()) as server:
        open_session("", host=host(server.address, Scheme.EITHER, ca_files=(authority.certificate,))).ping()


def test_finds_that_there_is_no_tls(our_registry: str, open_session: Open) -> None:
    open_session("", host=host(our_registry, Scheme.EITHER)).ping()


def test_net_01_speaks_no_plain_http_where_it_was_not_asked(our_registry: str, open_session: Open) -> None:
    with pytest.raises(Unreachable, match="TLS"):
        open_session("", network=Network(patience=ONCE), host=host(our_registry)).ping()


def test_net_01_a_bad_certificate_is_no_reason_for_plain_http(
    authority: Authority, open_session: Open
) -> None:
    with lying(ok, authority.server_context()) as server, pytest.raises(CertificateRejected):
        open_session("", host=host(server.address, Scheme.EITHER)).ping()


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda session: session.ping(), id="ping"),
        pytest.param(lambda session: session.has_blob(NAME, DIGEST), id="head"),
        pytest.param(lambda session: session.open_blob(NAME, DIGEST).close(), id="empty-blob"),
        pytest.param(lambda session: session.upload_blob(NAME, DIGEST, BytesContent(b"")), id="upload"),
    ],
)
def test_uses_a_connection_again(open_session: Open, call: Callable[[Session], object]) -> None:
    def answer(received: Received) -> Iterable[bytes]:
        statuses = {"POST": 202, "PUT": 201}
        body = b"{}" if received.path == "/v2/" else b""
        return reply(statuses.get(received.method, 200), body, Location="/upload")

    with lying(answer) as server:
        session = open_session(server.address)
        for _ in range(5):
            call(session)

        assert len(server.requests) >= 5
        assert server.connections == 1


# Proxies


class Proxy:
    """A CONNECT proxy."""

    def __init__(self, seen: list[str], context: ssl.SSLContext | None = None) -> None:
        self._seen = seen
        self._context = context
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        scheme = "https" if self._context else "http"
        # A name with two addresses on most machines, only one of which listens.
        return f"{scheme}://user:pass@localhost:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
            if self._context:
                client = self._context.wrap_socket(client, server_side=True)
        except OSError:
            return
        with client, client.makefile("rb") as file:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += file.readline()
            self._seen.append(head.decode())
            port = int(head.split()[1].rpartition(b":")[2])
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            with socket.create_connection(("127.0.0.1", port)) as upstream, suppress(OSError):
                _pump(client, upstream)


def _pump(client: socket.socket, upstream: socket.socket) -> None:
    """Carry bytes both ways until one side ends, in one thread: a TLS socket is no two threads' at once."""
    other = {client: upstream, upstream: client}
    while True:
        has_more = isinstance(client, ssl.SSLSocket) and client.pending()
        for source in [client] if has_more else select.select([client, upstream], [], [])[0]:
            if not (data := source.recv(65536)):
                return
            other[source].sendall(data)


def test_goes_through_a_proxy(authority: Authority, open_session: Open) -> None:
    """TLS is with the registry, whose name only the proxy can resolve."""
    seen: list[str] = []
    context = authority.server_context("far", "DNS:registry.example")
    with lying(ok, context) as server, Proxy(seen) as proxy:
        network = Network(proxies=Proxies(https=proxy), resolve=lambda host, port: ())
        address = f"registry.example:{server.port}"
        with open_session(
            "", network=network, host=host(address, ca_files=(authority.certificate,))
        ) as session:
            session.ping()

    assert seen[0].startswith(f"CONNECT registry.example:{server.port} ")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in seen[0]
    assert "proxy-authorization" not in server.requests[0].headers


def test_net_03_a_proxy_is_sent_to_no_metadata_service(open_session: Open) -> None:
    network = Network(proxies=Proxies("http://127.0.0.1:1", "http://127.0.0.1:1"))

    with pytest.raises(DestinationRefused):
        open_session("169.254.169.254", network=network).ping()


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        pytest.param({}, "https://a.example", None, id="none"),
        pytest.param({"HTTPS_PROXY": "http://p:1"}, "https://a.example", "http://p:1", id="https"),
        pytest.param({"https_proxy": "p:1"}, "https://a.example", "http://p:1", id="lower-case-and-bare"),
        pytest.param({"HTTPS_PROXY": "http://p:1"}, "http://a.example", None, id="not-for-http"),
        pytest.param({"HTTP_PROXY": "http://p:1"}, "http://a.example", "http://p:1", id="http"),
        pytest.param(
            {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, "http://a.example", None, id="cgi"
        ),
        pytest.param({"ALL_PROXY": "http://p:1"}, "https://a.example", "http://p:1", id="all"),
        pytest.param({"ALL_PROXY": "http://p:1"}, "http://127.0.0.1:5000", None, id="never-for-loopback"),
        pytest.param({"ALL_PROXY": "http://p:1"}, "http://localhost", None, id="never-for-localhost"),
    ],
)
def test_takes_proxies_from_the_environment(environment: dict[str, str], url: str, proxy: str | None) -> None:
    found = Proxies.from_environment(environment).of(httpx.URL(url))

    assert found == (None if proxy is None else httpx.URL(proxy))


@pytest.mark.parametrize(
    ("exceptions", "url", "is_direct"),
    [
        pytest.param("*", "https://a.example", True, id="all"),
        pytest.param("a.example", "https://a.example", True, id="the-host"),
        pytest.param("example", "https://a.example", True, id="its-domain"),
        pytest.param(".example", "https://a.example", True, id="below-a-domain"),
        pytest.param("*.example", "https://a.example", True, id="star"),
        pytest.param(".a.example", "https://a.example", False, id="below-itself"),
        pytest.param("ample", "https://a.example", False, id="a-part-of-a-label"),
        pytest.param("x, A.EXAMPLE ,y", "https://a.example", True, id="list-and-case"),
        pytest.param("a.example:8443", "https://a.example", False, id="other-port"),
        pytest.param("a.example:443", "https://a.example", True, id="default-port"),
        pytest.param("10.0.0.0/8", "https://10.1.2.3", True, id="network"),
        pytest.param("10.0.0.0/8", "https://11.1.2.3", False, id="other-network"),
        pytest.param("fd00::/8", "https://[fd00::1]", True, id="ipv6-network"),
        pytest.param("[fd00::1]:443", "https://[fd00::1]", True, id="ipv6-and-port"),
    ],
)
def test_knows_where_no_proxy_is_needed(exceptions: str, url: str, is_direct: bool) -> None:
    proxies = Proxies.from_environment({"ALL_PROXY": "http://p:1", "NO_PROXY": exceptions})

    assert (proxies.of(httpx.URL(url)) is None) is is_direct


@pytest.mark.parametrize("proxy", ["socks5://p:1", "http://", "http://[::1"])
def test_refuses_a_proxy_it_cannot_use(proxy: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        Proxies(https=proxy).of(httpx.URL("https://a.example"))


# The floor


def test_net_09_cuts_what_crawls() -> None:
    pace = Pace(Timeouts(floor_bytes_per_second=1024, floor_window_seconds=60))

    for _ in range(59):
        pace.add(1023, 1.0)
    with pytest.raises(TimedOut, match="too slow"):
        pace.add(1023, 1.0)


def test_net_09_lets_pass_what_is_fast_enough() -> None:
    pace = Pace(Timeouts(floor_bytes_per_second=1024, floor_window_seconds=60))

    for _ in range(600):
        pace.add(1024, 1.0)


def test_net_09_cuts_a_body_that_drips(open_session: Open) -> None:
    stop = threading.Event()

    def dripping(_: Received) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
        while not stop.wait(0.01):
            yield b"x"

    timeouts = Timeouts(floor_bytes_per_second=100_000, floor_window_seconds=0.1)
    network = Network(timeouts=timeouts, patience=ONCE)
    with lying(dripping) as server:
        with pytest.raises(TimedOut, match="too slow"):
            open_session(server.address, network=network).ping()
        stop.set()


def test_net_09_cuts_headers_that_drip(open_session: Open) -> None:
    stop = threading.Event()

    def dripping(_: Received) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nX: "
        while not stop.wait(0.01):
            yield b"x"

    timeouts = Timeouts(floor_bytes_per_second=100_000, floor_window_seconds=0.1)
    network = Network(timeouts=timeouts, patience=ONCE)
    with lying(dripping) as server:
        with pytest.raises(TimedOut, match="too slow"):
            open_session(server.address, network=network).ping()
        stop.set()


def test_reads_a_large_body_over_tls(authority: Authority, open_session: Open) -> None:
    content = os.urandom(5_000_000)
    with lying(lambda _: reply(200, content), authority.server_context()) as server:
        session = open_session("", host=host(server.address, ca_files=(authority.certificate,)))
        with session.open_blob(NAME, Digest.of(content), size=len(content)) as stream:
            assert b"".join(stream) == content


@pytest.fixture
def trusting(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the authority one of the system's, which proxies are verified with."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))


@pytest.mark.usefixtures("trusting")
def test_goes_through_an_https_proxy(authority: Authority, open_session: Open) -> None:
    """TLS with the registry inside of TLS with the proxy, in both directions."""
    seen: list[str] = []
    content = os.urandom(5_000_000)
    bodies: list[bytes] = []

    def answer(received: Received) -> Iterable[bytes]:
        bodies.append(received.body)
        if received.method == "GET":
            return reply(200, content)
        return reply(201 if received.method == "PUT" else 202, Location="/u")

    context = authority.server_context("far", "DNS:registry.example")
    with (
        lying(answer, context) as server,
        Proxy(seen, authority.server_context("proxy")) as proxy,
    ):
        network = Network(proxies=Proxies(https=proxy), resolve=lambda host, port: ())
        address = f"registry.example:{server.port}"
        with open_session(
            "", network=network, host=host(address, ca_files=(authority.certificate,))
        ) as session:
            with session.open_blob(NAME, Digest.of(content)) as stream:
                assert b"".join(stream) == content
            session.upload_blob(NAME, Digest.of(content), BytesContent(content))

        assert server.connections == 1
    assert b"".join(bodies) == content
    assert seen[0].startswith(f"CONNECT registry.example:{server.port} ")


def test_an_https_proxy_is_verified(authority: Authority, open_session: Open) -> None:
    with Proxy([], authority.server_context("proxy")) as proxy, pytest.raises(CertificateRejected):
        open_session("", network=Network(proxies=Proxies(https=proxy)), host=host("r.example")).ping()


@pytest.mark.usefixtures("trusting")
def test_verifies_the_registry_behind_an_https_proxy(
    authority: Authority, stranger: Authority, open_session: Open
) -> None:
    with (
        lying(ok, stranger.server_context("far", "DNS:registry.example")) as server,
        Proxy([], authority.server_context("proxy")) as proxy,
    ):
        network = Network(proxies=Proxies(https=proxy))
        with pytest.raises(CertificateRejected, match=r"registry\.example"):
            open_session("", network=network, host=host(f"registry.example:{server.port}")).ping()


@pytest.mark.parametrize("status", [403, 407])
def test_does_not_ask_again_a_proxy_that_refuses(open_session: Open, status: int) -> None:
    """A wrong password may be counted there."""
    with lying(lambda _: reply(status)) as proxy:
        network = Network(proxies=Proxies(https=proxy.url))
        with pytest.raises(ProxyRefused, match=rf"registry\.example.*{status}"):
            open_session("", network=network, host=host("registry.example")).ping()

        assert len(proxy.requests) == 1


def test_does_not_ask_for_the_password_of_a_key(open_session: Open, authority: Authority) -> None:
    """Nobody may be there to type it."""
    certificate, key = authority.issue("locked")
    subprocess.run(
        ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", key], check=True,
        capture_output=True,
    )  # fmt: skip

    with pytest.raises(ConfigurationInvalid, match=r"locked.*crt"):
        open_session("", host=host("127.0.0.1:1", client_certificates=((certificate, key),))).ping()
