"""The process: listeners, workers, signals."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from tests.registry.pushing import Repository

CARGOHOLD = [sys.executable, "-m", "registry.cli"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(
    data: Path,
    *flags: str,
    stdout: IO[str] | int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run `cargohold serve` and wait for the line that says it listens; the list gathers its log."""
    process = subprocess.Popen(
        [*CARGOHOLD, "serve", "--data", str(data), *flags],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    lines: list[str] = []
    listening = threading.Event()

    def read() -> None:
        for line in process.stderr or ():
            lines.append(line)
            if "listening on" in line:
                listening.set()
        listening.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert listening.wait(20)
        yield process, lines
    finally:
        process.terminate()
        process.wait(20)
        reader.join()
        if process.stderr:
            process.stderr.close()


def answers(url: str, seconds: float = 20, **client: object) -> httpx.Response:
    """Ask until the server answers: it listens before its workers are there."""
    deadline = time.monotonic() + seconds
    with httpx.Client(**client) as http:  # type: ignore[arg-type]
        while True:
            try:
                return http.get(url)
            except httpx.TransportError:
                assert time.monotonic() < deadline


def test_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, "--port", str(port)) as (process, lines):
        assert f"cargohold listening on http://127.0.0.1:{port}" in lines[0]
        assert answers(f"http://127.0.0.1:{port}/v2/").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)


def test_workers_share_the_port_and_the_store(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(tmp_path, "--port", str(port), "--workers", "2") as (process, _):
        answers(f"{url}/v2/")
        for number in range(20):
            # A connection each, so that both workers get some.
            with httpx.Client(base_url=url) as http:
                repository = Repository(http, "shared/app")
                body = repository.push_image(f"v{number}", b"layer %d" % number)
            with httpx.Client(base_url=url) as http:
                assert Repository(http, "shared/app").get(f"manifests/v{number}").content == body
        metrics = httpx.get(f"{url}/metrics").text
        counted = [line for line in metrics.splitlines() if 'method="PUT",resource="manifest"' in line]
        assert sum(float(line.split()[-1]) for line in counted) == 20, "summed over both workers"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_an_upload_goes_on_with_any_worker(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(tmp_path, "--port", str(port), "--workers", "2"):
        answers(f"{url}/v2/")
        from storage.oci.digest import Digest

        content = b"0123456789" * 10
        location = httpx.post(f"{url}/v2/a/blobs/uploads/").headers["Location"]
        for start in range(0, 100, 10):
            response = httpx.patch(url + location, content=content[start : start + 10])
            assert response.headers["Range"] == f"0-{start + 9}"
        assert httpx.put(f"{url}{location}&digest={Digest.of(content)}").status_code == 201


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, "--port", str(port), "--workers", "2") as (process, lines):
        answers(f"http://127.0.0.1:{port}/v2/")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(workers[0]), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while not any("a worker died" in line for line in lines):
            assert time.monotonic() < deadline
        assert answers(f"http://127.0.0.1:{port}/v2/").status_code == 200


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, "--port", str(port), "--workers", "2") as (process, _):
        answers(f"http://127.0.0.1:{port}/v2/")
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/v2/", timeout=2)
            except httpx.TransportError:
                break
            assert time.monotonic() < deadline


def test_crash_22_sigterm_lets_a_running_upload_end(tmp_path: Path) -> None:
    from tests.registry.wire import connect

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(tmp_path, "--port", str(port)) as (process, _):
        answers(f"{url}/v2/")
        location = httpx.post(f"{url}/v2/a/blobs/uploads/").headers["Location"]
        with connect(url) as wire:
            wire.send(
                f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
            )
            assert wire.answer(head_only=True).status == 100
            process.send_signal(signal.SIGTERM)
            wire.send(b"0123456789")
            assert wire.answer().headers["range"] == "0-9"
        process.wait(20)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_reads_the_settings_again(tmp_path: Path, workers: str) -> None:
    config, port = tmp_path / "cargohold.toml", free_port()
    config.write_text("chunk_min_length = 1\n")
    url = f"http://127.0.0.1:{port}"
    flags = ("--config", str(config), "--port", str(port), "--workers", workers)
    with running(tmp_path / "data", *flags) as (process, lines):
        answers(f"{url}/v2/")
        config.write_text("chunk_min_length = 2\nidle_seconds = 99\n")
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        told = '"changed": ["chunk_min_length"], "need_a_restart": ["idle_seconds"]'
        while len([line for line in lines if told in line]) < int(workers):
            assert time.monotonic() < deadline
        begun = httpx.post(f"{url}/v2/a/blobs/uploads/")
        assert begun.headers["OCI-Chunk-Min-Length"] == "2"

        config.write_text("chunk_min_length = 'x'\n")
        process.send_signal(signal.SIGHUP)
        while not any("could not be read again" in line for line in lines):
            assert time.monotonic() < deadline
        assert httpx.get(f"{url}/v2/").status_code == 200


def test_listens_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "registry.sock"
    with running(tmp_path / "data", "--unix-socket", str(path)):
        transport = httpx.HTTPTransport(uds=str(path))
        assert answers("http://registry/v2/", transport=transport).status_code == 200


def test_listens_on_ipv6(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, "--host", "::1", "--port", str(port)):
        assert answers(f"http://[::1]:{port}/v2/").status_code == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_have_a_listener_of_their_own_when_asked(tmp_path: Path, workers: str) -> None:
    port, metrics = free_port(), free_port()
    flags = ("--port", str(port), "--metrics-listen", f"127.0.0.1:{metrics}", "--workers", workers)
    with running(tmp_path, *flags):
        assert answers(f"http://127.0.0.1:{port}/v2/").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 404
        assert "cargohold_requests_total" in answers(f"http://127.0.0.1:{metrics}/metrics").text
        assert httpx.get(f"http://127.0.0.1:{metrics}/readyz").text == "ready\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--host", "0.0.0.0"], "--allow-anonymous-push", id="open-to-all"),
        pytest.param(["--port", "99999"], "0<=x<=65535", id="port"),
        pytest.param(["--config", "/no/such.toml"], "does not exist", id="config"),
    ],
)
def test_says_in_one_line_what_is_wrong(tmp_path: Path, flags: list[str], message: str) -> None:
    ended = subprocess.run(
        [*CARGOHOLD, "serve", "--data", str(tmp_path), *flags], capture_output=True, text=True
    )

    assert ended.returncode == 2
    assert message in ended.stderr.splitlines()[0]
    assert "Traceback" not in ended.stderr


def test_refuses_a_database_of_a_newer_version(tmp_path: Path) -> None:
    from registry.app import MIGRATIONS
    from storage.database import Migration, connect

    newer = [*MIGRATIONS, Migration(99, "later", "CREATE TABLE later (id $id);\n")]
    connect(f"sqlite:{tmp_path / 'cargohold.db'}", newer).close()

    ended = subprocess.run([*CARGOHOLD, "serve", "--data", str(tmp_path)], capture_output=True, text=True)

    assert ended.returncode == 1
    assert "has schema 99" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_refuses_a_directory_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    ended = subprocess.run(
        [*CARGOHOLD, "serve", "--data", str(tmp_path / "file" / "data")], capture_output=True, text=True
    )

    assert ended.returncode == 1
    assert "choose another --data" in ended.stderr


@pytest.mark.parametrize("flag", ["--port", "--metrics-listen"])
def test_says_in_one_line_that_an_address_is_in_use(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        flags = ["--port", port] if flag == "--port" else ["--port", "0", flag, f"127.0.0.1:{port}"]
        ended = subprocess.run(
            [*CARGOHOLD, "serve", "--data", str(tmp_path), *flags], capture_output=True, text=True
        )

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f'"event": "cannot listen", "address": "127.0.0.1:{port}"' in line
