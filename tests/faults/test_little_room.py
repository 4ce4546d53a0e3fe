"""Little room and refused uploads: what is there is served, and what was refused gives its room back."""

import contextlib
import os
import random

import pytest

from tests.faults.test_full_disk import MIB, registry_on
from tests.registry.pushing import OCTETS, Repository, with_digest
from tests.storage.small_disk import small_disk


def test_ops_09_a_registry_below_its_floor_starts_and_serves_pulls() -> None:
    with small_disk(96) as disk:
        with registry_on(disk, floor=32 * MIB) as http:
            kept = Repository(http, "floor/app").push_image("kept", b"kept")
        (disk / "ballast").write_bytes(bytes(70 * MIB))
        with registry_on(disk, floor=32 * MIB) as http:
            assert Repository(http, "floor/app").get("manifests/kept").content == kept


def test_inv_11_a_registry_on_a_full_disk_starts_and_serves_pulls() -> None:
    """INV-11. With floor 0, or when something else on the machine filled the disk."""
    with small_disk(24) as disk:
        with registry_on(disk, floor=0) as http:
            kept = Repository(http, "floor/app").push_image("kept", b"kept")
        with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        assert os.statvfs(disk).f_bavail == 0
        with registry_on(disk, floor=0) as http:
            assert Repository(http, "floor/app").get("manifests/kept").content == kept


@pytest.mark.parametrize("way", ["patch", "put"])
def test_crash_20_a_refused_upload_gives_its_room_back(way: str) -> None:
    """Else one push that is too large stops all pushes until upload_seconds are over (a day)."""
    with small_disk(96) as disk, registry_on(disk, floor=32 * MIB) as http:
        repository = Repository(http, "floor/app")
        location = repository.begin()
        if way == "put":
            location = with_digest(location, "sha256:" + "0" * 64)
        refused = http.request(
            "PATCH" if way == "patch" else "PUT", location, content=bytes(80 * MIB), headers=OCTETS
        )
        assert refused.status_code == 507
        Repository(http, "floor/other").push_image("small", b"small")


def test_crash_20_a_wrong_digest_gives_its_room_back() -> None:
    """The bytes of the refused PUT are acknowledged to nobody; the session stays as it was before."""
    with small_disk(96) as disk, registry_on(disk, floor=32 * MIB) as http:
        location = with_digest(Repository(http, "floor/app").begin(), "sha256:" + "0" * 64)
        before = os.statvfs(disk).f_bavail
        assert http.put(location, content=random.randbytes(40 * MIB), headers=OCTETS).status_code == 400
        assert before - os.statvfs(disk).f_bavail < MIB // 4096
