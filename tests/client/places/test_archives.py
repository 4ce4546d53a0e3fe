"""Archives: read where they lie, refused when two programs would read them differently, written the same."""

import gzip
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from client import copy
from client.errors import ContentMismatch
from client.places import archive, archive_target, docker_archive
from client.places.archive import OciArchive
from client.places.archive_target import ArchiveTarget, DockerArchiveTarget
from client.places.errors import PlaceInvalid
from client.places.oci_layout import OciLayout
from client.places.place import RefName
from client.places.tar_writer import TarWriter
from storage.oci.digest import Digest
from storage.oci.names import Tag
from tests.client.places.samples import Sample, blobs_in, blobs_of, everything
from tests.client.places.tars import entry, pack, packed

V1 = Tag("v1")


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "sample")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "image.tar"


def read_index(path: Path) -> Digest:
    with archive.opened(path) as tar:
        return OciArchive(tar).resolve(V1).digest


def test_reads_what_tar_makes_of_a_layout(sample: Sample, file: Path) -> None:
    digest = sample.name(sample.index(), "v1")

    assert read_index(packed(sample.root, file)) == digest


def test_gives_every_blob_of_an_archive(sample: Sample, file: Path, tmp_path: Path) -> None:
    sample.name(sample.index(), "v1")
    layout = OciLayout(tmp_path / "copy")
    with archive.opened(packed(sample.root, file)) as tar:
        copy.copy(OciArchive(tar), V1, layout, V1)

    assert blobs_of(layout.root) == blobs_of(sample.root)


def test_reads_a_compressed_archive(sample: Sample, file: Path) -> None:
    digest = sample.name(sample.index(), "v1")
    compressed = file.with_suffix(".gz")
    compressed.write_bytes(gzip.compress(packed(sample.root, file).read_bytes()))

    assert read_index(compressed) == digest


def test_reads_an_archive_from_a_pipe(sample: Sample, file: Path) -> None:
    digest = sample.name(sample.index(), "v1")
    pipe = file.with_suffix(".pipe")
    os.mkfifo(pipe)
    content = packed(sample.root, file).read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    try:
        assert read_index(pipe) == digest
    finally:
        writer.join()


def prefixed(content: bytes) -> Callable[[bytes], bytes]:
    return lambda good: content + good


def with_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _of_type(type_: bytes) -> bytes:
    header = bytearray(tarfile.TarInfo("odd").tobuf(tarfile.USTAR_FORMAT))
    header[156:157] = type_
    return with_checksum(header)


def _with_size(size: bytes) -> bytes:
    header = bytearray(tarfile.TarInfo("large").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size
    return with_checksum(header)


_PAX = tarfile.TarInfo("long")
_PAX.pax_headers = {"path": "../outside"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(prefixed(entry("../outside").tobuf()), "leads out", id="traversal"),
        pytest.param(prefixed(entry("blobs/../../x").tobuf()), "leads out", id="traversal-inside"),
        pytest.param(prefixed(entry("/etc/passwd").tobuf()), "leads out", id="absolute"),
        pytest.param(prefixed(_PAX.tobuf(tarfile.PAX_FORMAT)), "leads out", id="traversal-in-pax"),
        pytest.param(prefixed(entry("index.json").tobuf()), "two members", id="duplicate"),
        pytest.param(prefixed(entry("./index.json").tobuf()), "two members", id="duplicate-spelling"),
        pytest.param(lambda good: good[: len(good) // 2], "cut", id="cut-in-data"),
        pytest.param(lambda good: good[:700], "cut", id="cut-in-header"),
        pytest.param(lambda good: good.rstrip(b"\0"), "cut", id="without-its-end"),
        pytest.param(lambda good: b"", "no tar archive", id="empty"),
        pytest.param(lambda good: b"hello", "no tar archive", id="text"),
        pytest.param(lambda good: b"x" * 5000, "checksum|octal", id="noise"),
        pytest.param(lambda good: good[:20] + b"?" + good[21:], "checksum", id="flipped-byte"),
        pytest.param(prefixed(bytes(512)), "single block", id="zero-block-inside"),
        pytest.param(prefixed(_of_type(b"S")), "unknown type", id="gnu-sparse"),
        pytest.param(prefixed(_of_type(b"V")), "unknown type", id="unknown-type"),
        pytest.param(prefixed(_with_size(b"\x80" + b"\0" * 3 + b"\xff" * 8)), "64 bits|cut", id="huge-size"),
        pytest.param(prefixed(_with_size(b"\xff" * 12)), "cut", id="negative-size"),
        pytest.param(prefixed(_with_size(b"77777777777\0")), "cut", id="beyond-the-end"),
        pytest.param(lambda good: gzip.compress(good)[:-9], "cut", id="cut-gzip"),
        pytest.param(lambda good: b"BZh9" + good, "bzip2", id="bzip2"),
    ],
)
def test_refuses_a_bad_archive(
    spoil: Callable[[bytes], bytes], message: str, sample: Sample, file: Path
) -> None:
    sample.name(sample.image(), "v1")
    members = {
        str(path.relative_to(sample.root)): path.read_bytes()
        for path in sorted(sample.root.rglob("*"))
        if path.is_file()
    }
    good = pack(file, members).read_bytes()
    read_index(file)
    file.write_bytes(spoil(good))

    with pytest.raises(PlaceInvalid, match=message):
        read_index(file)


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_refuses_an_archive_that_is_no_layout(name: str, sample: Sample, file: Path) -> None:
    sample.name(sample.image(), "v1")
    (sample.root / name).unlink()

    with pytest.raises(PlaceInvalid, match=f"no {name}"):
        read_index(packed(sample.root, file))


def test_gives_on_no_blob_with_another_digest(sample: Sample, file: Path, tmp_path: Path) -> None:
    sample.name(sample.image(size=10_000), "v1")
    blob = max((sample.root / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"?" + blob.read_bytes()[1:])

    with archive.opened(packed(sample.root, file)) as tar, pytest.raises(ContentMismatch):
        copy.copy(OciArchive(tar), V1, OciLayout(tmp_path / "copy"), V1)


# Writing


@pytest.mark.parametrize("kind", [ArchiveTarget, DockerArchiveTarget])
def test_writes_the_same_bytes_each_time(kind: type[ArchiveTarget], tmp_path: Path) -> None:
    source = everything(tmp_path / "sample")
    for name in ("first", "second"):
        with archive_target.written(tmp_path / name, kind) as target:
            copy.copy(OciLayout(source.root), V1, target, RefName("app:v1"))

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    with tarfile.open(tmp_path / "first") as tar:
        assert {(each.mtime, each.uid, each.gid) for each in tar} == {(0, 0, 0)}


def test_leaves_the_old_archive_when_the_new_one_fails(sample: Sample, file: Path) -> None:
    sample.name(sample.image(size=10_000), "v1")
    file.write_bytes(b"old")
    max((sample.root / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size).unlink()

    with pytest.raises(Exception, match="does not hold"), archive_target.written(file) as target:
        copy.copy(OciLayout(sample.root), V1, target, V1)
    assert file.read_bytes() == b"old"
    assert sorted(os.listdir(file.parent)) == ["image.tar", "sample"]


def test_keeps_wrong_bytes_out_of_an_archive(sample: Sample, file: Path) -> None:
    sample.name(sample.image(size=10_000), "v1")
    blob = max((sample.root / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"?" + blob.read_bytes()[1:])

    with pytest.raises(ContentMismatch), archive_target.written(file) as target:
        copy.copy(OciLayout(sample.root), V1, target, V1)
    assert not file.exists()


def test_holds_several_images_and_each_blob_once(sample: Sample, file: Path) -> None:
    first = sample.name(sample.image("one"), "one")
    second = sample.name(sample.index(), "two")
    with archive_target.written(file, DockerArchiveTarget) as target:
        copy.copy(OciLayout(sample.root), Tag("one"), target, RefName("app:v1"))
        copy.copy(OciLayout(sample.root), Tag("one"), target, RefName("host:5000/app:v1"))
        copy.copy(OciLayout(sample.root), Tag("two"), target, RefName("app:v2"))

    assert len(blobs_in(file)) == len(set(blobs_in(file)))
    with archive.opened(file) as tar:
        place = docker_archive.read(tar)
        names = ("app:v1", "host:5000/app:v1", "docker.io/library/app:v2")
        assert [place.resolve(RefName(name)).digest for name in names] == [first, first, second]
        member = tar.find("manifest.json")
        assert member is not None
        entries = json.loads(tar.read(member, 10_000))
    assert [each["RepoTags"] for each in entries] == [["app:v1", "host:5000/app:v1"], ["app:v2"]]


def test_writes_to_the_standard_output(sample: Sample, capfdbinary: Any, file: Path) -> None:
    digest = sample.name(sample.image(), "v1")
    with archive_target.written(Path("-")) as target:
        copy.copy(OciLayout(sample.root), V1, target, V1)
    file.write_bytes(capfdbinary.readouterr().out)

    assert read_index(file) == digest


def test_writes_files_beyond_what_a_ustar_header_can_say(file: Path) -> None:
    """The header alone is kept: ten gigabytes are said, not written."""

    class Heads(io.RawIOBase):
        def write(self, data: Any) -> int:
            if len(data) == 512:
                heads.append(bytes(data))
            return len(data)

    heads: list[bytes] = []
    block, size = bytes(1 << 30), 10 << 30
    TarWriter(cast("BinaryIO", Heads()), str(file)).add("large", size, [block] * 10)

    assert tarfile.TarInfo.frombuf(heads[0], "utf-8", "strict").size == size
