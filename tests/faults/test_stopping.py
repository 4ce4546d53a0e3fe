"""SIGTERM while everybody pushes (CRASH-22)."""

import signal
from pathlib import Path

import httpx
import pytest

from tests.faults.pushes import Acknowledged, Crowd, errors
from tests.registry.test_server import answers, free_port, running


@pytest.mark.parametrize("workers", [1, 2])
def test_crash_22_sigterm_under_load_loses_no_acknowledged_push(tmp_path: Path, workers: int) -> None:
    port, log = free_port(), Acknowledged()
    url = f"http://127.0.0.1:{port}"
    for _ in range(3):
        with running(tmp_path, "--port", str(port), "--workers", str(workers)) as (process, lines):
            answers(f"{url}/v2/")
            with httpx.Client(base_url=url, timeout=30) as http:
                log.resume(http)
            crowd = Crowd(url, log)
            crowd.wait_until(lambda: crowd.pushed >= 8)  # noqa: B023 - called within this round only
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (0, -signal.SIGTERM)
            crowd.join()
        assert errors(lines) == []
    with running(tmp_path, "--port", str(port)), httpx.Client(base_url=url, timeout=30) as http:
        answers(f"{url}/v2/")
        log.resume(http)
        log.check(http)
