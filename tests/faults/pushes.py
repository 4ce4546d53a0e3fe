"""Clients that push small images and remember what was answered, and what has to hold afterwards."""

import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from storage.oci.digest import Digest
from storage.oci.media_types import IMAGE_MANIFEST
from tests.registry.pushing import OCTETS, image, with_digest

CHUNK = 100_000


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code} {response.text}")
        self.status = response.status_code


@dataclass
class Acknowledged:
    """What was answered with 201 or 202. Each repository belongs to one client, so its order is known."""

    blobs: dict[tuple[str, Digest], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, Digest], bytes] = field(default_factory=dict)
    tags: dict[tuple[str, str], list[Digest]] = field(default_factory=dict)
    sessions: dict[str, tuple[bytes, int]] = field(default_factory=dict)  # by location: content, offset

    def check(self, http: httpx.Client) -> None:
        """Hold a server against what was acknowledged."""
        for (name, digest), content in self.blobs.items():
            found = http.get(f"/v2/{name}/blobs/{digest}")
            assert found.content == content, f"INV-02: acknowledged blob {digest} is lost: {found.text}"
        for (name, digest), body in self.manifests.items():
            assert http.get(f"/v2/{name}/manifests/{digest}").content == body, "INV-02: a manifest is lost"
        for (name, tag), digests in self.tags.items():
            self._check_tag(http, name, tag, digests)

    def _check_tag(self, http: httpx.Client, name: str, tag: str, digests: list[Digest]) -> None:
        found = http.get(f"/v2/{name}/manifests/{tag}")
        assert found.status_code == 200, f"INV-02: tag {tag} is lost: {found.text}"
        digest = Digest.of(found.content)
        assert str(digest) == found.headers["Docker-Content-Digest"]
        # The last acknowledged one, or one whose answer never came: whole in any case (INV-03).
        assert digest == digests[-1] or digest not in digests, "INV-07: a tag went back"
        document = json.loads(found.content)
        for item in (document["config"], *document["layers"]):
            blob = http.get(f"/v2/{name}/blobs/{item['digest']}").content
            assert str(Digest.of(blob)) == item["digest"], "INV-01: a tag names what is not there"

    def resume(self, http: httpx.Client) -> int:
        """Finish every open session from where the server says it is; return how many there were."""
        sessions, self.sessions = self.sessions, {}
        for location, (content, offset) in sessions.items():
            status = http.get(location)
            assert status.status_code == 204, f"an acknowledged session is lost: {status.text}"
            reached = int(status.headers["Range"].split("-")[1]) + 1
            # One byte and none look the same; the spec has no other form.
            reached = 0 if reached == 1 and offset == 0 else reached
            assert reached >= offset, "CRASH-01: an acknowledged offset is lost"
            _expect(http.patch(location, content=content[reached:], headers=OCTETS), 202)
            name = location.split("/blobs/")[0].removeprefix("/v2/")
            _expect(http.put(with_digest(location, Digest.of(content))), 201)
            self.blobs[name, Digest.of(content)] = content
        return len(sessions)


def _expect(response: httpx.Response, status: int) -> httpx.Response:
    if response.status_code != status:
        raise Refused(response)
    return response


class Client:
    """Pushes to one repository. Raises Refused, and httpx.TransportError when the server is gone."""

    def __init__(self, http: httpx.Client, name: str, log: Acknowledged, seed: object = None) -> None:
        self.http = http
        self.name = name
        self.log = log
        self.random = random.Random(os.urandom(8) if seed is None else str(seed))

    def push_image(self, tag: str, layer: bytes) -> bytes:
        """Push config, layer and manifest, in one of the ways that clients do."""
        config = json.dumps({"os": "linux", "random": self.random.random()}).encode()
        self.random.choice([self.push_whole, self.push_single])(config)
        self.random.choice([self.push_whole, self.push_chunks])(layer)
        body = image(config, layer)
        response = self.http.put(
            f"/v2/{self.name}/manifests/{tag}", content=body, headers={"Content-Type": IMAGE_MANIFEST}
        )
        _expect(response, 201)
        self.log.manifests[self.name, Digest.of(body)] = body
        self.log.tags.setdefault((self.name, tag), []).append(Digest.of(body))
        return body

    def push_single(self, content: bytes) -> None:
        """Push with one POST."""
        path = f"/v2/{self.name}/blobs/uploads/?digest={Digest.of(content)}"
        _expect(self.http.post(path, content=content, headers=OCTETS), 201)
        self._pushed(content)

    def push_whole(self, content: bytes) -> None:
        """Push with POST and one PUT."""
        location = with_digest(self.begin(), Digest.of(content))
        _expect(self.http.put(location, content=content, headers=OCTETS), 201)
        self._pushed(content)

    def push_chunks(self, content: bytes) -> None:
        """Push with POST, PATCHes and an empty PUT."""
        location = self.begin()
        self.log.sessions[location] = content, 0
        for start in range(0, len(content), CHUNK):
            chunk = content[start : start + CHUNK]
            try:
                _expect(self.http.patch(location, content=chunk, headers=OCTETS), 202)
            except Refused:
                del self.log.sessions[location]
                raise
            self.log.sessions[location] = content, start + len(chunk)
        del self.log.sessions[location]  # from here on it may have ended, answered or not
        _expect(self.http.put(with_digest(location, Digest.of(content))), 201)
        self._pushed(content)

    def begin(self) -> str:
        response = _expect(self.http.post(f"/v2/{self.name}/blobs/uploads/"), 202)
        return str(response.headers["Location"])

    def _pushed(self, content: bytes) -> None:
        self.log.blobs[self.name, Digest.of(content)] = content

    def pull(self) -> None:
        """Read something that was acknowledged earlier."""
        own = [key for key in list(self.log.blobs) if key[0] == self.name]
        name, digest = self.random.choice(own)
        found = self.http.get(f"/v2/{name}/blobs/{digest}")
        assert found.content == self.log.blobs[name, digest], f"INV-02: {found.status_code} {found.text}"


class Crowd:
    """Clients in threads, each with its own repository, that push and pull until the server is gone."""

    def __init__(self, url: str, log: Acknowledged, clients: int = 4, name: str = "crowd") -> None:
        self.failures: list[BaseException] = []
        self.pushed = 0
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(url, f"{name}/app{number}", log), daemon=True)
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, url: str, name: str, log: Acknowledged) -> None:
        with httpx.Client(base_url=url, timeout=30) as http:
            client = Client(http, name, log)
            try:
                while not self._stop.is_set():
                    layer = client.random.randbytes(client.random.choice([10, 5000, 300_000]))
                    client.push_image(f"v{client.random.randrange(3)}", layer)
                    client.pull()
                    with self._progress:
                        self.pushed += 1
                        self._progress.notify_all()
            except (httpx.TransportError, httpx.InvalidURL):
                pass  # the server was stopped or killed
            except BaseException as error:
                self.failures.append(error)
            with self._progress:
                self._progress.notify_all()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until something holds after some push. A client that failed ends the wait too."""
        with self._progress:
            assert self._progress.wait_for(lambda: bool(self.failures) or condition(), seconds)

    def join(self) -> None:
        """Wait until all clients have ended, and fail if one met what no client may meet."""
        for thread in self._threads:
            thread.join(60)
        assert not self.failures, self.failures

    def stop(self) -> None:
        """Let every client end its push."""
        self._stop.set()
        self.join()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what only the disk shows."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def errors(lines: list[str]) -> list[str]:
    """Return what a server's log says of bugs of ours; a failing disk is a warning."""
    return [line for line in lines if '"level": "error"' in line or line.startswith("Traceback")]
