"""Several processes on one data directory: the same blob, the same tag, the same session at once."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from registry.app import MIGRATIONS
from storage.database import Connection, connect
from storage.oci.digest import Digest
from tests.faults.pushes import errors
from tests.registry.pushing import OCTETS, Repository, image, with_digest
from tests.registry.test_server import answers, free_port, running

SERVERS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def urls(data: Path) -> Iterator[list[str]]:
    """Servers of their own, so that the test knows which one a request goes to."""
    ports = [free_port() for _ in range(SERVERS)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with (
        running(data, "--port", str(ports[0])) as (_, first),
        running(data, "--port", str(ports[1])) as (_, second),
        running(data, "--port", str(ports[2])) as (_, third),
    ):
        for url in urls:
            answers(f"{url}/v2/")
        yield urls
        assert errors([*first, *second, *third]) == []


@pytest.fixture
def everywhere(urls: list[str]) -> Iterator[list[httpx.Client]]:
    clients = [httpx.Client(base_url=url, timeout=30) for url in urls]
    yield clients
    for client in clients:
        client.close()


def at_once(works: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """Send requests at one moment."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], httpx.Response]) -> httpx.Response:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def test_crash_06_one_blob_pushed_everywhere_at_once_is_one_blob(
    everywhere: list[httpx.Client], data: Path
) -> None:
    for number in range(10):
        content = random.randbytes(300_000)
        digest = Digest.of(content)
        places = [Repository(http, f"blob/app{index}") for index, http in enumerate(everywhere)]
        locations = [with_digest(place.begin(), digest) for place in places]

        def put(http: httpx.Client, url: str, content: bytes = content) -> httpx.Response:
            return http.put(url, content=content, headers=OCTETS)

        stored = at_once(
            [
                lambda http=http, url=url: put(http, url)  # type: ignore[misc]
                for http, url in zip(everywhere, locations, strict=True)
            ]
        )

        assert [response.status_code for response in stored] == [201] * SERVERS, number
        for place in places:
            assert place.get(f"blobs/{digest}").content == content
        kept = list((data / f"blobs/sha256/{digest.hex[:2]}").glob(f"{digest.hex}.*"))
        assert len(kept) == 1, "the losers' bytes are deleted"


def test_inv_07_a_tag_moved_everywhere_at_once_has_one_history(
    everywhere: list[httpx.Client], data: Path
) -> None:
    places = [Repository(http, "tag/app") for http in everywhere]
    places[0].push_blob(b"{}")
    bodies = [image(b"{}", annotations={"number": str(number)}) for number in range(60)]
    mine = {index: bodies[index::SERVERS] for index in range(SERVERS)}

    def move(index: int) -> list[int]:
        return [places[index].put_manifest("moving", body).status_code for body in mine[index]]

    with ThreadPoolExecutor(SERVERS) as pool:
        statuses = Counter(status for found in pool.map(move, range(SERVERS)) for status in found)

    assert statuses == {201: 60}, "each move is answered, and none with a 500"
    history = _history(data, "moving")
    assert sorted(history) == sorted(str(Digest.of(body)) for body in bodies), "every move was current once"
    for index in range(SERVERS):
        own = [str(Digest.of(body)) for body in mine[index]]
        assert [digest for digest in history if digest in own] == own, "in the order of the answers"
    current = {place.get("manifests/moving").headers["Docker-Content-Digest"] for place in places}
    assert current == {history[-1]}


def _history(data: Path, tag: str) -> list[str]:
    def unit(db: Connection) -> list[str]:
        rows = db.execute("SELECT digest FROM tag_history WHERE name = ? ORDER BY id", (tag,))
        return [digest for (digest,) in rows]

    database = connect(f"sqlite:{data / 'cargohold.db'}", MIGRATIONS)
    try:
        return database.read(unit)
    finally:
        database.close()


def test_inv_07_of_many_that_create_a_tag_one_does(everywhere: list[httpx.Client]) -> None:
    """If-None-Match: * as a compare-and-swap over processes."""
    places = [Repository(http, "cas/app") for http in everywhere]
    places[0].push_blob(b"{}")
    for number in range(10):
        bodies = [image(b"{}", annotations={"place": f"{number}-{index}"}) for index in range(SERVERS)]

        answers = at_once(
            [
                lambda place=place, body=body: place.put_manifest(  # type: ignore[misc]
                    f"v{number}",  # noqa: B023 - called within this round only
                    body,
                    **{"If-None-Match": "*"},
                )
                for place, body in zip(places, bodies, strict=True)
            ]
        )

        assert sorted(response.status_code for response in answers) == [201, 412, 412]
        (winner,) = [
            body for body, response in zip(bodies, answers, strict=True) if response.status_code == 201
        ]
        assert places[0].get(f"manifests/v{number}").content == winner


def test_crash_07_a_push_and_a_delete_of_one_tag_have_one_order(everywhere: list[httpx.Client]) -> None:
    places = [Repository(http, "del/app") for http in everywhere]
    places[0].push_blob(b"{}")
    body = image(b"{}")
    for number in range(15):
        pushed, deleted, by_digest = at_once(
            [
                lambda: places[0].put_manifest("tag", body),
                lambda: everywhere[1].delete(f"{places[1].url}/manifests/tag"),
                lambda: everywhere[2].delete(f"{places[2].url}/manifests/{Digest.of(body)}"),
            ]
        )

        assert pushed.status_code == 201, number
        assert deleted.status_code in (202, 404)
        assert by_digest.status_code in (202, 404)
        found = [place.get("manifests/tag") for place in places]
        assert len({response.status_code for response in found}) == 1
        if found[0].status_code == 200:
            assert found[0].content == body


def test_a_session_has_one_writer_over_all_processes(everywhere: list[httpx.Client]) -> None:
    content = random.randbytes(400_000)
    for number in range(10):
        location = Repository(everywhere[0], "session/app").begin()

        answers = at_once(
            [
                lambda http=http: http.patch(  # type: ignore[misc]
                    location,  # noqa: B023 - called within this round only
                    content=content,
                    headers={**OCTETS, "Content-Range": f"0-{len(content) - 1}"},
                )
                for http in everywhere
            ]
        )

        assert sorted(response.status_code for response in answers) == [202, 416, 416], number
        stored = everywhere[number % SERVERS].put(with_digest(location, Digest.of(content)))
        assert stored.status_code == 201


def test_a_session_goes_on_at_any_process(everywhere: list[httpx.Client]) -> None:
    """Nobody's memory of the hash is trusted where another wrote in between (CRASH-04)."""
    chance = random.Random(7)
    for _ in range(5):
        content = chance.randbytes(200_000)
        location = Repository(everywhere[0], "roaming/app").begin()
        cuts = sorted(chance.sample(range(1, len(content)), 7))
        for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True):
            http = chance.choice(everywhere)
            response = http.patch(location, content=content[start:stop], headers=OCTETS)
            assert response.headers["Range"] == f"0-{stop - 1}"
        wrong = chance.choice(everywhere).put(with_digest(location, Digest.of(b"other")))
        assert wrong.status_code == 400
        stored = chance.choice(everywhere).put(with_digest(location, Digest.of(content)))
        assert stored.status_code == 201
        found = everywhere[1].get(f"/v2/roaming/app/blobs/{Digest.of(content)}")
        assert found.content == content
