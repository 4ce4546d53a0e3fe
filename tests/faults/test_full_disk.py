"""Disks that fill in the middle of pushes, to the floor and to the last block (CRASH-20, OPS-09)."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from storage.oci.digest import Digest
from tests.faults.pushes import Acknowledged, Client, Refused, errors
from tests.registry.pushing import OCTETS, Repository, error_code, with_digest
from tests.registry.test_server import answers, free_port, running
from tests.storage.small_disk import grow, small_disk

MIB = 1024 * 1024


@contextmanager
def registry_on(disk: Path, floor: int) -> Iterator[httpx.Client]:
    """Run a server with its data on a small disk; yields a client of it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {"CARGOHOLD_FREE_SPACE_FLOOR": str(floor)}
    with running(disk / "data", "--port", str(port), environment=environment) as (_, lines):
        answers(f"{url}/v2/")
        with httpx.Client(base_url=url, timeout=20) as http:
            yield http
    assert errors(lines) == []


def fill(client: Client, size: int) -> list[int]:
    """Push images until ten in a row were refused; return the refusals' statuses."""
    refusals: list[int] = []
    for number in range(1000):
        try:
            client.push_image(f"v{number}", client.random.randbytes(size))
            refusals.clear()
        except Refused as refused:
            refusals.append(refused.status)
        if len(refusals) == 10:
            return refusals
    pytest.fail("the disk never filled")


# Sizes from which the last blocks go to blobs, to the database, or to both.
@pytest.mark.parametrize(("size", "megabytes"), [(900_000, 24), (150_000, 12), (4_000, 6)])
def test_crash_20_nothing_acknowledged_is_lost_on_a_full_disk(size: int, megabytes: int) -> None:
    log = Acknowledged()
    with small_disk(megabytes) as disk:
        with registry_on(disk, floor=0) as http:
            client = Client(http, "full/app", log, seed=size)
            refusals = fill(client, size)
            assert set(refusals) <= {507, 503}, refusals
            assert 507 in refusals
            assert log.tags
            log.check(http)
            grow(disk, 64)
            client.push_image("after", b"room again")
            log.sessions.clear()  # what was refused was ended by the client
            log.check(http)
        with registry_on(disk, floor=0) as http:
            log.check(http)


def test_crash_20_a_little_room_is_enough_to_start_and_delete() -> None:
    log = Acknowledged()
    with small_disk(24) as disk:
        with registry_on(disk, floor=0) as http:
            client = Client(http, "full/app", log, seed=0)
            fill(client, 900_000)
        grow(disk, 25)
        with registry_on(disk, floor=0) as http:
            log.check(http)
            for (name, tag), digests in list(log.tags.items())[:3]:
                assert http.delete(f"/v2/{name}/manifests/{digests[-1]}").status_code == 202
                assert http.get(f"/v2/{name}/manifests/{tag}").status_code == 404


@pytest.fixture(scope="module")
def near_floor() -> Iterator[tuple[httpx.Client, Path]]:
    """A disk of 96 MiB of which 64 may be used."""
    with small_disk(96) as disk, registry_on(disk, floor=32 * MIB) as http:
        yield http, disk


@pytest.mark.parametrize("way", ["patch", "patch-streamed", "put", "single-post"])
def test_ops_09_refuses_an_upload_that_would_pass_the_floor(
    near_floor: tuple[httpx.Client, Path], way: str
) -> None:
    http, _ = near_floor
    repository = Repository(http, f"floor/{way}")
    kept = repository.push_image("kept", b"kept")
    block, digest = random.Random(way).randbytes(MIB), Digest.of(b"")

    if way == "single-post":
        location = f"{repository.url}/blobs/uploads/?digest=sha256:{'0' * 64}"
        refused = http.post(location, content=block * 80, headers=OCTETS)
    else:
        location = repository.begin()
        body = (block for _ in range(80)) if way == "patch-streamed" else block * 80
        method, url = ("PUT", with_digest(location, digest)) if way == "put" else ("PATCH", location)
        refused = http.request(method, url, content=body, headers=OCTETS)

    assert refused.status_code == 507
    assert error_code(refused) == "INSUFFICIENT_STORAGE"
    assert repository.get("manifests/kept").content == kept
    if way != "single-post":
        assert http.delete(location).status_code == 204
    repository.push_image("next", block)


def test_ops_09_pulls_and_deletes_work_below_the_floor() -> None:
    with small_disk(96) as disk, registry_on(disk, floor=32 * MIB) as http:
        repository = Repository(http, "floor/app")
        kept = repository.push_image("kept", b"kept")
        gone = repository.push_image("gone", b"gone")
        (disk / "ballast").write_bytes(bytes(70 * MIB))

        refused = [
            http.post(f"{repository.url}/blobs/uploads/"),
            repository.put_manifest("again", kept),
        ]
        assert [response.status_code for response in refused] == [507, 507]
        assert [error_code(response) for response in refused] == ["INSUFFICIENT_STORAGE"] * 2
        assert repository.get("manifests/kept").content == kept
        assert repository.get(f"blobs/{Digest.of(b'kept')}").content == b"kept"
        assert http.delete(f"{repository.url}/manifests/{Digest.of(gone)}").status_code == 202
        assert http.delete(f"{repository.url}/blobs/{Digest.of(b'gone')}").status_code == 202

        (disk / "ballast").unlink()
        repository.push_image("after", b"room again")
