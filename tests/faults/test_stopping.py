"""SIGTERM while everybody pushes (CRASH-22)."""

import random
import signal
from pathlib import Path

import httpx
import pytest

from storage.oci.digest import Digest
from tests.faults.pushes import Acknowledged, Crowd, errors, until
from tests.registry.pushing import OCTETS, Repository, with_digest
from tests.registry.test_server import answers, free_port, running
from tests.registry.wire import connect


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


@pytest.mark.parametrize("workers", [1, 2])
def test_crash_22_an_upload_cut_by_the_end_keeps_what_had_come(tmp_path: Path, workers: int) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = ("--port", str(port), "--workers", str(workers))
    content = random.Random(0).randbytes(3_000_000)
    with running(tmp_path, *flags, environment={"CARGOHOLD_SHUTDOWN_SECONDS": "1"}) as (process, _):
        answers(f"{url}/v2/")
        with httpx.Client(base_url=url) as http:
            location = Repository(http, "cut/app").begin()
        (file,) = (tmp_path / "uploads").iterdir()
        with connect(url) as wire:
            wire.send(f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n")
            wire.send(content[:2_000_000])
            until(lambda: file.stat().st_size >= 1_000_000)
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    with running(tmp_path, "--port", str(port)), httpx.Client(base_url=url) as http:
        answers(f"{url}/v2/")
        reached = int(http.get(location).headers["Range"].removeprefix("0-")) + 1
        assert 1_000_000 <= reached <= 2_000_000
        assert http.patch(location, content=content[reached:], headers=OCTETS).status_code == 202
        assert http.put(with_digest(location, Digest.of(content))).status_code == 201
