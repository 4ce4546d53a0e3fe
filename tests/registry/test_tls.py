"""TLS: what is spoken, which certificate is shown, who is let in, and what happens before the handshake."""

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from registry import metrics
from registry.settings import Settings
from tests.client.certificates import Authority
from tests.registry.conftest import serving
from tests.registry.pushing import Repository, error_code
from tests.registry.test_server import CARGOHOLD, answers, free_port, running
from tests.registry.wire import connect

HELLO = bytes.fromhex("160301")  # how every TLS connection begins
GET = "GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Settings:
    return secured(tmp_path_factory.mktemp("registry"), authority)


def secured(data: Path, authority: Authority, **more: object) -> Settings:
    certificate, key = authority.issue("registry")
    return Settings.load(
        None,
        {"data": data, "access_log": False, "tls_certificate": certificate, "tls_key": key, **more},
    )


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.certificate))


@contextmanager
def secure(url: str, context: ssl.SSLContext, **more: object) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=20) as sock,
        context.wrap_socket(sock, server_hostname="localhost", **more) as secured,  # type: ignore[arg-type]
    ):
        yield secured


def shown(url: str) -> bytes:
    """Return the certificate that a new handshake is shown."""
    with connect(url) as wire:
        assert isinstance(wire.sock, ssl.SSLSocket)
        return wire.sock.getpeercert(binary_form=True) or b""


def der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


@contextmanager
def counting(reason: str, count: int = 1) -> Iterator[None]:
    """Wait until the server has counted so many failed handshakes more: it does behind the client's end."""
    expected = failed_handshakes(reason) + count
    yield
    deadline = time.monotonic() + 20
    while failed_handshakes(reason) < expected:
        assert time.monotonic() < deadline, f"only {failed_handshakes(reason)} of {expected}"
    assert failed_handshakes(reason) == expected


def failed_handshakes(reason: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == "cargohold_tls_handshakes_failed_total" and sample.labels["reason"] == reason
    )


# What is spoken


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tok_06_speaks_tls_1_2_and_1_3(
    registry_url: str, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = trusting(authority)
    context.minimum_version = context.maximum_version = version
    with connect(registry_url, tls=context) as wire:
        wire.send(GET)
        assert wire.answer().status == 200
        assert isinstance(wire.sock, ssl.SSLSocket)
        cipher, _, _ = wire.sock.cipher() or ("", "", 0)
        assert "GCM" in cipher or "CHACHA20" in cipher


def test_tok_06_refuses_tls_1_1(registry_url: str, authority: Authority) -> None:
    context = trusting(authority)
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    # The server refused, and not the client.
    with counting("tls"), pytest.raises(ssl.SSLError), secure(registry_url, context):
        pass


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"])
def test_tok_06_refuses_ciphers_without_forward_secrecy_or_authentication(
    registry_url: str, authority: Authority, cipher: str
) -> None:
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with counting("tls"), pytest.raises(ssl.SSLError), secure(registry_url, context):
        pass


def test_tok_06_never_renegotiates(registry_url: str, authority: Authority) -> None:
    address = f"127.0.0.1:{httpx.URL(registry_url).port}"
    ended = subprocess.run(
        ["openssl", "s_client", "-tls1_2", "-connect", address, "-CAfile", authority.certificate],
        input="R\n",
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert "RENEGOTIATING" in ended.stdout + ended.stderr
    assert "no renegotiation" in ended.stderr


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_gives_no_ticket_that_another_worker_could_not_read(
    registry_url: str, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = trusting(authority)
    context.maximum_version = version
    with secure(registry_url, context) as sock:
        sock.sendall(GET.encode())
        assert sock.recv(65536)
        assert sock.session is None or not sock.session.has_ticket


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)]
)
def test_speaks_http_1_1_whatever_is_offered(
    registry_url: str, authority: Authority, offered: list[str], chosen: str | None
) -> None:
    context = trusting(authority)
    if offered:
        context.set_alpn_protocols(offered)
    with connect(registry_url, tls=context) as wire:
        assert isinstance(wire.sock, ssl.SSLSocket)
        assert wire.sock.selected_alpn_protocol() == chosen
        wire.send(GET)
        assert wire.answer().status == 200


def test_tok_06_every_answer_over_tls_says_to_stay_there(registry_url: str) -> None:
    for request, status in (
        (GET, 200),
        ("GET /v2/a/manifests/none HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /v2/ HTTP/1.1\r\n\r\n", 400),
    ):
        with connect(registry_url) as wire:
            wire.send(request)
            answer = wire.answer()
        assert answer.status == status
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("more", [{"hsts_seconds": 0}, {"tls_certificate": None, "tls_key": None}])
def test_hsts_is_not_told_when_not_asked_for_or_over_plain_http(
    tmp_path: Path, authority: Authority, more: dict[str, object]
) -> None:
    with serving(secured(tmp_path, authority, **more)) as url, connect(url) as wire:
        wire.send(GET)
        assert "strict-transport-security" not in wire.answer().headers


# The wrong language


def test_tok_06_plain_http_on_the_tls_port_is_answered_at_once(registry_url: str) -> None:
    with counting("plain"), connect(registry_url.replace("https", "http")) as wire:
        wire.send(GET)
        answer = wire.answer()
        assert wire.is_closed()

    assert answer.status == 400
    assert "this port speaks TLS" in json.loads(answer.body)["errors"][0]["message"]
    assert "strict-transport-security" not in answer.headers, "plain HTTP must not say so: RFC 6797 §7.2"


def test_a_long_plain_body_does_not_take_the_answer_away(registry_url: str) -> None:
    url = registry_url.replace("https", "http")
    response = httpx.put(f"{url}/v2/a/manifests/v1", content=bytes(2_000_000))

    assert response.status_code == 400
    assert error_code(response) == "UNSUPPORTED"


def test_a_tls_hello_on_the_plain_port_is_answered_at_once(tmp_path: Path, authority: Authority) -> None:
    with serving(Settings(data=tmp_path, access_log=False)) as url:
        with connect(url) as wire:
            wire.send(HELLO)
            answer = wire.answer()
            assert answer.status == 400
            assert "plain HTTP" in json.loads(answer.body)["errors"][0]["message"]
        # What Go's and Python's clients recognize in it.
        with (
            pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|HTTP"),
            secure(url, trusting(authority)),
        ):
            pass


def test_rubbish_behind_a_hello_ends_the_connection(registry_url: str) -> None:
    with connect(registry_url.replace("https", "http")) as wire:
        wire.send(HELLO + b"rubbish" * 100)
        assert wire.is_closed()
    assert httpx.get(f"{registry_url}/v2/", verify=False).status_code == 200


# The certificate


def test_the_certificate_holds_for_name_and_address(registry_url: str, authority: Authority) -> None:
    context = trusting(authority)
    for host in ("localhost", "127.0.0.1"):
        url = httpx.URL(registry_url).copy_with(host=host)
        assert httpx.get(f"{url}/v2/", verify=context).status_code == 200


def test_tok_06_a_changed_certificate_is_shown_to_new_handshakes_and_old_uploads_go_on(
    tmp_path: Path, authority: Authority
) -> None:
    settings = secured(tmp_path, authority)
    assert settings.tls_certificate
    before = der(settings.tls_certificate)
    with serving(settings) as url:
        location = httpx.post(f"{url}/v2/a/blobs/uploads/", verify=False).headers["Location"]
        with connect(url) as wire:
            wire.send(f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
            authority.issue("registry")
            after = shown(url)
            wire.send(b"56789")
            assert wire.answer().headers["range"] == "0-9"

        assert after == der(settings.tls_certificate) != before


def test_a_certificate_behind_a_symbolic_link_is_read_again(tmp_path: Path, authority: Authority) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        certificate, key = authority.issue(f"{name}-server")
        certificate.rename(tmp_path / name / "tls.crt")
        key.rename(tmp_path / name / "tls.key")
    current = tmp_path / "current"
    current.symlink_to("one")
    files = {"tls_certificate": current / "tls.crt", "tls_key": current / "tls.key"}
    with serving(Settings.load(None, {"data": tmp_path, "access_log": False, **files})) as url:
        assert shown(url) == der(tmp_path / "one/tls.crt")
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(current)
        assert shown(url) == der(tmp_path / "two/tls.crt")


def test_tok_06_a_pair_that_does_not_fit_leaves_the_old_one_until_it_does(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    settings = secured(tmp_path, authority)
    certificate, key = settings.tls_certificate, settings.tls_key
    assert certificate
    assert key
    with serving(settings) as url:
        before, old_key = shown(url), key.read_bytes()
        authority.issue("registry")
        new_key = key.read_bytes()
        key.write_bytes(old_key)

        assert [shown(url), shown(url)] == [before, before]
        told = [record for record in caplog.records if "the old one stays" in record.message]
        assert len(told) == 1, "once, and not with every handshake"
        assert "key values mismatch" in told[0].__dict__["reason"]

        key.unlink()
        assert shown(url) == before
        key.write_bytes(new_key)
        assert shown(url) == der(certificate) != before


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_reads_the_certificate_in_every_worker(
    tmp_path: Path, authority: Authority, workers: str
) -> None:
    certificate, key = authority.issue("hangup")
    port = free_port()
    files = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with running(tmp_path, "--port", str(port), "--workers", workers, *files) as (process, lines):
        assert f"listening on https://127.0.0.1:{port}" in lines[-1]
        context = trusting(authority)
        assert answers(f"https://127.0.0.1:{port}/v2/", verify=context).status_code == 200
        deadline = time.monotonic() + 20
        # Each of several workers says so when it begins, and has the certificate by then.
        while workers != "1" and sum("settings read again" in line for line in lines) < int(workers):
            assert time.monotonic() < deadline
        certificate.write_text("rubbish")
        process.send_signal(signal.SIGHUP)
        while sum("the old one stays" in line for line in lines) < int(workers):
            assert time.monotonic() < deadline
        assert answers(f"https://127.0.0.1:{port}/v2/", verify=context).status_code == 200


def test_says_when_the_certificate_ends(tmp_path: Path, authority: Authority) -> None:
    with serving(secured(tmp_path, authority)) as url:
        text = httpx.get(f"{url}/metrics", verify=False).text

    line = next(line for line in text.splitlines() if line.startswith("cargohold_tls_certificate_expires_s"))
    assert 0 < float(line.split()[1]) - time.time() < 3 * 86400


# Who is let in


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what the application is told of the connection."""
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    tls = scope["extensions"].get("tls")
    told = {"extensions": sorted(scope["extensions"]), "scheme": scope["scheme"], "tls": tls}
    await JSONResponse(told)(scope, receive, send)


def asking(tmp_path: Path, authority: Authority, **more: object) -> Settings:
    return secured(tmp_path, authority, tls_client_ca=authority.certificate, **more)


def test_tok_07_the_application_is_shown_the_client_certificate(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("alice", "URI:spiffe://test/alice")
    context = trusting(authority)
    context.load_cert_chain(certificate, key)
    with serving(asking(tmp_path, authority), echo) as url:
        told = httpx.get(url, verify=context).json()

    (pem,) = told["tls"]["client_cert_chain"]
    assert ssl.PEM_cert_to_DER_cert(pem) == der(certificate)
    assert told["tls"]["tls_version"] == 0x0304


def test_tok_07_no_client_certificate_is_no_error(tmp_path: Path, authority: Authority) -> None:
    with serving(asking(tmp_path, authority), echo) as url:
        assert httpx.get(url, verify=trusting(authority)).json()["tls"]["client_cert_chain"] == []


def test_tok_07_a_certificate_that_nobody_asked_for_is_not_shown(
    tmp_path: Path, authority: Authority
) -> None:
    context = trusting(authority)
    context.load_cert_chain(*authority.issue("alice", "DNS:alice"))
    with serving(secured(tmp_path, authority), echo) as url:
        assert httpx.get(url, verify=context).json()["tls"]["client_cert_chain"] == []


def test_the_fast_paths_are_for_plain_sockets_alone(tmp_path: Path, authority: Authority) -> None:
    with serving(secured(tmp_path / "tls", authority), echo) as url:
        assert httpx.get(url, verify=False).json()["extensions"] == ["tls"]
    with serving(Settings(data=tmp_path / "plain"), echo) as url:
        told = httpx.get(url).json()
        assert (told["extensions"], told["tls"]) == (["http.response.zerocopysend"], None)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("who", ["nobody", "stranger", "server"])
def test_tok_07_a_required_certificate_must_be_a_clients_and_from_its_authority(
    tmp_path: Path, authority: Authority, who: str, version: ssl.TLSVersion
) -> None:
    context = trusting(authority)
    context.maximum_version = version
    if who == "stranger":
        context.load_cert_chain(*Authority.create(tmp_path / "other").issue("alice", "DNS:alice"))
    elif who == "server":
        context.load_cert_chain(*authority.issue("wrong", "DNS:a\nextendedKeyUsage=serverAuth"))
    with (
        serving(asking(tmp_path, authority, tls_client_required=True), echo) as url,
        counting("tls"),
        pytest.raises(httpx.TransportError),
    ):
        httpx.get(url, verify=context)


def test_tok_07_a_wrong_certificate_is_refused_even_where_none_is_required(
    tmp_path: Path, authority: Authority
) -> None:
    context = trusting(authority)
    context.load_cert_chain(*Authority.create(tmp_path / "other").issue("alice", "DNS:alice"))
    with serving(asking(tmp_path, authority), echo) as url, pytest.raises(httpx.TransportError):
        httpx.get(url, verify=context)


# Limits, before and behind the handshake


def test_a_connection_counts_before_its_handshake(tmp_path: Path, authority: Authority) -> None:
    settings = secured(tmp_path, authority, max_connections_per_client=2)
    with serving(settings) as url:
        plain = url.replace("https", "http")
        with connect(plain) as silent, connect(plain) as hesitant:
            hesitant.send(HELLO)
            with counting("limit"), connect(plain) as third:
                assert third.is_closed()
            silent.sock.close()
            # Its place is free once the server has seen that it left.
            assert answers(f"{url}/v2/", verify=trusting(authority)).status_code == 200


def test_a_connection_counts_once_behind_its_handshake(tmp_path: Path, authority: Authority) -> None:
    with serving(secured(tmp_path, authority, max_connections_per_client=1)) as url, connect(url) as only:
        for _ in range(2):
            only.send(GET)
            assert only.answer().status == 200
        with connect(url.replace("https", "http")) as second:
            assert second.is_closed()


@pytest.mark.parametrize("sent", [b"", HELLO], ids=["silent", "hesitant"])
def test_http_06_a_handshake_has_its_time(tmp_path: Path, authority: Authority, sent: bytes) -> None:
    with (
        serving(secured(tmp_path, authority, header_seconds=0.1)) as url,
        counting("timeout"),
        connect(url.replace("https", "http")) as wire,
    ):
        wire.send(sent)
        assert wire.is_closed()


def test_http_06_a_head_and_a_body_over_tls_have_their_time(tmp_path: Path, authority: Authority) -> None:
    floor = {"body_floor_bytes_per_second": 1000, "body_floor_window_seconds": 0.1}
    with serving(secured(tmp_path, authority, header_seconds=0.1, **floor)) as url:
        location = httpx.post(f"{url}/v2/a/blobs/uploads/", verify=False).headers["Location"]
        for request in (
            "GET /v2/ HTTP/1.1\r\nHo",
            f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234",
        ):
            with connect(url) as wire:
                wire.send(request)
                assert _ends(wire.sock)


def _ends(sock: socket.socket) -> bool:
    """Wait for the end; a cut connection has no farewell."""
    try:
        return sock.recv(100) == b""
    except (ssl.SSLEOFError, ConnectionResetError):
        return True


def test_a_refusal_over_tls_arrives_before_a_long_body_was_read(registry_url: str) -> None:
    with connect(registry_url) as wire:
        wire.send("PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        wire.send(bytes(1_000_000))
        answer = wire.answer()
    assert answer.status == 413
    assert answer.headers["connection"] == "close"


def test_http_08_a_stalled_reader_over_tls_is_cut(tmp_path: Path, authority: Authority) -> None:
    content = bytes(32_000_000)
    with serving(secured(tmp_path, authority, body_floor_window_seconds=0.5)) as url:
        with httpx.Client(base_url=url, verify=trusting(authority)) as http:
            digest = Repository(http, "a/b").push_blob(content)
        with connect(url) as stalled:
            stalled.send(f"GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: a\r\n\r\n")
            assert stalled.sock.recv(1)
            # The server gives up while nothing is read: its side of the connection ends.
            deadline = time.monotonic() + 20
            while open_connections():
                assert time.monotonic() < deadline
            assert _read_to_the_end(stalled.sock) < len(content)


def open_connections() -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == "cargohold_connections"
    )


def _read_to_the_end(sock: socket.socket) -> int:
    received = 0
    try:
        while data := sock.recv(1 << 20):
            received += len(data)
    except (ssl.SSLError, ConnectionResetError):
        pass  # a cut connection has no farewell
    return received


def test_crash_22_sigterm_lets_an_upload_over_tls_end(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("ending")
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    flags = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with running(tmp_path, "--port", str(port), *flags) as (process, _):
        answers(f"{url}/v2/", verify=trusting(authority))
        location = httpx.post(f"{url}/v2/a/blobs/uploads/", verify=trusting(authority)).headers["Location"]
        with connect(url) as wire:
            wire.send(
                f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
            )
            assert wire.answer(head_only=True).status == 100
            process.send_signal(signal.SIGTERM)
            wire.send(b"0123456789")
            assert wire.answer().headers["range"] == "0-9"
        process.wait(20)


def test_the_end_of_the_server_waits_for_no_handshake(tmp_path: Path, authority: Authority) -> None:
    with serving(secured(tmp_path, authority)) as url:
        plain = url.replace("https", "http")
        silent, hesitant = (socket.create_connection(("127.0.0.1", httpx.URL(plain).port or 0)) for _ in "ab")
        hesitant.sendall(HELLO)
        assert answers(f"{url}/v2/", verify=trusting(authority)).status_code == 200
        started = time.monotonic()
    assert time.monotonic() - started < 5
    for sock in (silent, hesitant):
        sock.close()


def test_content_goes_through_whole(registry_url: str, authority: Authority) -> None:
    content = os.urandom(20_000_000)
    with httpx.Client(base_url=registry_url, verify=trusting(authority)) as http:
        repository = Repository(http, "large/app")
        digest = repository.push_blob(content)
        got = repository.get(f"blobs/{digest}").content

    assert hashlib.sha256(got).hexdigest() == digest.hex


# A certificate of our own making


def test_makes_a_certificate_once_and_says_how_to_trust_it(tmp_path: Path) -> None:
    port = free_port()
    flags = ("--port", str(port), "--tls-self-signed")
    certificate = tmp_path / "tls/certificate.pem"
    with running(tmp_path, *flags) as (_, lines):
        context = ssl.create_default_context(cafile=str(certificate))
        for host in ("localhost", "127.0.0.1"):
            response = answers(f"https://{host}:{port}/v2/", verify=context)
            assert response.status_code == 200
            assert "strict-transport-security" not in response.headers
        said = "".join(lines)
    for place in (
        "/etc/docker/certs.d/",
        "/etc/containers/certs.d/",
        "/etc/containerd/certs.d/",
        "--ca-file",
    ):
        assert place in said
    assert str(certificate) in said
    assert (tmp_path / "tls/key.pem").stat().st_mode & 0o777 == 0o600
    first = certificate.read_bytes()

    with running(tmp_path, *flags) as (_, lines):
        answers(f"https://localhost:{port}/v2/", verify=context)
        assert "certs.d" not in "".join(lines)
    assert certificate.read_bytes() == first


def test_a_certificate_of_our_own_holds_for_no_other_name(tmp_path: Path) -> None:
    from registry import self_signed

    settings = Settings(data=tmp_path, access_log=False, tls_self_signed=True)
    assert self_signed.ensure(settings)
    context = ssl.create_default_context(cafile=str(self_signed.certificate(tmp_path)))
    with (
        serving(settings) as url,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as sock,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(sock, server_hostname="registry.example")


def test_a_certificate_of_our_own_is_made_anew_when_it_ends_or_is_broken(
    tmp_path: Path, authority: Authority
) -> None:
    from registry import self_signed

    settings = Settings(data=tmp_path, access_log=False, tls_self_signed=True)
    place = self_signed.certificate(tmp_path)
    place.parent.mkdir()
    ending, key = authority.issue("ending")  # in two days
    for content in (ending.read_bytes(), b"rubbish"):
        place.write_bytes(content)
        self_signed.key(tmp_path).write_bytes(key.read_bytes())
        assert self_signed.ensure(settings)
        assert place.read_bytes() != content
        assert self_signed.ensure(settings) is None


# What cannot be used


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        pytest.param("none.crt", "server.key", "none.crt: No such file", id="no-certificate"),
        pytest.param("server.crt", "none.key", "none.key: No such file", id="no-key"),
        pytest.param("server.crt", "other.key", "key values mismatch", id="another-key"),
        pytest.param("server.key", "server.key", "not in PEM", id="no-pem"),
        pytest.param("server.crt", "secret.key", "behind a password", id="key-with-a-password"),
    ],
)
def test_files_that_cannot_be_used_are_told_in_one_line(
    tmp_path: Path, certificate: str, key: str, reason: str
) -> None:
    authority = Authority.create(tmp_path / "ca")
    for name in ("server", "other"):
        authority.issue(name)
    subprocess.run(
        ["openssl", "ec", "-in", "server.key", "-aes256", "-passout", "pass:x", "-out", "secret.key"],
        cwd=authority.directory,
        check=True,
        capture_output=True,
    )
    files = ("--tls-certificate", authority.directory / certificate, "--tls-key", authority.directory / key)
    ended = subprocess.run(
        [*CARGOHOLD, "serve", "--data", str(tmp_path / "data"), "--port", "0", *map(str, files)],
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert reason in ended.stderr


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tls_certificate": "a.crt"}, "given together"),
        ({"tls_key": "a.key"}, "given together"),
        ({"tls_certificate": "a", "tls_key": "b", "tls_self_signed": True}, "no tls_certificate"),
        ({"tls_client_ca": "a.crt"}, "speaks TLS"),
        ({"tls_self_signed": True, "tls_client_required": True}, "needs tls_client_ca"),
        ({"tls_self_signed": True, "unix_socket": "/run/x"}, "unix_socket speaks plain HTTP"),
        ({"host": "0.0.0.0", "read_only": True}, "--allow-plain-http"),
        ({"host": "192.0.2.1", "allow_anonymous_push": True}, "--allow-plain-http"),
    ],
)
def test_tok_06_refuses_settings_that_make_no_sense_or_show_passwords(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.load(None, values)
