"""Layout directories: names, several writers, damage, and what a killed copy leaves."""

import fcntl
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from client import copy
from client.clock import Deadline
from client.errors import ContentMismatch, TimedOut
from client.places.errors import PlaceInvalid
from client.places.oci_layout import OciLayout
from client.places.place import RefName
from client.sessions import Sessions
from storage.oci.digest import Digest
from storage.oci.errors import BlobUnknown, ManifestUnknown
from storage.oci.names import RepositoryName, Tag
from tests.client.lying import Received, lying
from tests.client.places.samples import REF_NAME, Sample, blobs_of, repository, serving_layout

V1 = Tag("v1")
NAME = RepositoryName("library/app")
MIB = 1024 * 1024


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "sample")


def test_resolves_names_digests_and_the_only_image(sample: Sample) -> None:
    digest = sample.name(sample.index(), "v1")
    place = OciLayout(sample.root)
    child = place.resolve(V1).manifests[0].digest

    assert place.resolve(None).digest == place.resolve(V1).digest == place.resolve(digest).digest == digest
    assert place.resolve(child).digest == child


def test_resolves_nothing_to_latest_among_several(sample: Sample) -> None:
    sample.name(sample.image("one"), "v1")
    latest = sample.name(sample.image("two"), "latest")

    assert OciLayout(sample.root).resolve(None).digest == latest


def test_resolves_the_only_image_beside_its_referrers_and_signatures(sample: Sample) -> None:
    image = sample.image()
    digest = sample.name(image, "v1")
    sample.name(sample.artifact("about", image))
    sample.name(sample.artifact("signature"), f"sha256-{digest.hex}.sig")

    assert OciLayout(sample.root).resolve(None).digest == digest


@pytest.mark.parametrize("reference", [None, Tag("v9"), Digest.of(b"other")], ids=str)
def test_says_what_there_is(reference: Tag | Digest | None, sample: Sample) -> None:
    sample.name(sample.image("one"), "v1")
    sample.name(sample.image("two"), "v2")

    with pytest.raises(ManifestUnknown, match="v1, v2"):
        OciLayout(sample.root).resolve(reference)


def test_finds_full_names_in_any_spelling(sample: Sample) -> None:
    digest = sample.name(sample.image(), "docker.io/library/app:v1")

    assert OciLayout(sample.root).resolve(RefName("app:v1")).digest == digest


def test_refuses_a_name_that_means_two(sample: Sample) -> None:
    sample.name(sample.image("one"), "v1")
    sample.name(sample.image("two"), "v1")

    with pytest.raises(PlaceInvalid, match="several"):
        OciLayout(sample.root).resolve(V1)


def test_keeps_what_others_wrote_in_the_index(sample: Sample, tmp_path: Path) -> None:
    sample.name({**sample.image("one"), "x-other": {"kept": True}}, "one")
    more = Sample(tmp_path / "more")
    more.name(more.image("two"), "two")
    copy.copy(OciLayout(more.root), None, OciLayout(sample.root), Tag("two"))

    first, second = json.loads((sample.root / "index.json").read_bytes())["manifests"]
    assert first["x-other"] == {"kept": True}
    assert second["annotations"] == {REF_NAME: "two"}


def test_moves_a_name_to_another_image(sample: Sample, tmp_path: Path) -> None:
    sample.name(sample.image("one"), "one")
    second = sample.name(sample.image("two"), "two")
    layout = OciLayout(tmp_path / "copy")
    for name in ("one", "two"):
        copy.copy(OciLayout(sample.root), Tag(name), layout, V1)

    assert layout.find(V1) == second
    assert len(json.loads((layout.root / "index.json").read_bytes())["manifests"]) == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("index.json", b"["),
        ("index.json", b'{"manifests": 7}'),
        ("index.json", b'{"manifests": [{"digest": "sha256:zz"}]}'),
        ("index.json", b'{"manifests": [], "Manifests": []}'),
        ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}'),
        ("oci-layout", b"{}"),
        ("oci-layout", b""),
    ],
)
def test_refuses_a_damaged_layout(file: str, content: bytes, sample: Sample) -> None:
    sample.name(sample.image(), "v1")
    (sample.root / file).write_bytes(content)

    with pytest.raises(PlaceInvalid):
        OciLayout(sample.root).resolve(V1)


def test_writes_into_no_directory_of_other_things(sample: Sample, tmp_path: Path) -> None:
    sample.name(sample.image(), "v1")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/diary").write_text("dear diary")

    with pytest.raises(PlaceInvalid, match="no OCI layout"):
        copy.copy(OciLayout(sample.root), V1, OciLayout(tmp_path / "home"), V1)
    assert os.listdir(tmp_path / "home") == ["diary"]


@pytest.mark.parametrize("damage", ["emptied", "changed", "removed", "link"])
def test_gives_on_no_damaged_blob(damage: str, sample: Sample, tmp_path: Path) -> None:
    """What is read is hashed on its way."""
    sample.name(sample.image(size=10_000), "v1")
    blob = max((sample.root / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    good = blob.read_bytes()
    blob.unlink()
    match damage:
        case "emptied":
            blob.touch()
        case "changed":
            blob.write_bytes(bytes([good[0] ^ 1]) + good[1:])
        case "link":
            (tmp_path / "elsewhere").write_bytes(good)
            blob.symlink_to(tmp_path / "elsewhere")
    layout = OciLayout(tmp_path / "copy")

    with pytest.raises((ContentMismatch, BlobUnknown)):
        copy.copy(OciLayout(sample.root), V1, layout, V1)
    assert layout.find(V1) is None
    assert not (layout.root / "blobs/sha256" / blob.name).exists()


@pytest.mark.parametrize("target", ["manifest", "layer"])
def test_replaces_what_is_damaged_in_the_target(target: str, sample: Sample, tmp_path: Path) -> None:
    """Power losses have left empty files to others (pain 2)."""
    digest = sample.name(sample.image(size=10_000), "v1")
    layout = OciLayout(tmp_path / "copy")
    copy.copy(OciLayout(sample.root), V1, layout, V1)
    largest = max((layout.root / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    damaged = largest if target == "layer" else layout.root / "blobs/sha256" / digest.hex
    damaged.write_bytes(b"")
    copy.copy(OciLayout(sample.root), V1, layout, V1)

    assert blobs_of(layout.root) == blobs_of(sample.root)


def test_files_are_as_open_as_the_umask_says(sample: Sample, tmp_path: Path) -> None:
    sample.name(sample.image(), "v1")
    layout = OciLayout(tmp_path / "copy")
    umask = os.umask(0o022)
    try:
        copy.copy(OciLayout(sample.root), V1, layout, V1)
    finally:
        os.umask(umask)

    files = [layout.root / "index.json", *(layout.root / "blobs/sha256").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}


def copy_all(source: Path, target: Path, names: list[str]) -> None:
    """Copy images one by one: what the other processes run."""
    for name in names:
        copy.copy(OciLayout(source), Tag(name), OciLayout(target), Tag(name))


def test_several_writers_lose_none_of_their_names(sample: Sample, tmp_path: Path) -> None:
    names = [[f"{writer}-{number}" for number in range(6)] for writer in range(3)]
    for name in (name for each in names for name in each):
        sample.name(sample.image(name), name)
    context = multiprocessing.get_context("spawn")
    target = tmp_path / "copy"
    processes = [context.Process(target=copy_all, args=(sample.root, target, each)) for each in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = sorted(name for name, _ in OciLayout(target).names())
    assert found == sorted(name for each in names for name in each)
    assert blobs_of(target) == blobs_of(sample.root)


def test_waits_for_no_other_writer_beyond_the_deadline(sample: Sample) -> None:
    """The lock of a writer that is stopped is not waited for without an end."""
    sample.name(sample.image(), "v1")
    root = sample.root
    fd = os.open(root, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        layout = OciLayout(root, Deadline.after(0.2))
        with pytest.raises(TimedOut):
            layout.put_root(OciLayout(root).resolve(V1), Tag("v2"))
    finally:
        os.close(fd)


def copy_from(address: str, target: Path) -> None:
    """Copy from a registry: what the killed process runs."""
    with Sessions() as sessions:
        copy.copy(
            repository(sessions, address, NAME), V1, OciLayout(target), V1, copy.Options(referrers=False)
        )


def test_goes_on_after_a_kill(sample: Sample, tmp_path: Path) -> None:
    """CLI-03: what a killed copy has moved is not moved again."""
    sample.name(sample.image(size=6 * MIB), "v1")
    middle, stop = threading.Event(), threading.Event()
    target, large = tmp_path / "copy", 6 * MIB
    honest = serving_layout(sample.root)

    def stalling(received: Received) -> Iterable[bytes]:
        head, *body = honest(received)
        yield head
        if len(b"".join(body)) < large:
            yield from body
        else:
            yield body[0][: 4 * MIB]
            middle.set()
            stop.wait(30)

    with lying(stalling) as server:
        process = multiprocessing.get_context("spawn").Process(
            target=copy_from, args=(server.address, target)
        )
        process.start()
        assert middle.wait(30)
        while _recorded(target / "partial") < 3 * MIB:
            assert process.is_alive()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        stop.set()
    assert not (target / "index.json").exists()
    with lying(honest) as server:
        copy_from(server.address, target)

        ranges = [each.range[0] for each in server.requests if "range" in each.headers]
        assert len(ranges) == 1
        assert ranges[0] >= 3 * MIB
    assert blobs_of(target) == blobs_of(sample.root)


def _recorded(partial: Path) -> int:
    """Return how many bytes the maps of unfinished blobs have."""
    total = 0
    for path in partial.glob("*.json"):
        try:
            total += sum(stop - start for start, stop in json.loads(path.read_text())["done"])
        except (OSError, ValueError):
            continue
    return total


def test_leaves_nothing_but_the_layout(sample: Sample, tmp_path: Path) -> None:
    sample.name(sample.index(), "v1")
    copy.copy(OciLayout(sample.root), V1, OciLayout(tmp_path / "copy"), V1)

    assert sorted(os.listdir(tmp_path / "copy")) == ["blobs", "index.json", "oci-layout"]


def test_goes_on_with_a_layout_that_was_being_made(sample: Sample, tmp_path: Path) -> None:
    sample.name(sample.image(), "v1")
    (tmp_path / "copy/blobs").mkdir(parents=True)
    (tmp_path / "copy/.oci-layout.tmp").write_text("{")
    copy.copy(OciLayout(sample.root), V1, OciLayout(tmp_path / "copy"), V1)

    assert sorted(os.listdir(tmp_path / "copy")) == ["blobs", "index.json", "oci-layout"]


def test_copies_an_image_beside_a_damaged_one(sample: Sample, tmp_path: Path) -> None:
    sample.name(sample.image("good"), "good")
    bad = sample.name(sample.image("bad"), "bad")
    path = sample.root / "blobs/sha256" / bad.hex
    path.write_bytes(b" " + path.read_bytes()[1:])
    good = OciLayout(sample.root).resolve(Tag("good")).digest

    assert copy.copy(OciLayout(sample.root), Tag("good"), OciLayout(tmp_path / "copy"), V1).digest == good


def test_the_name_itself_comes_before_a_tag_of_that_name(sample: Sample) -> None:
    """Where docker has written, several images may have one tag, and whole names beside it."""
    sample.name({**sample.image("one"), "annotations": {}}, "v1")
    whole = {"io.containerd.image.name": "docker.io/library/app:v1", REF_NAME: "v1"}
    second = sample.image("two")
    path = sample.root / "index.json"
    document = json.loads(path.read_bytes())
    del second["platform"]
    document["manifests"].append({**second, "annotations": whole})
    path.write_text(json.dumps(document))
    place = OciLayout(sample.root)

    assert str(place.resolve(V1).digest) == document["manifests"][0]["digest"]
    assert str(place.resolve(RefName("app:v1")).digest) == second["digest"]
