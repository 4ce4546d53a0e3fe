"""Blobs that leave through the kernel: order, ends, and clients that go away."""

import os
import threading
from collections.abc import Iterator

import httpx
import pytest

from registry.settings import Settings
from storage.oci.digest import Digest
from tests.registry.pushing import Repository
from tests.registry.wire import Wire, connect

HOST = "Host: registry.test\r\n"
CONTENT = os.urandom(5_000_000)
NAME = "zero/copy"

pytestmark = pytest.mark.parametrize(
    "way",
    ["fast", "plain"],
    indirect=True,
    scope="module",
)


@pytest.fixture(scope="module")
def digest(http: httpx.Client) -> Digest:
    return Repository(http, NAME).push_blob(CONTENT)


@pytest.fixture
def wire(registry_url: str) -> Iterator[Wire]:
    with connect(registry_url) as wire:
        yield wire


def get(digest: Digest, method: str = "GET", extra: str = "") -> str:
    return f"{method} /v2/{NAME}/blobs/{digest} HTTP/1.1\r\n{HOST}{extra}\r\n"


def test_keeps_the_connection(wire: Wire, digest: Digest) -> None:
    for _ in range(3):
        wire.send(get(digest))
        assert wire.answer().body == CONTENT


def test_pipelined_blobs_and_manifests_stay_in_order(wire: Wire, digest: Digest) -> None:
    wire.send(
        get(digest)
        + f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n"
        + get(digest, extra="Range: bytes=1-3\r\n")
        + get(digest)
    )

    assert wire.answer().body == CONTENT
    assert wire.answer().body == b"{}"
    assert wire.answer().body == CONTENT[1:4]
    assert wire.answer().body == CONTENT


def test_head_sends_no_byte(wire: Wire, digest: Digest) -> None:
    wire.send(get(digest, "HEAD") + f"GET /v2/ HTTP/1.1\r\n{HOST}\r\n")

    assert wire.answer(head_only=True).headers["content-length"] == str(len(CONTENT))
    assert wire.answer().body == b"{}"


def test_a_slow_reader_gets_all(wire: Wire, digest: Digest) -> None:
    wire.send(get(digest, extra="Connection: close\r\n"))
    received = bytearray()
    while data := wire.sock.recv(50_000):
        received += data

    assert received.endswith(CONTENT[-1000:])
    assert len(received) > len(CONTENT)


def test_a_client_that_leaves_in_the_middle_hurts_nobody(
    registry_url: str, wire: Wire, digest: Digest
) -> None:
    for _ in range(5):
        with connect(registry_url) as leaving:
            leaving.send(get(digest))
            leaving.sock.recv(1000)

    wire.send(get(digest))
    assert wire.answer().body == CONTENT


def test_many_readers_at_once(registry_url: str, digest: Digest) -> None:
    bodies: list[bytes] = []

    def pull() -> None:
        bodies.append(httpx.get(f"{registry_url}/v2/{NAME}/blobs/{digest}", timeout=30).content)

    threads = [threading.Thread(target=pull) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert bodies == [CONTENT] * 20


def test_inv_04_a_file_cut_short_on_disk_is_never_a_clean_end(
    http: httpx.Client, registry_url: str, settings: Settings
) -> None:
    digest = Repository(http, NAME).push_blob(content := os.urandom(30_000_000))
    (file,) = settings.data.glob(f"blobs/sha256/*/{digest.hex}*")
    with connect(registry_url) as wire:
        wire.send(get(digest))
        wire.sock.recv(1000)
        os.truncate(file, 20_000_000)
        received = 1000
        try:
            while data := wire.sock.recv(1 << 20):
                received += len(data)
        except ConnectionResetError:
            pass

    assert received < len(content)
