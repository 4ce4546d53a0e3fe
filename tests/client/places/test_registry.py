"""A repository as a place: mirrors for reading, the registry itself for writing, refusals and lies."""

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from client import copy
from client.copy import Options
from client.errors import AnswerInvalid, ContentMismatch, Unreachable
from client.network import Network
from client.places import archive_target
from client.places.oci_layout import OciLayout
from client.places.place import QUIETLY, Moving, RefName
from client.places.registry import RegistryPlace
from client.retry import Patience
from client.sessions import Sessions
from storage.oci.errors import BlobUnknown, ManifestUnknown, NameInvalid, RegistryError, TooManyRequests
from storage.oci.names import RepositoryName, Tag
from tests.client.clocks import FakeClock
from tests.client.lying import Received, cut, lying, reply, reply_error, reply_range
from tests.client.places.samples import (
    Counted,
    Sample,
    blobs_in,
    blobs_of,
    repository,
    served,
    serving_layout,
)

V1 = Tag("v1")
NAME = RepositoryName("library/app")
ALONE = Options(referrers=False)

Answer = Callable[[Received], Iterable[bytes]]


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    made = Sample(tmp_path / "sample")
    made.name(made.image(size=100_000), "v1")
    return made


@pytest.fixture
def impatient() -> Sessions:
    clock = FakeClock()
    return Sessions(network=Network(deadline=clock.deadline(), patience=Patience(attempts=2)))


def large_blob(root: Path) -> bytes:
    return max(root.joinpath("blobs/sha256").iterdir(), key=lambda path: path.stat().st_size).read_bytes()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _wrong_bytes(good: bytes) -> Iterable[bytes]:
    return reply(200, b"?" + good[1:])


def test_says_which_tags_there_are(
    ours: Counted, sessions: Sessions, name: RepositoryName, sample: Sample
) -> None:
    place = repository(sessions, ours.address, name)
    for tag in ("v1", "v2"):
        copy.copy(OciLayout(sample.root), V1, place, Tag(tag))

    with pytest.raises(ManifestUnknown, match="it has v1, v2"):
        place.resolve(Tag("v9"))


def test_refuses_a_name_that_only_layouts_have(
    ours: Counted, sessions: Sessions, name: RepositoryName, sample: Sample
) -> None:
    with pytest.raises(NameInvalid):
        copy.copy(
            OciLayout(sample.root), V1, repository(sessions, ours.address, name), RefName("docker.io/app:v1")
        )


def test_refuses_it_before_anything_moves(
    ours: Counted, sessions: Sessions, name: RepositoryName, sample: Sample
) -> None:
    ours.requests.clear()
    with pytest.raises(NameInvalid):
        copy.copy(OciLayout(sample.root), V1, repository(sessions, ours.address, name), RefName("a/b:v1"))
    assert ours.requests == []


def test_pushes_by_digest_where_no_name_is_given(
    ours: Counted, sessions: Sessions, name: RepositoryName, sample: Sample
) -> None:
    result = copy.copy(OciLayout(sample.root), V1, repository(sessions, ours.address, name), None)

    served(ours.address, name, str(result.digest))
    assert repository(sessions, ours.address, name).find(V1) is None


def test_reads_from_a_mirror_first(ours: Counted, sessions: Sessions, sample: Sample, tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "copy")
    with lying(serving_layout(sample.root)) as mirror:
        ours.requests.clear()
        copy.copy(repository(sessions, ours.address, NAME, mirror.address), V1, layout, V1, ALONE)

        assert mirror.seen("GET", "/v2/library/app/manifests/v1")
    assert ours.requests == []
    assert blobs_of(layout.root) == blobs_of(sample.root)


@pytest.mark.parametrize("kind", ["layout", "registry", "archive"])
@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda _: reply_error(500, "UNKNOWN"), id="fails"),
        pytest.param(lambda _: reply_error(404, "BLOB_UNKNOWN"), id="lacks-it"),
        pytest.param(_wrong_bytes, id="wrong-bytes"),
        pytest.param(lambda good: reply(200, good[:-1]), id="short"),
        pytest.param(lambda good: reply(200, good + b"?"), id="long"),
        pytest.param(lambda good: cut(*reply(200, good[:50_000], Content_Length=len(good))), id="cut"),
    ],
)
def test_turns_to_the_registry_where_a_mirror_lies(
    lie: Callable[[bytes], Iterable[bytes]],
    kind: str,
    ours: Counted,
    impatient: Sessions,
    name: RepositoryName,
    sample: Sample,
    tmp_path: Path,
) -> None:
    honest, good = serving_layout(sample.root), large_blob(sample.root)

    def answer(received: Received) -> Iterable[bytes]:
        is_large = received.path.endswith(_digest(good)) and received.method == "GET"
        return lie(good) if is_large else honest(received)

    with impatient, lying(answer) as mirror, lying(honest) as origin:
        source = repository(impatient, origin.address, NAME, mirror.address)
        target = repository(impatient, ours.address, name)
        with _wrong_bytes_cannot_be_taken_back(lie, kind):
            _copy_to(kind, source, target, tmp_path)

            if kind == "layout":
                assert blobs_of(tmp_path / "copy") == blobs_of(sample.root)
            elif kind == "registry":
                assert served(ours.address, name, _digest(good)) == good
            else:
                assert set(blobs_in(tmp_path / "x")) == set(blobs_of(sample.root))


def _copy_to(kind: str, source: RegistryPlace, target: RegistryPlace, directory: Path) -> None:
    match kind:
        case "layout":
            copy.copy(source, V1, OciLayout(directory / "copy"), V1, ALONE)
        case "registry":
            copy.copy(source, V1, target, V1, ALONE)
        case _:
            with archive_target.written(directory / "x") as archive:
                copy.copy(source, V1, archive, V1, ALONE)


def _wrong_bytes_cannot_be_taken_back(lie: object, kind: str) -> AbstractContextManager[object]:
    """What a tar has taken stays: then there is no archive at all."""
    is_final = lie is _wrong_bytes and kind == "archive"
    return pytest.raises(ContentMismatch) if is_final else nullcontext()


LIES = [
    pytest.param(_wrong_bytes, ContentMismatch, id="wrong-bytes"),
    pytest.param(lambda good: reply(200, good[:-1]), RegistryError, id="short"),
    pytest.param(lambda good: reply(200, good + b"?"), ContentMismatch, id="long"),
    pytest.param(
        lambda good: reply(206, good, Content_Range="bytes 7-9/10"), AnswerInvalid, id="wrong-range"
    ),
    pytest.param(lambda good: reply_error(404, "BLOB_UNKNOWN"), BlobUnknown, id="gone"),
    pytest.param(lambda good: reply_error(429, "TOOMANYREQUESTS"), TooManyRequests, id="too-many"),
    pytest.param(lambda good: reply(200, good, Content_Encoding="gzip"), AnswerInvalid, id="encoded"),
]


@pytest.mark.parametrize("kind", ["layout", "registry", "archive"])
@pytest.mark.parametrize(("lie", "error"), LIES)
def test_acknowledges_nothing_of_a_lying_registry(
    lie: Callable[[bytes], Iterable[bytes]],
    error: type[RegistryError],
    kind: str,
    ours: Counted,
    impatient: Sessions,
    name: RepositoryName,
    sample: Sample,
    tmp_path: Path,
) -> None:
    honest, good = serving_layout(sample.root), large_blob(sample.root)

    def answer(received: Received) -> Iterable[bytes]:
        is_large = received.path.endswith(_digest(good)) and received.method == "GET"
        return lie(good) if is_large else honest(received)

    with impatient, lying(answer) as server:
        source = repository(impatient, server.address, NAME)
        target = repository(impatient, ours.address, name)
        with pytest.raises(error):
            _copy_to(kind, source, target, tmp_path)
        assert target.find(V1) is None
    assert not (tmp_path / "copy/index.json").exists()
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "copy/blobs" / _digest(good).replace(":", "/")).exists()


def test_acknowledges_no_manifest_with_another_digest(impatient: Sessions, tmp_path: Path) -> None:
    made = Sample(tmp_path / "index")
    index = made.index()
    made.name(index, "v1")
    honest = serving_layout(made.root)

    def answer(received: Received) -> Iterable[bytes]:
        if "/manifests/sha256:" not in received.path:
            return honest(received)
        head, body = honest(received)
        return (head, body.replace(b"linux", b"linuX") if b"linux" in body else b" " + body[:-1])

    layout = OciLayout(tmp_path / "copy")
    with impatient, lying(answer) as server, pytest.raises(ContentMismatch):
        copy.copy(repository(impatient, server.address, NAME), V1, layout, V1, ALONE)
    assert layout.find(V1) is None


def test_goes_on_where_a_source_broke_off_while_it_uploads(
    ours: Counted, sessions: Sessions, name: RepositoryName, tmp_path: Path
) -> None:
    made = Sample(tmp_path / "large")
    made.name(made.image(size=6 * 1024 * 1024), "v1")
    honest, good = serving_layout(made.root), large_blob(made.root)
    broken: list[Received] = []

    def answer(received: Received) -> Iterable[bytes]:
        if received.path.endswith(_digest(good)) and received.method == "GET" and not broken:
            broken.append(received)
            return cut(*reply(200, good[: 3 * 1024 * 1024], Content_Length=len(good)))
        return honest(received)

    with lying(answer) as server:
        source = repository(sessions, server.address, NAME)
        copy.copy(source, V1, repository(sessions, ours.address, name), V1, ALONE)

        starts = [each.range[0] for each in server.requests if each.path.endswith(_digest(good))]
        assert starts == [0, 3 * 1024 * 1024]
    served(ours.address, name, _digest(good))


# Mounts, and lists that nobody may have


def refusing_mounts(status: int, code: str, **more: object) -> Answer:
    """Answer as a registry that takes uploads of anything, but no mounts."""

    def answer(received: Received) -> Iterable[bytes]:
        match received.method:
            case "HEAD":
                return reply_error(404, "BLOB_UNKNOWN")
            case "GET":
                return reply_error(404, "NAME_UNKNOWN")
            case "POST" if "mount" in received.query and status != 202:
                return reply_error(status, code, **more)
            case "POST":
                return reply(202, Location="/upload")
        return reply(201)

    return answer


@pytest.mark.parametrize(
    ("status", "code", "posts"),
    [(403, "DENIED", 1), (401, "UNAUTHORIZED", 1), (202, "", 3)],
)
def test_uploads_what_may_not_be_mounted(
    status: int, code: str, posts: int, impatient: Sessions, sample: Sample
) -> None:
    """A refusal is not asked for again; an upload that was begun in place of a mount is gone on with."""
    honest, target_answer = serving_layout(sample.root), refusing_mounts(status, code)

    def answer(received: Received) -> Iterable[bytes]:
        return honest(received) if "/library/app/" in received.path else target_answer(received)

    one_by_one = Options(referrers=False, moving=_slowly())
    with impatient, lying(answer) as server:
        source = repository(impatient, server.address, NAME)
        target = repository(impatient, server.address, RepositoryName("other/app"))
        copy.copy(source, V1, target, V1, one_by_one)

        mounts = [each for each in server.seen("POST") if "mount" in each.query]
        assert len(mounts) == posts
        assert len(server.seen("POST")) == (3 if status == 202 else 4)
        assert len(server.seen("PUT", "/upload")) == 3


def _slowly() -> Moving:
    return replace(QUIETLY, pace=replace(QUIETLY.pace, parallel_blobs=1))


@pytest.mark.parametrize("status", [401, 403, 405])
def test_finds_signatures_where_nobody_may_list_tags(
    status: int, impatient: Sessions, tmp_path: Path
) -> None:
    made = Sample(tmp_path / "signed")
    digest = made.name(made.image(), "v1")
    signature = made.name(made.artifact("signature"), f"sha256-{digest.hex}.sig")
    honest = serving_layout(made.root)

    def answer(received: Received) -> Iterable[bytes]:
        if received.path.endswith("/tags/list"):
            return reply_error(status, "DENIED")
        if received.path.endswith(".sig"):
            path = received.path.replace(received.path.rpartition("/")[2], str(signature))
            return honest(Received(received.method, path, received.headers, b""))
        if received.path.endswith((".att", ".sbom")):
            return reply_error(404, "MANIFEST_UNKNOWN")
        return honest(received)

    layout = OciLayout(tmp_path / "copy")
    with impatient, lying(answer) as server:
        copy.copy(repository(impatient, server.address, NAME), V1, layout, V1)
    assert layout.find(Tag(f"sha256-{digest.hex}.sig")) == signature


def test_takes_foreign_layers_from_their_urls(sessions: Sessions, tmp_path: Path) -> None:
    made = Sample(tmp_path / "foreign")
    descriptor = made.image(size=10_000)
    good = large_blob(made.root)
    path = made.root / "blobs" / _digest(good).replace(":", "/")
    path.unlink()
    with lying(lambda received: reply_range(received, good)) as elsewhere:
        manifest = made.root / "blobs" / descriptor["digest"].replace(":", "/")
        document = json.loads(manifest.read_bytes())
        document["layers"][1]["urls"] = [f"{elsewhere.url}/layer"]
        made.name(made.add(descriptor["mediaType"], json.dumps(document).encode()), "v1")
        layout = OciLayout(tmp_path / "copy")
        with lying(serving_layout(made.root)) as server:
            source = repository(sessions, server.address, NAME)
            copy.copy(source, V1, layout, V1, ALONE)
            assert not elsewhere.requests
            copy.copy(source, V1, layout, V1, Options(referrers=False, foreign=True))

        assert {each.authorization for each in elsewhere.requests} == {None}
    assert _digest(good) in blobs_of(layout.root)


def test_the_error_is_that_of_the_registry(impatient: Sessions, sample: Sample, tmp_path: Path) -> None:
    with lying(serving_layout(sample.root)) as gone:
        pass

    with impatient, pytest.raises(Unreachable):
        repository(impatient, gone.address, NAME).resolve(V1)
