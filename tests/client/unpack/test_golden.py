"""TAROK-01..TAROK-07: what must keep working, compared with the tree that was packed, and with umoci's."""

import hashlib
import io
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from client.unpack.layer import apply_layers, unpack_layer
from client.unpack.options import Form, Options
from storage.oci.digest import Digest
from tests.client.unpack import nasty, umoci
from tests.client.unpack.archives import (
    archive,
    directory,
    entry,
    file,
    gzipped,
    link,
    skippable,
    symlink,
    zstded,
)
from tests.client.unpack.overlays import mounted, needs_root
from tests.client.unpack.trees import listing

pytestmark = needs_root


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "tree"
    root.mkdir()
    nasty.make(root)
    return root


def tar(source: Path, *options: str) -> bytes:
    command = [
        "tar",
        "-C",
        str(source),
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        *options,
        "-cf",
        "-",
        ".",
    ]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--format=posix"], id="pax"),
        pytest.param(["--format=posix", "--sparse", "--sparse-version=1.0"], id="pax-sparse"),
    ],
)
def test_brings_back_the_tree(source: Path, tmp_path: Path, form: Form, options: list[str]) -> None:
    target = tmp_path / "target"
    target.mkdir()

    data = tar(source, *options)
    unpack_layer(io.BytesIO(data), target, diff_id=Digest.of(data), options=Options(form=form, devices=True))

    assert listing(target) == listing(source)
    holes = (target / "nodes/sparse").stat().st_blocks * 512 < 9 << 20
    assert holes == ("--sparse" in options)


def test_brings_back_the_tree_from_the_gnu_format(source: Path, tmp_path: Path) -> None:
    """It has no extended attributes and no fractions of seconds."""
    target, other = tmp_path / "target", tmp_path / "tar"
    target.mkdir()
    other.mkdir()

    data = tar(source, "--format=gnu", "--no-xattrs")
    unpack_layer(io.BytesIO(data), target, diff_id=None, options=Options(devices=True))

    subprocess.run(
        ["tar", "-C", other, "--same-owner", "--numeric-owner", "-xpf", "-"], input=data, check=True
    )
    assert listing(target) == listing(other)


def theirs(place: Path, layers: Sequence[bytes]) -> Path:
    tree = umoci.unpack(place, layers)
    assert tree is not None
    return tree


LAYERS = {
    "usr-merge": [
        [directory("./"), directory("usr"), directory("usr/bin"), file("usr/bin/sh", b"1", mode=0o755)],
        [
            symlink("bin", "usr/bin"),
            symlink("lib", "/usr/lib"),
            directory("usr/lib"),
            file("usr/lib/l", b"2"),
        ],
        [file("bin/new", b"3"), file("lib/new", b"4"), file("bin/.wh.sh")],
    ],
    "links": [
        [directory("./"), directory("a"), file("a/f", b"1", mode=0o4755, uid=7), symlink("a/s", "/nowhere")],
        [directory("b"), link("b/f", "/a/f"), link("b/s", "./a/s"), link("b/g", "b/f")],
        [file("a/f", b"2")],
        [file("a/.wh.f"), link("c", "b/f")],
    ],
    "deletions": [
        [
            directory("./"),
            directory("d"),
            file("d/a"),
            file("d/b"),
            directory("d/e"),
            file("d/e/f"),
            file("t"),
        ],
        [
            directory("d"),
            file("d/.wh.a"),
            file("d/c", b"3"),
            file("d/.wh.nope"),
            file(".wh.t"),
            file("t", b"4"),
        ],
        [directory("d"), file("d/.wh..wh..opq"), file("d/n", b"5")],
        [file(".wh.d"), directory("d", mode=0o700), file("d/again", b"6")],
    ],
    "kinds": [
        [
            directory("./"),
            file("x", b"1"),
            directory("y"),
            file("y/z"),
            symlink("s", "y"),
            entry("p", kind="fifo"),
        ],
        [
            directory("x"),
            file("x/in", b"2"),
            file("y", b"3"),
            directory("s"),
            file("s/in"),
            symlink("p", "x"),
        ],
        [symlink("x", "s"), file("x/through", b"4"), entry("y", kind="character", device=(1, 3), mode=0o666)],
    ],
    "metadata": [
        [
            directory("./", mode=0o711),
            directory("d", mode=0o3770, uid=4, gid=5, mtime=-7),
            file("d/f", mtime=-(2**31)),
        ],
        [directory("d", mode=0o555, mtime=9), file("d/g", uid=2**31, pax={"mtime": "-1.5"})],
        [directory("d/e", mode=0), file("d/e/f", b"1"), directory("d", mode=0o750, mtime=11)],
    ],
}


@umoci.needed
@pytest.mark.parametrize("name", LAYERS)
def test_makes_the_tree_that_umoci_makes(tmp_path: Path, name: str) -> None:
    layers = [archive(*entries) for entries in LAYERS[name]]
    target = tmp_path / "target"
    target.mkdir()

    streams = [(io.BytesIO(layer), Digest.of(layer)) for layer in layers]
    apply_layers(streams, target, options=Options(form=Form.FLAT, devices=True))

    assert listing(target) == listing(theirs(tmp_path, layers))


@umoci.needed
def test_makes_umocis_tree_of_the_nasty_one(source: Path, tmp_path: Path) -> None:
    data = tar(source, "--format=posix")
    target = tmp_path / "target"
    target.mkdir()

    unpack_layer(io.BytesIO(data), target, diff_id=Digest.of(data), options=Options(devices=True))

    # umoci leaves out attributes of the system and the trusted ones of links.
    without = frozenset(["xattrs"])
    assert listing(target, without=without) == listing(theirs(tmp_path, [data]), without=without)


@pytest.mark.parametrize("name", ["deletions", "kinds", "metadata"])
def test_an_overlay_shows_what_a_flat_tree_holds(tmp_path: Path, name: str) -> None:
    """Not so where an upper layer writes through a lower one's link: its own directory is shown."""
    layers = [archive(directory("./"), *entries) for entries in LAYERS[name]]
    if name == "kinds":
        layers.pop()
    stack = []
    for number, layer in enumerate(layers):
        stack.append(tmp_path / str(number))
        stack[-1].mkdir()
        unpack_layer(io.BytesIO(layer), stack[-1], diff_id=None, options=Options(devices=True))
    flat = tmp_path / "flat"
    flat.mkdir()
    options = Options(form=Form.FLAT, devices=True)
    apply_layers([(io.BytesIO(layer), None) for layer in layers], flat, options=options)

    with mounted(stack, tmp_path / "mount") as merged:
        assert listing(merged) == listing(flat)


@pytest.mark.parametrize(
    "compressed",
    [
        pytest.param(lambda data: data, id="uncompressed"),
        pytest.param(gzipped, id="gzip"),
        pytest.param(lambda data: gzipped(data[:5000]) + gzipped(data[5000:]), id="pigz"),
        pytest.param(zstded, id="zstd"),
        pytest.param(
            lambda data: zstded(data[:900]) + zstded(data[900:]) + skippable(b"toc"), id="zstd-chunked"
        ),
    ],
)
def test_TAROK_06_reads_every_compression(
    source: Path, tmp_path: Path, compressed: Callable[[bytes], bytes]
) -> None:
    data = tar(source, "--format=posix")
    target = tmp_path / "target"
    target.mkdir()

    stats = unpack_layer(
        io.BytesIO(compressed(data)), target, diff_id=Digest.of(data), options=Options(devices=True)
    )

    assert stats.diff_id.hex == hashlib.sha256(data).hexdigest()
    assert listing(target) == listing(source)


def test_UNP_14_two_runs_make_the_same_tree(source: Path, tmp_path: Path) -> None:
    data = tar(source, "--format=posix", "--exclude=./usr", "--exclude=.")
    trees = []
    for name in "ab":
        (tmp_path / name).mkdir()
        unpack_layer(io.BytesIO(data), tmp_path / name, diff_id=None, options=Options())
        trees.append(listing(tmp_path / name))

    assert trees[0] == trees[1]
