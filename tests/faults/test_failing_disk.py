"""A disk that fails at one call of a push, whichever it is, under a real server (CRASH-09, CRASH-10)."""

from pathlib import Path

import httpx
import pytest

from tests.faults.pushes import Acknowledged, Client, Refused, errors
from tests.faults.tracing import at_call, needs_tracer, traced
from tests.registry.test_server import answers, free_port, running


@needs_tracer
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("calls", "error", "most"),
    [
        pytest.param("fsync,fdatasync", "EIO", 9, id="crash-10-fsync"),
        pytest.param("pwrite64", "ENOSPC", 12, id="crash-20-write-full"),
        pytest.param("pwrite64", "EIO", 12, id="crash-09-write"),
        pytest.param("rename,mkdir,unlink,ftruncate", "EIO", 3, id="crash-09-names"),
        pytest.param("openat", "EMFILE", 11, id="crash-11-files"),
    ],
)
def test_a_disk_that_fails_once_fails_one_push(tmp_path: Path, calls: str, error: str, most: int) -> None:
    log = Acknowledged()
    port, trace = free_port(), tmp_path / "trace"
    with running(tmp_path / "data", "--port", str(port)) as (process, lines):
        answers(f"http://127.0.0.1:{port}/v2/")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            client = Client(http, "failing/app", log, seed=calls)
            injected = 0
            for nth in range(1, most + 1):
                with traced(process.pid, trace, *at_call(calls, nth, f"error={error}")):
                    _push_twice(client, nth)
                injected += "(INJECTED)" in trace.read_text()
                client.push_image(f"after-{nth}", client.random.randbytes(1000))
            log.check(http)
    assert injected > most / 2
    assert errors(lines) == []
    with running(tmp_path / "data", "--port", str(port)):
        answers(f"http://127.0.0.1:{port}/v2/")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            log.check(http)


def _push_twice(client: Client, nth: int) -> None:
    """Push; where that failed, the same again needs no more than that."""
    refused = [_refusal(client, nth) for _ in range(2)]
    assert set(refused) <= {None, 503, 507}


def _refusal(client: Client, nth: int) -> int | None:
    try:
        client.push_image(f"v{nth}", client.random.randbytes(250_000))
    except Refused as refused:
        return refused.status
    return None
