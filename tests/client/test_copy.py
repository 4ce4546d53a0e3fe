"""Copies between real registries, layouts and archives: every byte, or nothing."""

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from client import copy
from client.clock import Deadline
from client.copy import Options
from client.errors import Cancelled
from client.places import archive, archive_target
from client.places.archive import OciArchive
from client.places.oci_layout import OciLayout
from client.places.place import Moving, Place, Standing, Target
from client.progress import Event, Finished
from client.sessions import Sessions
from storage.oci.digest import Digest
from storage.oci.errors import ManifestBlobUnknown
from storage.oci.names import RepositoryName, Tag
from storage.oci.platform import Platform
from tests.client.conftest import docker_registry
from tests.client.places.samples import (
    Counted,
    Everything,
    Sample,
    blobs_in,
    blobs_of,
    counted,
    everything,
    repository,
    served,
)
from tests.e2e.images import EMPTY_TYPE, MANIFEST_TYPE

V1 = Tag("v1")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    with counted(tmp_path_factory.mktemp("ours")) as running:
        yield running


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("docker")) as address:
        yield address


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with Sessions() as created:
        yield created


@pytest.fixture
def other() -> RepositoryName:
    return RepositoryName(f"other/{uuid.uuid4().hex[:12]}")


@pytest.fixture
def sample(tmp_path: Path) -> Everything:
    return everything(tmp_path / "sample")


def signed_referrers(place: Place, digest: Digest) -> list[Digest]:
    return [each.digest for each in place.referrers(digest)]


@pytest.fixture(params=["cargohold-to-docker-registry", "docker-registry-to-cargohold"])
def two(request: pytest.FixtureRequest, ours: Counted, theirs: str) -> tuple[str, str]:
    return (ours.address, theirs) if request.param.startswith("cargohold") else (theirs, ours.address)


def test_copies_an_index_with_all_that_goes_along_between_registries(
    two: tuple[str, str], sessions: Sessions, name: RepositoryName, sample: Everything
) -> None:
    first, second = (repository(sessions, address, name) for address in two)
    copy.copy(OciLayout(sample.root), V1, first, V1)

    result = copy.copy(first, V1, second, Tag("v2"))

    assert result.digest == sample.index
    assert second.find(Tag("v2")) == sample.index
    for digest in sample.digests:
        served(two[1], name, digest)
    for place in (first, second):
        (about,) = signed_referrers(place, sample.index)
        assert len(signed_referrers(place, about)) == 1
        assert place.find(Tag(sample.cosign)) is not None


def test_copies_to_a_layout_and_back_byte_for_byte(
    ours: Counted, sessions: Sessions, name: RepositoryName, sample: Everything, tmp_path: Path
) -> None:
    place, layout = repository(sessions, ours.address, name), OciLayout(tmp_path / "copy")
    copy.copy(OciLayout(sample.root), V1, place, V1)
    copy.copy(place, V1, layout, V1)

    assert blobs_of(layout.root) == list(sample.digests)
    assert layout.find(V1) == sample.index
    (about,) = signed_referrers(layout, sample.index)
    assert len(signed_referrers(layout, about)) == 1


@pytest.mark.parametrize(
    "kind", [archive_target.ArchiveTarget, archive_target.DockerArchiveTarget], ids=lambda kind: kind.kind
)
def test_copies_to_an_archive_and_on_to_a_registry(
    kind: type[archive_target.ArchiveTarget],
    ours: Counted,
    sessions: Sessions,
    name: RepositoryName,
    sample: Everything,
    tmp_path: Path,
) -> None:
    file, place = tmp_path / "image.tar", repository(sessions, ours.address, name)
    with archive_target.written(file, kind) as target:
        copy.copy(OciLayout(sample.root), V1, target, V1)
    with archive.opened(file) as tar:
        result = copy.copy(OciArchive(tar), V1, place, V1)

    assert blobs_in(file) == list(sample.digests)
    assert result.digest == place.find(V1) == sample.index
    for digest in sample.digests:
        served(ours.address, name, digest)


def test_copies_referrers_to_a_registry_without_the_api_under_the_tag_that_stands_in(
    theirs: str, sessions: Sessions, name: RepositoryName, sample: Everything
) -> None:
    copy.copy(OciLayout(sample.root), V1, repository(sessions, theirs, name), V1)

    tags = httpx.get(f"http://{theirs}/v2/{name}/tags/list").json()["tags"]
    assert f"sha256-{sample.index.hex}" in tags


def test_keeps_track_of_referrers_that_an_index_lists_too(tmp_path: Path) -> None:
    """As buildkit's attestations, which are children of the index and refer to an image of it."""
    sample, layout = Sample(tmp_path / "sample"), OciLayout(tmp_path / "copy")
    image = sample.image()
    attestation = sample.artifact("attestation", image)
    sample.name(sample.index(image, attestation), "v1")
    sample.name(attestation)
    copy.copy(OciLayout(sample.root), V1, layout, V1)

    assert signed_referrers(layout, Digest.parse(image["digest"])) == [Digest.parse(attestation["digest"])]


def test_lets_a_referrer_go_that_is_listed_and_not_there(
    theirs: str, sessions: Sessions, name: RepositoryName, tmp_path: Path
) -> None:
    """Tags that stand in for lists are not kept up when a manifest is deleted."""
    sample, place = Sample(tmp_path / "sample"), repository(sessions, theirs, name)
    image = sample.image()
    sample.name(image, "v1")
    gone, kept = sample.artifact("gone", image), sample.artifact("kept", image)
    for each in (gone, kept):
        sample.name(each)
    copy.copy(OciLayout(sample.root), V1, place, V1)
    assert httpx.delete(f"http://{theirs}/v2/{name}/manifests/{gone['digest']}").status_code == 202
    layout = OciLayout(tmp_path / "copy")
    copy.copy(place, V1, layout, V1)

    assert signed_referrers(layout, Digest.parse(image["digest"])) == [Digest.parse(kept["digest"])]


def test_reads_referrers_under_the_tag_that_stands_in_from_a_layout(tmp_path: Path) -> None:
    """As regctl writes them."""
    sample, layout = Sample(tmp_path / "sample"), OciLayout(tmp_path / "copy")
    image = sample.image()
    digest = sample.name(image, "v1")
    about = sample.artifact("about", image)
    sample.name(sample.index(about), f"sha256-{digest.hex}")
    copy.copy(OciLayout(sample.root), V1, layout, V1)

    assert signed_referrers(layout, digest) == [Digest.parse(about["digest"])]


def test_copies_what_is_embedded_and_what_is_empty(
    ours: Counted, sessions: Sessions, name: RepositoryName, tmp_path: Path
) -> None:
    sample, place = Sample(tmp_path / "sample"), repository(sessions, ours.address, name)
    layers = [sample.add("text/plain", b"embedded"), sample.add("text/plain", b"")]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {**sample.add(EMPTY_TYPE, b"{}"), "data": "e30="},
        "layers": layers,
    }
    digest = sample.name(sample.add(MANIFEST_TYPE, json.dumps(document).encode()), "v1")
    (sample.root / "blobs" / document["config"]["digest"].replace(":", "/")).unlink()  # type: ignore[index]
    copy.copy(OciLayout(sample.root), V1, place, V1)
    layout = OciLayout(tmp_path / "copy")

    assert copy.copy(place, V1, layout, V1).digest == digest
    assert len(blobs_of(layout.root)) == 4


def test_stops_when_it_is_told_to(sample: Everything, tmp_path: Path) -> None:
    stop = threading.Event()
    moving = Moving(progress=lambda _: stop.set(), deadline=Deadline.after(None, stop=stop))
    layout = OciLayout(tmp_path / "copy")

    with pytest.raises(Cancelled):
        copy.copy(OciLayout(sample.root), V1, layout, V1, Options(moving=moving))
    assert layout.find(V1) is None


def test_leaves_referrers_and_signatures_when_asked(sample: Everything, tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "copy")
    copy.copy(OciLayout(sample.root), V1, layout, V1, Options(referrers=False))

    assert [name for name, _ in layout.names()] == ["v1"]
    assert not layout.referrers(sample.index)


def test_mounts_what_another_repository_of_the_registry_has(
    ours: Counted, sessions: Sessions, name: RepositoryName, other: RepositoryName, sample: Everything
) -> None:
    source, target = (repository(sessions, ours.address, each) for each in (name, other))
    copy.copy(OciLayout(sample.root), V1, source, V1)
    ours.requests.clear()
    plan = copy.plan(source, V1, target, V1)
    result = copy.run(plan, source, target)

    mounts = ours.seen("POST", "mount=")
    assert len(mounts) == len(plan.blobs) == result.blobs["mounted"]
    assert all(step.standing is Standing.MOUNTABLE for step in plan.blobs)
    assert (result.bytes, ours.seen("PATCH"), ours.seen("PUT", "/blobs/")) == (0, [], [])
    assert ours.seen("GET", f"{name}/blobs/") == []
    for digest in sample.digests:
        served(ours.address, other, digest)


def test_moves_nothing_the_second_time(
    ours: Counted, sessions: Sessions, name: RepositoryName, sample: Everything
) -> None:
    place = repository(sessions, ours.address, name)
    copy.copy(OciLayout(sample.root), V1, place, V1)
    ours.requests.clear()
    result = copy.copy(OciLayout(sample.root), V1, place, V1)

    assert (result.manifests, result.bytes, result.blobs) == (0, 0, {})
    assert {method for method, _, _ in ours.requests} <= {"HEAD", "GET"}
    assert not ours.seen("HEAD", "/blobs/")


def test_puts_the_tag_last(
    ours: Counted, sessions: Sessions, name: RepositoryName, sample: Everything
) -> None:
    copy.copy(OciLayout(sample.root), V1, repository(sessions, ours.address, name), V1)

    (*_, last) = [path for method, path, _ in ours.requests if method == "PUT" and str(name) in path]
    assert last == f"/v2/{name}/manifests/v1"


def test_plan_says_what_would_move_and_moves_nothing(
    ours: Counted, sessions: Sessions, name: RepositoryName, sample: Everything
) -> None:
    source, target = OciLayout(sample.root), repository(sessions, ours.address, name)
    ours.requests.clear()
    plan = copy.plan(source, V1, target, V1)
    document = json.loads(json.dumps(plan.to_json()))
    assert {method for method, _, _ in ours.requests} == {"HEAD"}
    ours.requests.clear()
    copy.run(plan, source, target)

    assert document["requests"] == plan.requests == len(ours.requests)
    assert document["bytes"]["absent"] == sum(each["size"] for each in document["blobs"])
    assert document["digest"] == document["manifests"][-1]["digest"] == str(sample.index)
    assert {each["digest"] for each in document["manifests"] + document["blobs"]} == set(sample.digests)


def test_plan_knows_blobs_that_are_there(
    ours: Counted, sessions: Sessions, name: RepositoryName, tmp_path: Path
) -> None:
    first, second = Sample(tmp_path / "first"), Sample(tmp_path / "second")
    first.name(first.image("one"), "v1")
    second.name(second.image("two"), "v1")
    place = repository(sessions, ours.address, name)
    copy.copy(OciLayout(first.root), V1, place, V1)
    plan = copy.plan(OciLayout(second.root), V1, place, V1)

    assert len(plan.blobs_that_are(Standing.PRESENT)) == 1
    assert len(plan.blobs_that_are(Standing.ABSENT)) == 2


def test_sparse_copy_is_refused_where_a_registry_takes_none(
    two: tuple[str, str], sessions: Sessions, name: RepositoryName, sample: Everything
) -> None:
    place = repository(sessions, two[1], name)
    wanted = Options(platforms=(Platform.parse("linux/amd64"),))

    with pytest.raises(ManifestBlobUnknown, match="takes no index without all its images"):
        copy.copy(OciLayout(sample.root), V1, place, V1, wanted)
    assert place.find(V1) is None


def test_tells_what_happens_to_each_blob(sample: Everything, tmp_path: Path) -> None:
    events: list[Event] = []
    options = Options(moving=replace(Moving(), progress=events.append))
    target: Target = OciLayout(tmp_path / "copy")
    result = copy.copy(OciLayout(sample.root), V1, target, V1, options)

    finished = [event for event in events if isinstance(event, Finished)]
    assert result.bytes == sum(event.size for event in finished)
    assert {event.how for event in finished} == {"fetched"}
    assert result.blobs == {"fetched": len(finished)}


def test_leaves_the_name_alone_when_a_blob_is_missing(tmp_path: Path) -> None:
    sample, layout = Sample(tmp_path / "sample"), OciLayout(tmp_path / "copy")
    digest = sample.name(sample.image("good"), "good")
    sample.name(sample.image("bad", size=10_000), "bad")
    copy.copy(OciLayout(sample.root), Tag("good"), layout, V1)
    max((sample.root / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size).unlink()

    with pytest.raises(Exception, match="does not hold"):
        copy.copy(OciLayout(sample.root), Tag("bad"), layout, V1)
    assert layout.find(V1) == digest
