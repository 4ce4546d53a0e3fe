"""A disk that fills in the middle of pushes, and one that fails (CRASH-09, CRASH-10, CRASH-20)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from storage.oci.digest import Digest
from tests.registry.pushing import OCTETS, Repository, with_digest
from tests.registry.test_server import answers, free_port, running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("LEFT OUT: only root may mount a tmpfs of 24 MiB")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_crash_20_nothing_acknowledged_is_lost_on_a_full_disk(small_disk: Path) -> None:
    port = free_port()
    environment = {"CARGOHOLD_FREE_SPACE_FLOOR": "0", "CARGOHOLD_LEASE_SECONDS": "0"}
    with running(small_disk / "data", "--port", str(port), **environment):
        url = f"http://127.0.0.1:{port}"
        answers(f"{url}/v2/")
        with httpx.Client(base_url=url, timeout=20) as http:
            repository = Repository(http, "full/app")
            kept: dict[str, bytes] = {}
            statuses = [_push_until_full(repository, f"v{number}", kept) for number in range(60)]
            assert 507 in statuses, "the disk did fill"
            assert set(statuses) <= {201, 507, 503}
            assert kept
            for tag, body in kept.items():
                assert repository.get(f"manifests/{tag}").content == body
                layer = http.get(f"{repository.url}/blobs/{Digest.of(_layer(tag))}")
                assert layer.content == _layer(tag)
            (small_disk / "data" / "filler").unlink(missing_ok=True)
            for tag in list(kept)[:3]:
                digest = Digest.of(kept[tag])
                assert http.delete(f"{repository.url}/manifests/{digest}").status_code in (202, 507)
    # A grown database does not shrink by itself, so the room comes from outside.
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    with running(small_disk / "data", "--port", str(port), **environment):
        answers(f"{url}/v2/")
        with httpx.Client(base_url=url) as http:
            assert Repository(http, "full/app").push_image("after", b"room again")


def _layer(tag: str) -> bytes:
    return tag.encode() * 300_000


def _push_until_full(repository: Repository, tag: str, kept: dict[str, bytes]) -> int:
    """Push an image of about 700 kB; return the first status that was not a success, or 201."""
    from tests.registry.pushing import image

    for content in (b"{}", _layer(tag)):
        begun = repository.http.post(f"{repository.url}/blobs/uploads/")
        if begun.status_code != 202:
            return begun.status_code
        digest = Digest.of(content)
        stored = repository.http.put(
            with_digest(begun.headers["Location"], digest), content=content, headers=OCTETS
        )
        if stored.status_code != 201:
            return stored.status_code
    body = image(b"{}", _layer(tag))
    response = repository.put_manifest(tag, body)
    if response.status_code == 201:
        kept[tag] = body
    return response.status_code


@pytest.mark.parametrize(
    ("calls", "error", "statuses"),
    [
        pytest.param("fsync", "EIO", {500, 503}, id="crash-10-fsync"),
        pytest.param("pwrite64", "ENOSPC", {507, 503}, id="crash-09-write"),
        pytest.param("rename", "EIO", {503}, id="crash-09-rename"),
    ],
)
def test_a_disk_that_fails_once_fails_one_push(
    tmp_path: Path, calls: str, error: str, statuses: set[int]
) -> None:
    if os.geteuid() != 0 or shutil.which("strace") is None:
        pytest.skip("LEFT OUT: needs root and strace")
    port = free_port()
    with running(tmp_path, "--port", str(port)) as (process, _):
        url = f"http://127.0.0.1:{port}"
        answers(f"{url}/v2/")
        with httpx.Client(base_url=url, timeout=30) as http:
            repository = Repository(http, "eio/app")
            before = repository.push_image("before", b"kept")
            location = repository.begin()
            trace = subprocess.Popen(
                ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(process.pid),
                 "-P", str(next((tmp_path / "uploads").iterdir())), "-P", str(tmp_path / "blobs"),
                 "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}:when=1"],
            )  # fmt: skip
            try:
                _wait_traced(process.pid)
                response = http.put(
                    with_digest(location, Digest.of(b"lost")), content=b"lost", headers=OCTETS
                )
            finally:
                trace.terminate()
                trace.wait()
            assert response.status_code in statuses, response.text
            assert repository.get(f"blobs/{Digest.of(b'lost')}").status_code == 404
            repository.push_blob(b"lost")
            assert repository.get("manifests/before").content == before


def _wait_traced(pid: int) -> None:
    while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():
        os.sched_yield()
