"""A server that is killed again and again: what it acknowledged is there (TEST-04, INV-01..03, INV-11)."""

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.faults.pushes import Acknowledged, Crowd
from tests.registry.test_server import answers, free_port, running


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill a server and its workers, all at one moment."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    process.wait()


def kill_round(data: Path, log: Acknowledged, *flags: str) -> int:
    """Start, finish what the last kill cut, push from four clients, kill; return how much was resumed."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(data, "--port", str(port), *flags) as (process, _):
        started = time.monotonic()
        answers(f"{url}/v2/")
        assert time.monotonic() - started < 10, "INV-11"
        with httpx.Client(base_url=url, timeout=30) as http:
            resumed = log.resume(http)
        crowd = Crowd(url, log)
        # The moment is the point: there is no event to wait for.
        threading.Event().wait(random.uniform(0.05, 0.5))
        kill(process)
        crowd.join()
    return resumed


def kill_rounds(data: Path, rounds: int) -> None:
    log = Acknowledged()
    resumed = sum(
        kill_round(data, log, *(["--workers", "2"] if number % 5 == 4 else [])) for number in range(rounds)
    )
    assert len(log.manifests) > rounds, "the clients pushed"
    assert resumed, "kills did cut sessions"
    port = free_port()
    with running(data, "--port", str(port)), httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        answers(f"http://127.0.0.1:{port}/v2/")
        log.resume(http)
        log.check(http)


@pytest.mark.timeout(180)
def test_crash_01_every_acknowledged_push_survives_20_kills(tmp_path: Path) -> None:
    kill_rounds(tmp_path, 20)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_crash_01_every_acknowledged_push_survives_200_kills(tmp_path: Path) -> None:
    kill_rounds(tmp_path, 200)
