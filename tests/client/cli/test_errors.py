"""What ends a run: one line, what to try, and the exit code of the documented table."""

import json
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from client import errors as client_errors
from client.cli.errors import exit_code, report
from client.cli.run import Run
from client.store import errors as store_errors
from client.unpack import errors as unpack_errors
from client.view import errors as view_errors
from storage.oci import errors as oci_errors
from storage.oci.digest import Digest
from storage.oci.errors import RegistryError
from tests.client.cli.program import Cargohold
from tests.client.homes import Home
from tests.client.lying import Cut, Lying, Received, cut, lying, reply, reply_error, reply_range
from tests.client.moving import CONTENT, cut_after
from tests.registry.pushing import Repository, image

ROOT = Path(__file__).parents[3]
BLOB = Digest.of(CONTENT)
# What arrives before a test stops the rest.
FIRST = 3_000_000


@pytest.fixture
def stand(home: Home) -> Cargohold:
    program = Cargohold(
        home, sys.executable, "-m", "tests.client.cli.stand", "--store", home.directory / "store"
    )
    program.environment["PYTHONPATH"] = str(ROOT)
    return program


def repository_name(registry: str, repository: Repository) -> str:
    return f"{registry}/{repository.name}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(RegistryError("x"), 1, id="unknown"),
        pytest.param(oci_errors.ManifestInvalid("x"), 1, id="manifest-invalid"),
        pytest.param(client_errors.Blocked("x"), 1, id="blocked"),
        pytest.param(client_errors.DestinationRefused("x"), 1, id="destination-refused"),
        pytest.param(client_errors.CertificateRejected("x"), 1, id="certificate-rejected"),
        pytest.param(client_errors.Unreachable("x"), 1, id="unreachable"),
        pytest.param(client_errors.TimedOut("x"), 1, id="timed-out"),
        pytest.param(client_errors.ConfigurationInvalid("x"), 1, id="configuration-invalid"),
        pytest.param(client_errors.DiskFailed("x"), 1, id="disk-failed"),
        pytest.param(store_errors.StoreUnusable("x"), 1, id="store-unusable"),
        pytest.param(unpack_errors.Unsafe("x"), 1, id="unsafe-layer"),
        pytest.param(oci_errors.ManifestUnknown("x"), 3, id="manifest-unknown"),
        pytest.param(oci_errors.NameUnknown("x"), 3, id="name-unknown"),
        pytest.param(oci_errors.BlobUnknown("x"), 3, id="blob-unknown"),
        pytest.param(store_errors.ImageUnknown("x"), 3, id="image-unknown"),
        pytest.param(view_errors.PathUnknown("x"), 3, id="path-unknown"),
        pytest.param(oci_errors.Unauthorized("x"), 4, id="unauthorized"),
        pytest.param(oci_errors.Denied("x"), 4, id="denied"),
        pytest.param(client_errors.CredentialsUnusable("x"), 4, id="credentials-unusable"),
        pytest.param(oci_errors.TooManyRequests("x"), 5, id="too-many-requests"),
        pytest.param(client_errors.ContentMismatch("x"), 6, id="content-mismatch"),
        pytest.param(unpack_errors.VerificationFailed("x"), 6, id="layer-verification"),
        pytest.param(oci_errors.InsufficientStorage("x"), 9, id="insufficient-storage"),
        pytest.param(unpack_errors.NoSpace("x"), 9, id="no-space-for-a-layer"),
        pytest.param(OSError(28, "No space left on device"), 9, id="no-space-by-the-system"),
        pytest.param(client_errors.Cancelled("x"), 130, id="cancelled"),
        pytest.param(ValueError("x"), 1, id="unexpected"),
    ],
)
def test_knows_the_exit_code_of_a_class(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        pytest.param(oci_errors.Denied("no"), "error: DENIED: no", id="a-registry"),
        pytest.param(client_errors.TimedOut("slow"), "error: UNAVAILABLE: slow", id="the-network"),
        pytest.param(client_errors.AnswerTooLarge("big"), "error: UNAVAILABLE: big", id="a-lie"),
        pytest.param(store_errors.ImageUnknown("none"), "error: MANIFEST_UNKNOWN: none", id="the-store"),
        pytest.param(store_errors.StoreBusy("busy"), "error: busy", id="a-busy-store"),
        pytest.param(client_errors.Blocked("no"), "error: no", id="configuration"),
        pytest.param(client_errors.DiskFailed("bad"), "error: bad", id="a-disk"),
        pytest.param(view_errors.PathUnknown("/x"), "error: /x", id="a-path"),
        pytest.param(unpack_errors.Unsafe("out", b"\x1b[31m"), r"error: out: '\x1b[31m'", id="a-layer"),
        pytest.param(client_errors.Cancelled("stopped"), "error: stopped", id="a-stop"),
    ],
)
def test_gives_the_code_of_what_a_registry_could_say(
    error: BaseException, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report(error, Run())

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == line


def test_names_the_tag_that_is_not_there(cargohold: Cargohold, registry: str, repository: Repository) -> None:
    repository.push_image("v1")
    name = repository_name(registry, repository)

    done = cargohold.run("inspect", "--remote", f"{name}:v9")

    assert done.code == 3
    assert done.out == ""
    assert done.errors[0] == f'error: MANIFEST_UNKNOWN: no tag "v9" in {name}'
    assert done.errors[1].startswith(f"try: the spelling, or cargohold login {registry}")
    assert len(done.errors) == 2


def test_names_the_digest_that_is_not_there(
    cargohold: Cargohold, registry: str, repository: Repository
) -> None:
    repository.push_image("v1")
    name, digest = repository_name(registry, repository), Digest.of(b"none")

    done = cargohold.run("inspect", "--remote", f"{name}@{digest}")

    assert (done.code, done.errors[0]) == (3, f"error: MANIFEST_UNKNOWN: no {digest} in {name}")


def test_asks_to_log_in(cargohold: Cargohold, closed_registry: str) -> None:
    done = cargohold.run("inspect", "--remote", f"{closed_registry}/library/app")

    assert done.code == 4
    assert done.errors[0].startswith("error: UNAUTHORIZED: the registry wants credentials")
    assert done.errors[0].endswith(f"({closed_registry}/library/app)")
    assert done.errors[1] == f"try: cargohold login {closed_registry}"


def test_ends_when_a_registry_is_asked_too_often(cargohold: Cargohold) -> None:
    with lying(lambda _: reply_error(429, "TOOMANYREQUESTS", Retry_After=3600)) as server:
        done = cargohold.run("inspect", "--remote", f"{server.address}/library/app")

    assert done.code == 5
    assert done.errors[0].startswith("error: TOOMANYREQUESTS: as told")


def test_cli_08_ends_when_the_content_is_another(cargohold: Cargohold) -> None:
    wanted = Digest.of(b"another")
    with lying(lambda _: reply(200, image(b"{}"))) as server:
        done = cargohold.run("inspect", "--remote", f"{server.address}/library/app@{wanted}")

    assert done.code == 6
    assert done.errors[0].startswith("error: DIGEST_INVALID: ")
    assert str(wanted) in done.errors[0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        pytest.param(["inspect", "--remote", "A/B"], "not a repository name: 'B'", id="reference"),
        pytest.param(["inspect", "--remote", "--platform", "x", "app"], "not a platform", id="platform"),
        pytest.param(["inspect"], "missing argument", id="argument"),
        pytest.param(
            ["inspect", "--remote", "--client-cert", "/dev/null", "app"], "come together", id="half-a-pair"
        ),
        pytest.param(["login", "single"], "not a registry", id="registry"),
        pytest.param(["doctor", "--timeout", "0", "app"], "0.0 is not in the range", id="timeout"),
    ],
)
def test_says_what_is_misused(cargohold: Cargohold, arguments: list[str], line: str) -> None:
    done = cargohold.run(*arguments)

    assert done.code == 2
    assert done.errors[0].startswith("error: ")
    assert line in done.err


def test_says_that_nobody_answers(cargohold: Cargohold) -> None:
    done = cargohold.run("inspect", "--remote", "127.0.0.1:1/app")

    assert done.code == 1
    assert done.errors == [
        "error: UNAVAILABLE: cannot connect to 127.0.0.1:1: 127.0.0.1: Connection refused",
        "try: the same again; cargohold doctor 127.0.0.1:1/app:latest tries each step of the way",
    ]


def test_gives_up_in_time(cargohold: Cargohold) -> None:
    with silent_server() as server:
        done = cargohold.run("inspect", "--remote", "--timeout", "0.5", f"{server.address}/app")

    assert done.code == 1
    assert "the time for the whole operation is over" in done.err


def test_says_which_line_of_a_configuration_is_wrong(cargohold: Cargohold) -> None:
    cargohold.registries.write_text("[[registry]]\nlocation = 3\n")

    done = cargohold.run("inspect", "--remote", "example.com/app")

    assert done.code == 1
    assert done.errors == [f"error: {cargohold.registries}:2: location is not a string"]


def test_hides_tracebacks_of_ours_without_v(stand: Cargohold) -> None:
    done = stand.run("fail")

    assert done.code == 1
    assert done.errors[0] == r"error: internal: ValueError: of \x1b[31mours"
    assert "-v" in done.errors[1]
    assert len(done.errors) == 2


def test_shows_tracebacks_with_v(stand: Cargohold) -> None:
    done = stand.run("-v", "fail")

    assert done.code == 1
    assert "Traceback (most recent call last)" in done.err
    assert done.errors[-2].startswith("error: internal: ValueError")


def test_says_what_the_system_says(stand: Cargohold) -> None:
    done = stand.run("read", "/no/\x1b[31msuch")

    assert (done.code, done.errors) == (1, [r"error: /no/\x1b[31msuch: No such file or directory"])


def test_returns_what_a_verb_returns(stand: Cargohold) -> None:
    done = stand.run("differ")

    assert (done.code, done.out, done.err) == (1, "", "warning: not \\x1b[31mthe same\n")


def test_ends_quietly_when_nobody_reads_on(stand: Cargohold, tmp_path: Path) -> None:
    much = tmp_path / "much"
    much.write_text("x" * 1_000_000)
    with stand.started("read", much) as started:
        assert started.process.stdout is not None
        assert started.process.stdout.read(1) == b"x"
        started.process.stdout.close()

        assert started.end() == (141, b"")


def test_says_that_stdout_is_full(cargohold: Cargohold) -> None:
    with Path("/dev/full").open("wb") as full, cargohold.started("completion", "zsh", stdout=full) as started:
        code, said = started.end()

    assert code == 9
    assert said == b"error: No space left on device\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stops_when_it_is_told_to(cargohold: Cargohold, number: signal.Signals, code: int) -> None:
    with (
        silent_server() as server,
        cargohold.started("inspect", "--remote", f"{server.address}/app") as started,
    ):
        server.asked.wait()
        started.signal(number)

        assert started.end() == (code, b"error: stopped\n")


def test_dies_of_a_second_signal(stand: Cargohold) -> None:
    with stand.started("hang") as started:
        started.wait_for(b"waiting")
        started.signal(signal.SIGINT)
        started.wait_for(b"stopping")
        started.signal(signal.SIGINT)

        assert started.end() == (-signal.SIGINT, b"")


def test_tells_what_is_kept_from_what_is_lost_and_goes_on(stand: Cargohold) -> None:
    with silent_server(first=FIRST) as server, stand.started(*fetching(server)) as started:
        started.wait_for(b'"advanced"')
        started.signal(signal.SIGINT)
        code, said = started.end()

    assert code == 7
    assert said.splitlines()[-2:] == [b"error: stopped", b"try: the same again: what arrived is kept"]
    with lying(lambda received: reply_range(received, CONTENT)) as honest:
        done = stand.run(*fetching(honest))
    assert (done.code, done.out) == (0, f"{BLOB}\n")
    started_event = json.loads(done.errors[0])
    assert started_event["event"] == "started"
    assert 0 < started_event["done"] <= FIRST
    assert stand.run(*fetching(honest)).errors == [
        f'{{"event": "finished", "digest": "{BLOB}", "size": {len(CONTENT)}, "how": "present"}}'
    ]


def test_tells_that_a_broken_connection_left_something(stand: Cargohold) -> None:
    left = [FIRST]

    def answer(received: Received) -> Iterable[bytes]:
        return cut_after(reply_range(received, CONTENT), left.pop()) if left else cut()

    with lying(answer) as server:
        done = stand.run(*fetching(server), "--timeout", "1")

    assert done.code == 7
    assert done.errors[-1] == "try: the same again: what arrived is kept"


def fetching(server: "Lying | Silent") -> list[object]:
    return ["fetch", "--progress", "json", f"{server.address}/library/app", BLOB, len(CONTENT)]


class Silent(NamedTuple):
    """A server that answers nothing, or stops in the middle."""

    address: str
    asked: threading.Event


@contextmanager
def silent_server(first: int = 0) -> Iterator[Silent]:
    asked, over = threading.Event(), threading.Event()

    def answer(received: Received) -> Iterator[bytes]:
        if received.method == "GET" and "/blobs/" in received.path and first:
            head, body = reply_range(received, CONTENT)
            yield head + body[:first]
        asked.set()
        over.wait()
        raise Cut

    with lying(answer) as server:
        try:
            yield Silent(server.address, asked)
        finally:
            over.set()
