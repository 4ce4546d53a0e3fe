"""A server that is killed again and again: what it acknowledged is there (TEST-04, INV-01..03, INV-11)."""

import json
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from storage.oci.digest import Digest
from tests.registry.pushing import OCTETS, image, with_digest
from tests.registry.test_server import answers, free_port, running


@dataclass
class Log:
    """What the server answered 201 or 202 to."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    tags: dict[str, list[Digest]] = field(default_factory=dict)
    manifests: dict[Digest, bytes] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)


class Pusher(threading.Thread):
    """Pushes images to its own tags until the server stops answering."""

    def __init__(self, url: str, number: int, log: Log) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._name = f"kill/app{number}"
        self._log = log
        self._random = random.Random(os.urandom(8))

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as http:
            try:
                while True:
                    self._push_image(http)
            except (httpx.TransportError, httpx.InvalidURL):
                return  # killed

    def _push_image(self, http: httpx.Client) -> None:
        config = json.dumps({"os": "linux", "random": self._random.random()}).encode()
        layer = self._random.randbytes(self._random.choice([10, 5000, 300_000]))
        self._push_blob(http, config)
        self._push_chunks(http, layer)
        manifest = image(config, layer)
        tag = f"v{self._random.randrange(3)}"
        response = http.put(
            f"/v2/{self._name}/manifests/{tag}",
            content=manifest,
            headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
        )
        assert response.status_code == 201, response.text
        self._log.manifests[Digest.of(manifest)] = manifest
        self._log.tags.setdefault(f"{self._name}/manifests/{tag}", []).append(Digest.of(manifest))

    def _push_blob(self, http: httpx.Client, content: bytes) -> None:
        location = http.post(f"/v2/{self._name}/blobs/uploads/").headers["Location"]
        response = http.put(with_digest(location, Digest.of(content)), content=content, headers=OCTETS)
        assert response.status_code == 201, response.text
        self._log.blobs[Digest.of(content)] = content

    def _push_chunks(self, http: httpx.Client, content: bytes) -> None:
        location = http.post(f"/v2/{self._name}/blobs/uploads/").headers["Location"]
        for start in range(0, len(content), 100_000):
            chunk = content[start : start + 100_000]
            response = http.patch(location, content=chunk, headers=OCTETS)
            assert response.status_code == 202, response.text
            self._log.offsets[location] = start + len(chunk)
        response = http.put(with_digest(location, Digest.of(content)))
        del self._log.offsets[location]  # it may have ended, answered or not
        assert response.status_code == 201, response.text
        self._log.blobs[Digest.of(content)] = content


def kill_once(data: Path, log: Log, *flags: str) -> None:
    """Start, push from four clients, kill at a random moment."""
    port = free_port()
    with running(data, "--port", str(port), *flags) as (process, _):
        url = f"http://127.0.0.1:{port}"
        started = time.monotonic()
        answers(f"{url}/v2/")
        assert time.monotonic() - started < 10, "INV-11"
        pushers = [Pusher(url, number, log) for number in range(4)]
        for pusher in pushers:
            pusher.start()
        # The moment is the point: there is no event to wait for.
        threading.Event().wait(random.uniform(0.05, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for pusher in pushers:
            pusher.join()


def check(data: Path, log: Log) -> None:
    """Hold a restarted server against the log."""
    port = free_port()
    with running(data, "--port", str(port)) as _, httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        answers(f"http://127.0.0.1:{port}/v2/")
        for digest, content in log.blobs.items():
            assert any(
                http.get(f"/v2/kill/app{number}/blobs/{digest}").content == content for number in range(4)
            ), f"INV-02: acknowledged blob {digest} is lost"
        for path, digests in log.tags.items():
            found = http.get(f"/v2/{path}")
            assert found.status_code == 200, "INV-02"
            assert str(Digest.of(found.content)) == found.headers["Docker-Content-Digest"]
            # The last acknowledged one, or one whose answer the kill swallowed: whole in any case (INV-03).
            if Digest.of(found.content) != digests[-1]:
                assert Digest.of(found.content) not in digests[:-1], "INV-07: a tag went back"
            _check_whole(http, path.split("/manifests/")[0], found.content)
        for location, offset in log.offsets.items():
            status = http.get(location)
            if status.status_code == 204:  # else its closing PUT went through, unanswered
                assert int(status.headers["Range"].split("-")[1]) + 1 >= offset, "CRASH-01"


def _check_whole(http: httpx.Client, name: str, body: bytes) -> None:
    document = json.loads(body)
    for item in [document["config"], *document["layers"]]:
        content = http.get(f"/v2/{name}/blobs/{item['digest']}").content
        assert str(Digest.of(content)) == item["digest"], "INV-01"


def kill_rounds(data: Path, rounds: int) -> None:
    log = Log()
    for number in range(rounds):
        kill_once(data, log, *(["--workers", "2"] if number % 5 == 4 else []))
        log.offsets = dict(list(log.offsets.items())[-20:])
    check(data, log)
    assert len(log.manifests) > rounds, "the pushers pushed"


@pytest.mark.timeout(180)
def test_crash_01_every_acknowledged_push_survives_20_kills(tmp_path: Path) -> None:
    kill_rounds(tmp_path, 20)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_crash_01_every_acknowledged_push_survives_200_kills(tmp_path: Path) -> None:
    kill_rounds(tmp_path, 200)
