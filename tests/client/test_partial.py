"""What a process leaves of a blob, and what the next one may trust of it."""

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from client.errors import DiskFailed
from client.partial import PartialFiles, Sink
from client.ranges import Ranges
from storage.durable import FileSystem
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import InsufficientStorage
from storage.oci.media_types import OCTET_STREAM

MIB = 1024 * 1024
CONTENT = os.urandom(4 * MIB)
BLOB = Descriptor(OCTET_STREAM, Digest.of(CONTENT), len(CONTENT))


@pytest.fixture
def files(tmp_path: Path) -> PartialFiles:
    return PartialFiles(tmp_path / "partial", tmp_path / "blobs")


def unexpected() -> None:
    raise AssertionError("nothing to wait for")


def using(files: PartialFiles, use: Callable[[Sink], object]) -> None:
    with files.open(BLOB, unexpected) as sink:
        assert sink is not None
        use(sink)


def part(tmp_path: Path, suffix: str = ".part") -> Path:
    return tmp_path / "partial" / f"sha256-{BLOB.digest.hex}{suffix}"


def test_publishes_a_whole_blob(files: PartialFiles, tmp_path: Path) -> None:
    def fill(sink: Sink) -> None:
        sink.write(MIB, CONTENT[MIB:])
        sink.write(0, CONTENT[:MIB])
        assert sink.read(MIB - 1, 2) == CONTENT[MIB - 1 : MIB + 1]
        sink.commit()

    using(files, fill)

    blob = tmp_path / "blobs" / "sha256" / BLOB.digest.hex
    assert blob.read_bytes() == CONTENT
    assert stat.S_IMODE(blob.stat().st_mode) == 0o600
    assert list((tmp_path / "partial").iterdir()) == []
    with files.open(BLOB, unexpected) as sink:
        assert sink is None


def test_cli_02_keeps_what_arrived_for_the_next_process(files: PartialFiles) -> None:
    using(files, lambda sink: sink.write(MIB, CONTENT[MIB : 2 * MIB]))

    with files.open(BLOB, unexpected) as sink:
        assert sink is not None
        assert list(sink.present()) == [(MIB, 2 * MIB)]
        assert sink.read(MIB, MIB) == CONTENT[MIB : 2 * MIB]


def test_cli_03_a_kill_loses_less_than_two_records(files: PartialFiles, tmp_path: Path) -> None:
    """The map is written while bytes come, not only at the end."""

    def fill(sink: Sink) -> None:
        for offset in range(0, 3 * MIB, 65536):
            sink.write(offset, CONTENT[offset : offset + 65536])
        recorded = json.loads(part(tmp_path, ".json").read_text())
        assert recorded["done"] == [[0, 3 * MIB]]
        assert recorded["synced"] == []

    using(files, fill)


def test_cli_03_after_a_power_loss_only_what_was_synced_counts(files: PartialFiles, tmp_path: Path) -> None:
    using(files, lambda sink: sink.write(0, CONTENT[: 3 * MIB]))
    path = part(tmp_path, ".json")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "boot": "another", "synced": [[0, MIB]]}))

    using(files, lambda sink: check(sink, [(0, MIB)]))


def check(sink: Sink, expected: list[tuple[int, int]]) -> None:
    assert list(sink.present()) == expected


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text[:20], id="torn"),
        pytest.param(lambda text: "[]", id="no-object"),
        pytest.param(lambda text: "{}", id="nothing-in-it"),
        pytest.param(lambda text: text.replace(str(BLOB.size), "7"), id="of-another-size"),
        pytest.param(lambda text: text.replace("[[", '[["x", 1], ['), id="no-numbers"),
    ],
)
def test_a_damaged_map_counts_for_nothing(
    files: PartialFiles, tmp_path: Path, change: Callable[[str], str]
) -> None:
    using(files, lambda sink: sink.write(0, CONTENT[: 2 * MIB]))
    path = part(tmp_path, ".json")
    path.write_text(change(path.read_text()))

    using(files, lambda sink: check(sink, []))


def test_a_map_says_no_more_than_the_file_has(files: PartialFiles, tmp_path: Path) -> None:
    using(files, lambda sink: sink.write(0, CONTENT[: 2 * MIB]))
    os.truncate(part(tmp_path), MIB)

    using(files, lambda sink: check(sink, [(0, MIB)]))


def test_forgets_wrong_bytes(files: PartialFiles, tmp_path: Path) -> None:
    def fill(sink: Sink) -> None:
        sink.write(0, CONTENT[: 2 * MIB])
        sink.discard()
        assert part(tmp_path).stat().st_size == 0

    using(files, fill)

    using(files, lambda sink: check(sink, []))


def test_waits_for_the_process_that_has_the_blob(files: PartialFiles, tmp_path: Path) -> None:
    """When that dies, its lock is gone and its bytes are used."""
    using(files, lambda sink: sink.write(0, CONTENT[:MIB]))
    other = os.open(part(tmp_path), os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    waits: list[int] = []

    def wait() -> None:
        waits.append(len(waits))
        if len(waits) == 3:
            os.close(other)

    with files.open(BLOB, wait) as sink:
        assert sink is not None
        check(sink, [(0, MIB)])
    assert len(waits) == 3


def test_finds_what_the_other_process_published(files: PartialFiles, tmp_path: Path) -> None:
    with files.open(BLOB, unexpected) as sink:
        assert sink is not None
        first: Sink = sink
        first.write(0, CONTENT)

        def finish() -> None:
            first.commit()

        with PartialFiles(tmp_path / "partial", tmp_path / "blobs").open(BLOB, finish) as second:
            assert second is None
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_lock_is_on_the_file_that_has_the_name(tmp_path: Path) -> None:
    """Between opening and locking, another process may have published that very file."""
    target = tmp_path / "blobs" / "sha256" / BLOB.digest.hex

    class Late(FileSystem):
        def lock(self, fd: int) -> None:
            if not target.exists():
                target.parent.mkdir(parents=True)
                target.write_bytes(CONTENT)
                part(tmp_path).unlink()
            super().lock(fd)

    files = PartialFiles(tmp_path / "partial", tmp_path / "blobs", Late())
    with files.open(BLOB, lambda: None) as sink:
        assert sink is None
    assert target.read_bytes() == CONTENT


def test_follows_no_link_in_the_place_of_its_file(files: PartialFiles, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    part(tmp_path).parent.mkdir()
    part(tmp_path).symlink_to(victim)

    with pytest.raises(DiskFailed), files.open(BLOB, unexpected):
        pass

    assert victim.read_bytes() == b"precious"


def test_looks_for_space_before_anything_is_fetched(files: PartialFiles) -> None:
    huge = Descriptor(OCTET_STREAM, BLOB.digest, 2**62)

    with pytest.raises(InsufficientStorage, match="still to come"), files.open(huge, unexpected):
        pass


def test_says_that_the_disk_is_full(tmp_path: Path) -> None:
    class Full(FileSystem):
        def write(self, fd: int, data: memoryview, offset: int) -> int:
            raise OSError(errno.ENOSPC, "full")

    files = PartialFiles(tmp_path / "partial", tmp_path / "blobs", Full())
    with files.open(BLOB, unexpected) as sink:
        assert sink is not None
        with pytest.raises(InsufficientStorage, match="no space is left"):
            sink.write(0, CONTENT)


def test_says_that_the_disk_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with (
        pytest.raises(DiskFailed, match="File exists"),
        PartialFiles(tmp_path / "file", tmp_path).open(BLOB, unexpected),
    ):
        pass


def test_is_a_set_of_ranges(files: PartialFiles) -> None:
    with files.open(BLOB, unexpected) as sink:
        assert sink is not None
        assert sink.present() == Ranges()


def test_leaves_nothing_behind_for_what_is_published(tmp_path: Path) -> None:
    """Another process may open the name again as soon as it is free."""

    class Busy(FileSystem):
        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            if source.suffix == ".part":
                source.touch()

    def fill(sink: Sink) -> None:
        sink.write(0, CONTENT)
        sink.commit()

    using(PartialFiles(tmp_path / "partial", tmp_path / "blobs", Busy()), fill)

    assert not part(tmp_path, ".json").exists()


def test_names_the_directory_it_may_not_enter(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file")
    files = PartialFiles(tmp_path / "partial", tmp_path / "blobs")

    def fill(sink: Sink) -> None:
        sink.write(0, CONTENT)
        sink.commit()

    with pytest.raises(DiskFailed):
        using(files, fill)
