"""What one repository may hold (OPS-08): reserved before bytes come, given back when they do not."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.app import MIGRATIONS
from registry.auth.globs import RepositoryGlob
from registry.body import BodyCut
from registry.lifecycle.collector import Collector
from registry.metadata import quotas
from registry.metadata.quotas import Quota
from registry.offload import Offload
from registry.settings import Settings
from registry.space import FreeSpace
from registry.uploads import Uploads, Write
from storage.database import connect as open_database
from storage.filesystem import FilesystemBlobs
from storage.oci.digest import Digest
from storage.oci.errors import Denied, RangeInvalid
from storage.oci.media_types import IMAGE_INDEX
from storage.oci.names import RepositoryName
from tests.registry.pushing import OCTETS, Repository, error_code, image, index, with_digest
from tests.registry.tenants import RULES, Tenants, rule, serving_tenants
from tests.registry.wire import connect

MIB = 1024 * 1024
LIMIT = 4 * MIB
NAME = RepositoryName("team/app")
QUOTAS: list[dict[str, Any]] = [
    {"repository": "team/**", "bytes": LIMIT},
    {"repository": "team/tags/**", "tags": 2},
    {"repository": "team/free/**"},
    {"repository": "team/tiny/**", "bytes": 10},
]
EVERYTHING = [*RULES, rule("user:alice", "**", "admin")]


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "plain"])
def tenants(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    more = {"quota": QUOTAS, "body_floor_window_seconds": 5}
    with serving_tenants(
        tmp_path_factory.mktemp("tenants"), EVERYTHING, extensions=request.param, **more
    ) as running:
        yield running


@pytest.fixture
def hers(tenants: Tenants) -> Repository:
    return tenants.fresh("team", "alice")


def usage(tenants: Tenants, repository: Repository) -> quotas.Usage:
    return tenants.database.read(lambda db: quotas.usage(db, RepositoryName(repository.name)))


def end_leases(tenants: Tenants) -> None:
    tenants.database.transaction(lambda db: db.execute("UPDATE blob SET lease_until = 0"))


def denied(response: httpx.Response) -> dict[str, Any]:
    assert (response.status_code, error_code(response)) == (403, "DENIED"), response.text
    return dict(response.json()["errors"][0])


def stream(content: bytes) -> Iterator[bytes]:
    """Send without a length."""
    for start in range(0, len(content), 65536):
        yield content[start : start + 65536]


def push(repository: Repository, content: bytes) -> httpx.Response:
    location = with_digest(repository.begin(), Digest.of(content))
    return repository.http.put(location, content=content, headers=OCTETS)


def fresh_bytes(size: int) -> bytes:
    return uuid.uuid4().bytes * (size // 16) + b"x" * (size % 16)


def patch_head(tenants: Tenants, location: str, length: int) -> str:
    """Return the head of a PATCH whose body is still to be sent."""
    token = tenants.token("alice", f"repository:{location.split('/blobs/')[0][4:]}:pull,push")
    return (
        f"PATCH {location} HTTP/1.1\r\nHost: registry.test\r\nContent-Length: {length}\r\n"
        f"Authorization: {token['Authorization']}\r\n\r\n"
    )


# Bytes


def test_OPS_08_up_to_the_quota_and_not_a_byte_more(tenants: Tenants, hers: Repository) -> None:
    assert push(hers, fresh_bytes(LIMIT - 100)).status_code == 201
    assert push(hers, fresh_bytes(100)).status_code == 201

    refusal = denied(push(hers, b"x"))

    assert refusal["message"] == f"{hers.name} may hold {LIMIT} bytes and holds {LIMIT}: 1 more do not fit"
    assert refusal["detail"] == {"quota": LIMIT, "used": LIMIT, "wanted": 1}
    assert usage(tenants, hers).bytes == LIMIT


def _put(repository: Repository, content: bytes) -> httpx.Response:
    return push(repository, content)


def _put_streamed(repository: Repository, content: bytes) -> httpx.Response:
    location = with_digest(repository.begin(), Digest.of(content))
    return repository.http.put(location, content=stream(content), headers=OCTETS)


def _post(repository: Repository, content: bytes) -> httpx.Response:
    url = f"{repository.url}/blobs/uploads/?digest={Digest.of(content)}"
    return repository.http.post(url, content=content, headers=OCTETS)


def _patch(repository: Repository, content: bytes) -> httpx.Response:
    return repository.http.patch(repository.begin(), content=content, headers=OCTETS)


def _patch_streamed(repository: Repository, content: bytes) -> httpx.Response:
    return repository.http.patch(repository.begin(), content=stream(content), headers=OCTETS)


@pytest.mark.parametrize("way", [_put, _put_streamed, _post, _patch, _patch_streamed])
def test_OPS_08_every_way_to_bring_bytes_meets_the_quota(
    tenants: Tenants, hers: Repository, way: Any
) -> None:
    assert push(hers, fresh_bytes(MIB)).status_code == 201

    denied(way(hers, fresh_bytes(LIMIT)))

    assert usage(tenants, hers).bytes == MIB, "what was reserved is free again"
    assert way(hers, fresh_bytes(LIMIT - MIB)).status_code in (201, 202)


def test_OPS_08_open_uploads_count(tenants: Tenants, hers: Repository) -> None:
    location = hers.begin()
    patched = hers.http.patch(location, content=fresh_bytes(LIMIT - 10), headers=OCTETS)
    assert patched.status_code == 202

    denied(push(hers, fresh_bytes(11)))
    assert push(hers, fresh_bytes(10)).status_code == 201

    assert hers.http.delete(patched.headers["Location"]).status_code == 204
    assert usage(tenants, hers).bytes == 10, "released on abort"
    assert push(hers, fresh_bytes(LIMIT - 10)).status_code == 201


def test_OPS_08_what_a_client_leaves_behind_counts_until_it_expires(
    tenants: Tenants, hers: Repository
) -> None:
    hers.http.patch(hers.begin(), content=fresh_bytes(LIMIT), headers=OCTETS)
    denied(push(hers, b"x"))

    settings = tenants.settings.model_copy(update={"upload_seconds": 0.000001})
    Collector(settings, tenants.database, FilesystemBlobs(settings.data)).collect()

    assert usage(tenants, hers).bytes == 0
    assert push(hers, b"x").status_code == 201


def test_OPS_08_an_announced_length_is_refused_before_its_body(tenants: Tenants, hers: Repository) -> None:
    with connect(tenants.url) as wire:
        wire.send(patch_head(tenants, hers.begin(), LIMIT + 1))
        assert wire.answer().status == 403

    assert usage(tenants, hers).bytes == 0


def test_OPS_08_parallel_pushes_do_not_pass_the_quota_together(tenants: Tenants, hers: Repository) -> None:
    contents = [fresh_bytes(MIB + MIB // 2) for _ in range(8)]
    barrier, statuses = threading.Barrier(len(contents)), []

    def run(content: bytes) -> None:
        with httpx.Client(base_url=tenants.url, auth=("alice", "secret"), timeout=30) as http:
            mine = Repository(http, hers.name)
            location = with_digest(mine.begin(), Digest.of(content))
            barrier.wait()
            statuses.append(http.put(location, content=stream(content), headers=OCTETS).status_code)

    threads = [threading.Thread(target=run, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    held = usage(tenants, hers).bytes
    assert held == statuses.count(201) * len(contents[0]) <= LIMIT
    assert set(statuses) <= {201, 403}
    assert push(hers, fresh_bytes(LIMIT - held)).status_code == 201, "nothing stays reserved"


class House:
    """The verbs of uploads without a server, under a quota of 4 MiB."""

    def __init__(self, data: Path) -> None:
        settings = Settings.model_validate(
            {"data": data, "free_space_floor": 0, "quota": [{"repository": "**", "bytes": LIMIT}]}
        )
        self.database = open_database(f"sqlite:{data / 'names.db'}", MIGRATIONS)
        self.offload = Offload(self.database)
        store = FilesystemBlobs(data)
        space = FreeSpace(settings, store)
        self.uploads = Uploads(settings, self.database, store, self.offload, space)

    def used(self) -> int:
        return self.database.read(lambda db: quotas.usage(db, NAME)).bytes

    def close(self) -> None:
        self.offload.close()
        self.database.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("size", [LIMIT, 0], ids=["announced", "streamed"])
@pytest.mark.parametrize("ends", [BodyCut, asyncio.CancelledError])
def test_OPS_08_who_leaves_gives_back_what_did_not_come(
    house: House, size: int, ends: type[BaseException]
) -> None:
    reserved: list[int] = []

    async def feed(write: Write) -> None:
        write(memoryview(bytes(MIB)))
        reserved.append(house.used())
        raise ends("gone")

    async def push() -> None:
        session = await house.uploads.begin(NAME, "", "sha256")
        with pytest.raises(ends):
            await house.uploads.append(session, 0, feed, size)
        assert (await house.uploads.status(session)).appended.offset == MIB

    asyncio.run(push())

    assert reserved[0] > MIB
    assert house.used() == MIB


def test_OPS_08_a_stream_reserves_before_it_writes(house: House) -> None:
    held: list[int] = []

    async def feed(write: Write) -> None:
        for number in range(1, 65):
            write(memoryview(bytes(65536)))
            held.append(house.used())
            assert number * 65536 <= held[-1] <= LIMIT
        write(memoryview(b"x"))

    async def push() -> None:
        session = await house.uploads.begin(NAME, "", "sha256")
        with pytest.raises(Denied, match=f"{LIMIT + 1} more do not fit"):
            await house.uploads.append(session, 0, feed)

    asyncio.run(push())

    assert len(set(held)) < 16, "not a transaction for each block"
    assert house.used() == 0


def test_OPS_08_a_wrong_offset_keeps_nothing_reserved(house: House) -> None:
    async def feed(write: Write) -> None:
        raise AssertionError("nothing is read")

    async def push() -> None:
        session = await house.uploads.begin(NAME, "", "sha256")
        with pytest.raises(RangeInvalid):
            await house.uploads.append(session, 5, feed, MIB)

    asyncio.run(push())

    assert house.used() == 0


def test_OPS_08_the_same_blob_again_costs_nothing(tenants: Tenants, hers: Repository) -> None:
    content = fresh_bytes(LIMIT // 2)
    assert push(hers, content).status_code == 201
    assert push(hers, content).status_code == 201

    assert usage(tenants, hers).bytes == LIMIT // 2


def test_OPS_08_a_mount_meets_the_quota(tenants: Tenants, hers: Repository) -> None:
    source = tenants.fresh("team", "alice")
    large, small = fresh_bytes(MIB), fresh_bytes(10)
    for content in (large, small):
        source.push_blob(content)
    assert push(hers, fresh_bytes(LIMIT - 10)).status_code == 201
    url = f"{hers.url}/blobs/uploads/?from={source.name}&mount="

    assert denied(hers.http.post(f"{url}{Digest.of(large)}"))["detail"]["wanted"] == MIB
    assert hers.get(f"blobs/{Digest.of(large)}").status_code == 404
    assert hers.http.post(f"{url}{Digest.of(small)}").status_code == 201


def test_OPS_08_a_manifest_counts_too(tenants: Tenants) -> None:
    tiny = tenants.fresh("team/tiny", "alice")
    tiny.push_blob(b"{}")

    refusal = denied(tiny.put_manifest("v1", image(b"{}")))

    assert refusal["detail"] == {"quota": 10, "used": 2, "wanted": len(image(b"{}"))}
    assert tiny.get("manifests/v1").status_code == 404


def test_OPS_08_what_is_deleted_makes_room(tenants: Tenants, hers: Repository) -> None:
    layer = fresh_bytes(LIMIT - MIB)
    manifest = hers.push_image("v1", layer)
    full = usage(tenants, hers)
    denied(push(hers, fresh_bytes(MIB)))

    assert hers.http.delete(f"{hers.url}/manifests/{Digest.of(manifest)}").status_code == 202

    assert full.tags == 1
    assert full.bytes > len(layer)
    assert usage(tenants, hers).bytes > len(layer), "it may still be put under another manifest"
    end_leases(tenants)
    assert usage(tenants, hers) == quotas.Usage(0, 0)
    assert push(hers, fresh_bytes(MIB)).status_code == 201


def test_OPS_08_what_only_another_repository_holds_is_that_ones(tenants: Tenants, hers: Repository) -> None:
    layer = fresh_bytes(MIB)
    other = tenants.fresh("team", "alice")
    manifest = hers.push_image("v1", layer)
    other.push_image("v1", layer)

    hers.http.delete(f"{hers.url}/manifests/{Digest.of(manifest)}")
    end_leases(tenants)

    assert usage(tenants, hers).bytes == 0
    assert usage(tenants, other).bytes > MIB


def test_OPS_08_a_full_repository_can_still_be_tidied(tenants: Tenants, hers: Repository) -> None:
    manifest = hers.push_image("v1", fresh_bytes(MIB))
    narrow = Quota.parse(hers.name, 1, 1)
    tenants.database.transaction(lambda db: quotas.put(db, narrow))

    denied(push(hers, b"x"))
    denied(hers.put_manifest("v2", manifest))
    assert hers.put_manifest("v1", manifest).status_code == 201
    assert hers.http.delete(f"{hers.url}/manifests/v1").status_code == 202
    assert hers.put_manifest("v2", manifest).status_code == 201


# Tags


def test_OPS_08_tags_are_counted_in_the_transaction(tenants: Tenants) -> None:
    hers = tenants.fresh("team/tags", "alice")
    first = hers.push_image("one")
    hers.put_manifest("two", first)

    refusal = denied(hers.put_manifest("three", first))
    assert refusal["detail"] == {"quota": 2, "used": 2, "wanted": 1}
    assert hers.get("tags/list").json()["tags"] == ["one", "two"]

    empty = index()
    assert hers.put_manifest("two", empty, IMAGE_INDEX).status_code == 201, "moving makes none"
    assert hers.put_manifest(Digest.of(first), first).status_code == 201
    hers.http.delete(f"{hers.url}/manifests/one")
    assert hers.put_manifest("three", first).status_code == 201


def test_OPS_08_tags_beside_a_digest_count_as_well(tenants: Tenants) -> None:
    hers = tenants.fresh("team/tags", "alice")
    empty = index()

    denied(hers.put_manifest(f"{Digest.of(empty)}?tag=a&tag=b&tag=c", empty, IMAGE_INDEX))

    assert hers.get(f"manifests/{Digest.of(empty)}").status_code == 404
    both = hers.put_manifest(f"{Digest.of(empty)}?tag=a&tag=b", empty, IMAGE_INDEX)
    assert both.status_code == 201


# Which quota counts


def test_the_most_exact_quota_counts_alone(tenants: Tenants) -> None:
    assert push(tenants.fresh("team/free", "alice"), fresh_bytes(LIMIT + 1)).status_code == 201
    assert push(tenants.fresh("other", "alice"), fresh_bytes(LIMIT + 1)).status_code == 201
    denied(push(tenants.fresh("team/tiny", "alice"), fresh_bytes(11)))


def test_a_row_of_the_database_counts_at_once_and_before_the_file(tenants: Tenants) -> None:
    hers = tenants.fresh("team/tiny", "alice")
    wide = Quota.parse("team/tiny/**", 100, None)
    tenants.database.transaction(lambda db: quotas.put(db, wide))
    try:
        assert push(hers, fresh_bytes(100)).status_code == 201
        denied(push(hers, fresh_bytes(1)))
        assert wide in tenants.database.read(quotas.listing)
    finally:
        tenants.database.transaction(lambda db: quotas.remove(db, RepositoryGlob.parse("team/tiny/**")))
    denied(push(tenants.fresh("team/tiny", "alice"), fresh_bytes(100)))


def test_a_quota_set_while_an_upload_is_open_meets_its_end(tenants: Tenants) -> None:
    hers = tenants.fresh("late", "alice")
    first = hers.http.patch(hers.begin(), content=fresh_bytes(MIB), headers=OCTETS)
    narrow = Quota.parse(hers.name, 10, None)
    tenants.database.transaction(lambda db: quotas.put(db, narrow))

    denied(hers.http.patch(first.headers["Location"], content=fresh_bytes(MIB), headers=OCTETS))

    assert usage(tenants, hers).bytes == MIB, "what was acknowledged stays"
