"""Bytes before rows, rows before answers: at the system calls of a server (CRASH-01, CRASH-02, TEST-02)."""

import re
from pathlib import Path

import httpx
import pytest

from storage.oci.digest import Digest
from tests.faults.pushes import Acknowledged, Client
from tests.faults.tracing import at_call, needs_tracer, traced
from tests.registry.pushing import OCTETS, Repository, image, with_digest
from tests.registry.test_server import answers, free_port, running


@needs_tracer
def test_a_push_is_durable_before_its_answer(tmp_path: Path) -> None:
    content = b"content" * 50_000
    digest = Digest.of(content)
    port, data, trace = free_port(), tmp_path / "data", tmp_path / "trace"
    with running(data, "--port", str(port)) as (process, _):
        url = f"http://127.0.0.1:{port}"
        answers(f"{url}/v2/")
        with httpx.Client(base_url=url, timeout=30) as http:
            repository = Repository(http, "order/app")
            repository.push_blob(b"{}")
            location = with_digest(repository.begin(), digest)
            calls = "pwrite64,fsync,fdatasync,rename,write,writev,send,sendto,sendmsg"
            with traced(process.pid, trace, "-e", f"trace={calls}"):
                http.put(location, content=content, headers=OCTETS).raise_for_status()
                body = image(b"{}", content)
                repository.put_manifest("v1", body).raise_for_status()

    done = _steps(trace.read_text(), data, digest)
    blob = ["bytes", "fsync bytes", "fsync blobs/sha256", "rename", f"fsync blobs/sha256/{digest.hex[:2]}"]
    row = ["write-ahead log", "fsync log", "answer"]
    assert done == [*blob, *row, *row]


def _steps(trace: str, data: Path, digest: Digest) -> list[str]:
    """Name what was done, each once in a row. A call counts where it ends, for threads overlap."""
    steps: list[str] = []
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        if "<unfinished ...>" in call:
            begun[thread] = call
            continue
        if "resumed>" in call:
            call = begun.pop(thread)
        step = _step(call.strip(), data, digest)
        if step and (not steps or steps[-1] != step):
            steps.append(step)
    # The journal follows at its own pace; its objects and outbox rows are no part of the push.
    return steps[: [number for number, step in enumerate(steps) if step == "answer"][1] + 1]


def _step(call: str, data: Path, digest: Digest) -> str:
    match = re.match(r'(\w+)\((?:\d+<([^>]*(?:->[^>]*>)?[^>]*)>|"")?', call)
    if match is None:
        return ""
    name, path = match[1], match[2] or ""
    if path.startswith(("TCP", "socket")):
        return "answer"
    place = path.removeprefix(f"{data}/")
    if name == "rename":
        return "rename"
    if place.startswith("uploads/"):
        return "bytes" if name == "pwrite64" else "fsync bytes"
    if place.startswith("cargohold.db"):
        return "write-ahead log" if name == "pwrite64" else "fsync log"
    return f"{name} {place}" if name.endswith("sync") else ""


def kill_at(data: Path, trace: Path, calls: str, nth: int, log: Acknowledged) -> bool:
    """Start, hold the server against the log, push, and kill it at the nth call; say whether it died."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(data, "--port", str(port)) as (process, lines):
        answers(f"{url}/v2/")
        with httpx.Client(base_url=url, timeout=30) as http:
            log.resume(http)
            log.check(http)
            client = Client(http, "kill/app", log)
            try:
                with traced(process.pid, trace, *at_call(calls, nth, "signal=KILL")):
                    client.push_image("v1", client.random.randbytes(150_000))
                    client.push_image("v2", client.random.randbytes(150_000))
            except httpx.TransportError:
                process.wait(20)
                return True
        assert lines
    return False


def kill_at_every(tmp_path: Path, calls: str, step: int) -> None:
    log = Acknowledged()
    nth = 1
    while kill_at(tmp_path / "data", tmp_path / "trace", calls, nth, log):
        nth += step
    assert nth > step, "it was killed at some"


@needs_tracer
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("calls", "step"), [("fsync,fdatasync", 3), ("rename", 1), ("pwrite64", 15)])
def test_crash_01_survives_a_kill_at_a_call(tmp_path: Path, calls: str, step: int) -> None:
    kill_at_every(tmp_path, calls, step)


@needs_tracer
@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("calls", ["fsync,fdatasync", "rename", "pwrite64", "mkdir", "flock", "openat"])
def test_crash_01_survives_a_kill_at_any_call(tmp_path: Path, calls: str) -> None:
    kill_at_every(tmp_path, calls, 1)
