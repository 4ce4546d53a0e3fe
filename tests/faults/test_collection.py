"""A collector that never rests, under clients that push and pull (TEST-06, CRASH-15, CRASH-16)."""

import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.faults.pushes import Acknowledged, Client, Crowd, errors, until
from tests.registry.test_server import answers, free_port, running


def collecting(lease_seconds: float, pause_seconds: float = 0.01) -> dict[str, str]:
    return {
        "CARGOHOLD_LEASE_SECONDS": str(lease_seconds),
        "CARGOHOLD_UPLOAD_SECONDS": str(lease_seconds),
        "CARGOHOLD_COLLECT_EVERY_SECONDS": str(pause_seconds),
    }


def push_under_collection(data: Path, seconds: float) -> None:
    port, log = free_port(), Acknowledged()
    # The lease is far longer than any push here takes, and shorter than the test.
    with running(data, "--port", str(port), "--workers", "2", environment=collecting(lease_seconds=3)) as (
        _,
        lines,
    ):
        answers(f"http://127.0.0.1:{port}/v2/")
        end = time.monotonic() + seconds
        crowd = Crowd(f"http://127.0.0.1:{port}", log)
        crowd.wait_until(lambda: crowd.pushed >= 60 and time.monotonic() > end, seconds + 60)
        crowd.stop()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            log.check(http)
    assert errors(lines) == []


def test_crash_16_nothing_is_unknown_while_a_collector_runs(tmp_path: Path) -> None:
    push_under_collection(tmp_path, seconds=4)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_crash_16_nothing_is_unknown_in_ten_minutes(tmp_path: Path) -> None:
    push_under_collection(tmp_path, seconds=600)


def test_inv_06_what_was_deleted_or_given_up_goes_and_the_rest_stays(tmp_path: Path) -> None:
    """Also what a killed server left: its strays are nobody's after the next start."""
    port, log = free_port(), Acknowledged()
    url = f"http://127.0.0.1:{port}"
    never = collecting(lease_seconds=0.5, pause_seconds=0)
    with running(tmp_path, "--port", str(port), environment=never) as (process, _):
        answers(f"{url}/v2/")
        crowd = Crowd(url, log)
        crowd.wait_until(lambda: crowd.pushed >= 8)
        process.send_signal(signal.SIGKILL)
        crowd.join()
    log.sessions.clear()
    with (
        running(tmp_path, "--port", str(port), environment=collecting(lease_seconds=0.5)) as (_, lines),
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        answers(f"{url}/v2/")
        kept = Acknowledged()
        Client(http, "kept/app", kept).push_image("v1", b"kept")
        for name, digest in log.manifests:
            assert http.delete(f"/v2/{name}/manifests/{digest}").status_code == 202
        _delete_untold(http, kept)

        until(lambda: len(_files(tmp_path / "blobs")) == 2)
        until(lambda: not _files(tmp_path / "uploads"))

        kept.check(http)
        for name, digest in log.blobs:
            assert http.get(f"/v2/{name}/blobs/{digest}").status_code == 404
    assert errors(lines) == []


def _delete_untold(http: httpx.Client, kept: Acknowledged) -> None:
    """Delete the images whose pushes were answered to nobody, for the server was killed."""
    for name in {*http.get("/v2/_catalog").json()["repositories"]} - {name for name, _ in kept.tags}:
        for tag in http.get(f"/v2/{name}/tags/list").json()["tags"]:
            digest = http.head(f"/v2/{name}/manifests/{tag}").headers["Docker-Content-Digest"]
            assert http.delete(f"/v2/{name}/manifests/{digest}").status_code == 202


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()]
