"""What the server refuses before the registry sees it, byte by byte."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from registry.settings import Settings
from tests.registry.conftest import serving
from tests.registry.wire import Wire, connect

HOST = "Host: registry.test\r\n"


@pytest.fixture
def wire(registry_url: str) -> Iterator[Wire]:
    with connect(registry_url) as wire:
        yield wire


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(
            f"GET /v2/ HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            400,
            id="te-cl",
        ),
        pytest.param(
            f"GET /v2/ HTTP/1.1\r\n{HOST}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400, id="two-cl"
        ),
        pytest.param(f"GET /v2/ HTTP/1.1\r\n{HOST}Content-Length: +3\r\n\r\nabc", 400, id="signed-cl"),
        pytest.param(f"GET /v2/ HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip\r\n\r\n", 400, id="te-gzip"),
        pytest.param(
            f"GET /v2/ HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n", 400, id="te-list"
        ),
        pytest.param(f"GET /v2/ HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n", 400, id="te-on-1.0"),
        pytest.param(f"GET /v2/ HTTP/1.1\n{HOST}\n\n", 400, id="bare-lf"),
        pytest.param(f"GET /v2/ HTTP/1.1\r\n{HOST}X-A: b\r\n folded\r\n\r\n", 400, id="obs-fold"),
        pytest.param(f"GET /v2/ HTTP/1.1\r\n{HOST}X A: b\r\n\r\n", 400, id="space-in-name"),
        pytest.param(f"GET /v2/ HTTP/1.1\r\n{HOST}X: a\0b\r\n\r\n", 400, id="nul-in-value"),
    ],
)
def test_http_01_refuses_an_ambiguous_request(wire: Wire, request_: str, status: int) -> None:
    wire.send(request_)

    answer = wire.answer()

    assert answer.status == status
    assert json.loads(answer.body)["errors"][0]["code"] == "UNSUPPORTED"
    assert answer.headers["connection"] == "close"
    assert wire.is_closed()


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("", id="none"),
        pytest.param("Host: a\r\nHost: b\r\n", id="two"),
        pytest.param("Host: a/v2/public?\r\n", id="a-path"),
        pytest.param("Host: \r\n", id="empty"),
        pytest.param("Host: " + "a" * 256 + "\r\n", id="long"),
    ],
)
def test_http_02_needs_one_valid_host(wire: Wire, host: str) -> None:
    wire.send(f"GET /v2/ HTTP/1.1\r\n{host}\r\n")

    assert wire.answer().status == 400


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        pytest.param("/v2/a%2fb/manifests/latest", {400}, id="encoded-slash"),
        pytest.param("/v2/a%2f..%2fb/manifests/latest", {400}, id="encoded-traversal"),
        pytest.param("/v2/../../etc/passwd", {404}, id="traversal"),
        pytest.param("/v2/a/../b/manifests/latest", {400}, id="dot-dot-in-name"),
        pytest.param("/v2//a/manifests/latest", {400}, id="double-slash"),
        pytest.param("/v2/a\\b/manifests/latest", {400}, id="backslash"),
        pytest.param("/v2/a%00/manifests/latest", {400}, id="nul"),
        pytest.param("/v2/a%0a/manifests/latest", {400}, id="newline"),
        pytest.param("/v2/A/manifests/latest", {400}, id="upper-case"),
        pytest.param("/v2/" + "a" * 300 + "/manifests/latest", {400}, id="300-characters"),
        pytest.param("/v2/a\xe9/manifests/latest", {400}, id="not-ascii"),
        pytest.param("/v2/%5Fcatalog", {404}, id="encoded-catalog"),
        pytest.param("http://evil.test/v2/", {400}, id="absolute-form"),
        pytest.param("*", {400}, id="asterisk"),
        pytest.param("/V2/", {404}, id="upper-case-root"),
    ],
)
def test_http_03_decides_by_the_raw_path(wire: Wire, target: str, statuses: set[int]) -> None:
    wire.send(f"GET {target} HTTP/1.1\r\n{HOST}\r\n")

    answer = wire.answer()

    assert answer.status in statuses, answer
    assert json.loads(answer.body)["errors"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(f"GET /v2/{'a' * 9000} HTTP/1.1\r\n{HOST}\r\n", 414, id="long-target"),
        pytest.param(f"GET /v2/ HTTP/1.1\r\n{HOST}" + "X: y\r\n" * 101 + "\r\n", 431, id="many-lines"),
        pytest.param(f"GET /v2/ HTTP/1.1\r\n{HOST}X: {'y' * 50000}\r\n\r\n", 431, id="large-line"),
    ],
)
def test_http_04_bounds_the_head(wire: Wire, request_: str, status: int) -> None:
    wire.send(request_)

    assert wire.answer().status == status


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        pytest.param("GET /v2/\r\n\r\n", {400}, id="http-0.9"),
        pytest.param(f"GET /v2/ HTTP/3.0\r\n{HOST}\r\n", {400}, id="http-3"),
        pytest.param(f"BREW /v2/ HTTP/1.1\r\n{HOST}\r\n", {400, 405}, id="unknown-method"),
        pytest.param(f"TRACE /v2/ HTTP/1.1\r\n{HOST}\r\n", {405}, id="trace"),
        pytest.param(f"CONNECT a:1 HTTP/1.1\r\n{HOST}\r\n", {400, 405}, id="connect"),
        pytest.param(
            f"GET /v2/ HTTP/1.1\r\n{HOST}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", {400}, id="h2c"
        ),
        pytest.param(
            f"GET /v2/ HTTP/1.1\r\n{HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            {400},
            id="websocket",
        ),
        pytest.param("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 405}, id="http-2-preface"),
    ],
)
def test_http_05_speaks_plain_http_1(wire: Wire, request_: str, statuses: set[int]) -> None:
    wire.send(request_)

    assert wire.answer().status in statuses


def test_http_10_refuses_an_encoded_body(wire: Wire) -> None:
    wire.send(
        f"PUT /v2/a/manifests/b HTTP/1.1\r\n{HOST}Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
    )

    assert wire.answer().status == 415


def test_auth_27_refuses_two_authorizations(wire: Wire) -> None:
    wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}Authorization: Basic a\r\nAuthorization: Basic b\r\n\r\n")

    assert wire.answer().status == 400


def test_a_tls_hello_on_the_plain_port_is_answered_at_once(wire: Wire) -> None:
    # What docker and podman send first, cut after the record header: nothing waits for more.
    wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")

    assert wire.answer().status == 400
    assert wire.is_closed()


def test_a_head_may_come_in_single_bytes(wire: Wire) -> None:
    for byte in f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n":
        wire.send(byte)

    assert wire.answer().status == 200


def test_keep_alive_answers_one_after_the_other(wire: Wire) -> None:
    for _ in range(3):
        wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n")
        assert wire.answer().status == 200


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}\r\nGET /v2/x/tags/list HTTP/1.1\r\n{HOST}\r\n" * 3)

    assert [wire.answer().status for _ in range(6)] == [200, 404] * 3


def test_a_bad_request_behind_a_good_one_does_not_spoil_its_answer(wire: Wire) -> None:
    wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}\r\nGARBAGE\r\n\r\n")

    assert wire.answer().status == 200


def test_connection_close_closes(wire: Wire) -> None:
    wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")

    assert wire.answer().headers["connection"] == "close"
    assert wire.is_closed()


def test_nothing_behind_an_answer_that_closes_is_answered(wire: Wire) -> None:
    wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}Connection: close\r\n\r\nGET /v2/ HTTP/1.1\r\n{HOST}\r\n")

    assert wire.answer().headers["connection"] == "close"
    assert wire.is_closed()


def test_http_1_0_needs_no_host_and_closes(wire: Wire) -> None:
    wire.send("GET /v2/ HTTP/1.0\r\n\r\n")

    assert wire.answer().status == 200
    assert wire.is_closed()


def test_http_11_continue_comes_only_when_the_body_is_wanted(wire: Wire) -> None:
    wire.send(
        f"PUT /v2/BAD/manifests/x HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n"
    )

    answer = wire.answer()

    assert answer.status == 400, "the final answer, without 100 before it"
    assert answer.headers["connection"] == "close"


def test_http_11_continue_is_sent_for_a_good_upload(wire: Wire) -> None:
    wire.send(f"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n")
    location = wire.answer().headers["location"]
    wire.send(f"PATCH {location} HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")

    assert wire.answer(head_only=True).status == 100
    wire.send("abc")
    assert wire.answer().status == 202


def test_an_answer_before_a_large_body_arrives_although_the_client_still_sends(wire: Wire) -> None:
    wire.send(f"PATCH /v2/a/blobs/uploads/nothing HTTP/1.1\r\n{HOST}Content-Length: 50000000\r\n\r\n")
    wire.send(b"x" * 1_000_000)

    answer = wire.answer()

    assert (answer.status, answer.headers["connection"]) == (404, "close")


def test_a_short_unwanted_body_does_not_end_the_connection(wire: Wire) -> None:
    for _ in range(2):
        wire.send(f"PATCH /v2/a/blobs/uploads/nothing HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello")
        assert wire.answer().status == 404


@pytest.fixture(scope="module")
def slow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(
        data=tmp_path_factory.mktemp("slow"),
        access_log=False,
        header_seconds=1,
        idle_seconds=1,
        body_floor_window_seconds=1,
        max_connections=20,
        max_connections_per_client=10,
    )
    with serving(settings) as url:
        yield url


def test_http_06_closes_an_idle_connection(slow_url: str) -> None:
    with connect(slow_url) as wire:
        wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n")
        assert wire.answer().status == 200
        assert wire.is_closed()


def test_http_06_closes_a_connection_that_says_nothing(slow_url: str) -> None:
    with connect(slow_url) as wire:
        assert wire.is_closed()


def test_http_06_closes_a_dripping_head(slow_url: str) -> None:
    with connect(slow_url) as wire:
        wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}X-Drip: ")
        assert wire.is_closed()


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_http_06_cuts_a_body_that_stalls_and_keeps_what_came(slow_url: str, framing: str) -> None:
    begun = httpx.post(f"{slow_url}/v2/slow/blobs/uploads/")
    location = begun.headers["Location"]
    with connect(slow_url) as wire:
        wire.send(f"PATCH {location} HTTP/1.1\r\n{HOST}{framing}\r\n\r\n")
        wire.send("a\r\n0123456789\r\n" if "chunked" in framing else "0123456789")
        assert wire.is_closed()

    # The client sees its end before the server has written down what came.
    deadline = time.monotonic() + 20
    while httpx.get(slow_url + location).headers["Range"] != "0-9":
        assert time.monotonic() < deadline


def test_http_07_turns_away_one_connection_too_many(slow_url: str) -> None:
    with connect(slow_url) as first:
        others = [connect(slow_url) for _ in range(9)]
        for other in others:
            other.__enter__()
        with connect(slow_url) as extra:
            answer = extra.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        first.send(f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n")
        assert first.answer().status == 200
        for other in others:
            other.__exit__(None, None, None)


def test_overload_is_503_with_a_time_to_come_back(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, access_log=False, max_requests=1)
    with serving(settings) as url, connect(url) as busy, connect(url) as wire:
        location = httpx.post(f"{url}/v2/a/blobs/uploads/").headers["Location"]
        status = 503
        while status == 503:  # the request before counts until its task has ended
            busy.send(f"PATCH {location} HTTP/1.1\r\n{HOST}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            status = busy.answer().status
        assert status == 100, "it is running and waits for its body"

        wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n")
        answer = wire.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert json.loads(answer.body)["errors"][0]["code"] == "UNAVAILABLE"

        busy.send("ab")
        assert busy.answer().status == 202
        wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n")
        assert wire.answer().status == 200


@pytest.mark.parametrize(
    ("trusted", "client"),
    [
        pytest.param(("127.0.0.1",), "192.0.2.7", id="trusted"),
        pytest.param(("10.0.0.0/8",), "127.0.0.1", id="another-proxy"),
        pytest.param((), "127.0.0.1", id="none"),
    ],
)
def test_http_13_believes_trusted_proxies_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trusted: tuple[str, ...], client: str
) -> None:
    with serving(Settings(data=tmp_path, trusted_proxies=trusted)) as url:
        httpx.get(f"{url}/v2/", headers={"X-Forwarded-For": "192.0.2.7"})

    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert line["client"] == client


def test_ops_02_and_03_a_log_line_has_no_secret_and_cannot_be_forged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Settings(data=tmp_path)) as url, connect(url) as wire:
        wire.send(
            f"GET /v2/a/tags/list?token=CANARY HTTP/1.1\r\n{HOST}"
            'Authorization: Bearer CANARY\r\nUser-Agent: a"}\x85\xe2b\r\n\r\n'
        )
        wire.answer()

    (text,) = capsys.readouterr().out.splitlines()
    assert "CANARY" not in text
    assert text.isascii()
    line = json.loads(text)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v2/a/tags/list", 404)


def test_http_08_a_stalled_reader_is_cut_and_holds_nobody_up(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, access_log=False, body_floor_window_seconds=1)
    with serving(settings) as url, connect(url) as stalled:
        content = b"x" * 64_000_000
        digest = _push(url, content)
        stalled.send(f"GET /v2/big/blobs/{digest} HTTP/1.1\r\n{HOST}\r\n")
        healthy = httpx.get(f"{url}/v2/big/blobs/{digest}")

        assert healthy.content == content
        received = 0
        closed = threading.Event()
        # The server gives up while nothing is read; only what lay in the kernel's buffers is left.
        while not closed.is_set():
            if httpx.get(f"{url}/metrics").status_code and _open_connections(url) <= 1:
                closed.set()
        try:
            while data := stalled.sock.recv(1 << 20):
                received += len(data)
        except ConnectionResetError:
            pass
        assert received < len(content)


def _push(url: str, content: bytes) -> str:
    from storage.oci.digest import Digest

    digest = str(Digest.of(content))
    location = httpx.post(f"{url}/v2/big/blobs/uploads/").headers["Location"]
    assert httpx.put(f"{url}{location}&digest={digest}", content=content, timeout=30).status_code == 201
    return digest


def _open_connections(url: str) -> int:
    line = next(
        line
        for line in httpx.get(f"{url}/metrics").text.splitlines()
        if line.startswith("cargohold_connections ")
    )
    return int(float(line.split()[1]))


# What was refused before it was a request


@pytest.mark.parametrize(
    ("sent", "method", "path", "status"),
    [
        pytest.param(f"PROPFIND /v2/?token=CANARY HTTP/1.1\r\n{HOST}\r\n", "other", "/v2/", 405, id="method"),
        pytest.param("GET /v2/?token=CANARY HTTP/1.1\r\n\r\n", "GET", "/v2/", 400, id="no-host"),
        pytest.param(f"GET /{'a' * 9000} HTTP/1.1\r\n{HOST}\r\n", "GET", None, 414, id="long-target"),
        pytest.param(f"GET /v2/ HTTP/1.1\r\nX: {'a' * 40000}\r\n\r\n", "GET", "/v2/", 431, id="headers"),
        pytest.param("\x16\x03\x01CANARY", "other", "", 400, id="tls"),
        pytest.param("CANARY\x1b[2J \x85\r\n\r\n", "other", "", 400, id="rubbish"),
    ],
)
def test_a_refusal_below_the_application_has_a_line_and_is_counted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sent: str,
    method: str,
    path: str | None,
    status: int,
) -> None:
    with serving(Settings(data=tmp_path)) as url:
        before = _refusals(url, method, status)
        with connect(url) as wire:
            wire.send(sent)
            assert wire.answer().status == status
        assert _refusals(url, method, status) == before + 1

    said = capsys.readouterr().out
    assert "CANARY" not in said
    (line,) = (line for line in map(json.loads, said.splitlines()) if line.get("status") == status)
    assert line["client"] == "127.0.0.1"
    assert path is None or line["path"] == path
    assert method == "other" or line["method"] == method


def test_a_refusal_behind_an_answer_does_not_name_the_request_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Settings(data=tmp_path)) as url, connect(url) as wire:
        wire.send(f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n")
        assert wire.answer().status == 200
        wire.send("\0\0\0\0\r\n\r\n")
        assert wire.answer().status == 400

    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["path"], second["path"], second["method"]) == ("/v2/", "", "-")


def _refusals(url: str, method: str, status: int) -> float:
    labels = f'{{method="{method}",resource="none",status="{status}"}}'
    lines = (line for line in httpx.get(f"{url}/metrics").text.splitlines() if labels in line)
    return sum(float(line.split()[-1]) for line in lines if line.startswith("cargohold_requests_total"))
