"""What nobody thought of: damaged archives, and layers of random entries in a small world (UNP-02)."""

import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from client.unpack.decompress import decompressed
from client.unpack.entry import Kind
from client.unpack.errors import UnpackError, Unsafe
from client.unpack.limits import Limits
from client.unpack.options import Form
from client.unpack.tar_reader import TarReader
from tests.client.unpack import umoci
from tests.client.unpack.archives import (
    archive,
    directory,
    entry,
    file,
    gzipped,
    link,
    long_link,
    long_name,
    raw,
    symlink,
    x,
    zstded,
)
from tests.client.unpack.overlays import needs_root
from tests.client.unpack.sandbox import Sandbox
from tests.client.unpack.trees import listing

LIMITS = Limits(unpacked=1 << 20, entries=1000, depth=20, extension=1 << 16)


def bounded(examples: int) -> settings:
    """Repeatable in `make test`; `make soak` sets more."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# An empty attribute is none to umoci, and is one to GNU tar, containerd and us.
# A world so small that entries meet: few names, links up, down, round and out, whiteouts.
parts = st.sampled_from(["a", "b", "c", ".", "..", "", ".wh.a", ".wh.b", ".wh..wh..opq", "victim"])
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
plain = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
targets = st.one_of(
    paths, st.sampled_from(["../victim", "/", "..", "../..", "/victim/hello", "a/../../victim", "."])
)
contents = st.binary(max_size=700)


def layers(names: st.SearchStrategy[str]) -> st.SearchStrategy[list[bytes]]:
    made = st.one_of(
        st.builds(file, names, contents),
        st.builds(directory, names, mode=st.sampled_from([0o755, 0, 0o1777])),
        st.builds(symlink, names, targets),
        st.builds(link, names, st.one_of(names, targets)),
        st.builds(lambda name: entry(name, kind="fifo"), names),
        st.builds(
            lambda name, value: file(name, pax={"SCHILY.xattr.user.a": value}),
            names,
            st.text(min_size=1, max_size=9),
        ),
    )
    return st.lists(made, max_size=12)


headers = st.one_of(
    st.builds(file, paths, contents),
    st.builds(long_name, paths),
    st.builds(long_link, paths),
    st.builds(
        lambda key, value: x((key, value)),
        st.sampled_from(["path", "size", "mtime", "a"]),
        st.text(max_size=20),
    ),
    st.builds(
        raw,
        st.binary(max_size=100),
        type_=st.binary(min_size=1, max_size=1),
        size=st.binary(min_size=12, max_size=12),
        magic=st.sampled_from([b"ustar\x0000", b"ustar  \0", bytes(8)]),
    ),
    st.builds(symlink, paths, paths),
    st.just(bytes(512)),
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Good archives with a few bytes changed, cut and put together anew."""
    data = bytearray(archive(*draw(st.lists(headers, min_size=1, max_size=6))))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    start, stop = draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))
    return bytes(data[:start] if draw(st.booleans()) else data[: max(start, stop)])


def failure(attempt: Callable[[], object]) -> UnpackError | None:
    """Return the error of the attempt, which is one of ours and fit to be shown, or None."""
    try:
        attempt()
    except UnpackError as error:
        caught = error
    else:
        return None
    assert str(caught).isprintable()
    return caught


def check_reader(data: bytes) -> None:
    """It ends, or raises ours; where it accepts an archive, so does Python, and sees the same files."""
    found: list[tuple[bytes, bool]] = []

    def read() -> None:
        reader = TarReader(iter([data[:700], data[700:]]), LIMITS)
        for one in reader:
            for _ in iter(reader.read, b""):
                pass
            found.append((one.name.rstrip(b"/"), one.kind is Kind.DIRECTORY))

    if failure(read):
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as other:
            members = list(other)
    except tarfile.ReadError:
        # Python misses the padding of the last entry, and takes no empty file for an archive.
        return
    encoded = [member.name.encode("utf-8", "surrogateescape").rstrip(b"/") for member in members]
    assert found == list(zip(encoded, [member.isdir() for member in members], strict=True))


@bounded(2000)
@given(damaged())
def test_UNP_02_reads_damaged_archives_as_others_do_or_refuses_them(data: bytes) -> None:
    check_reader(data)


@bounded(1000)
@given(st.binary(max_size=2000))
def test_UNP_02_reads_any_bytes_or_refuses_them(data: bytes) -> None:
    check_reader(data)


@bounded(1000)
@given(
    st.sampled_from([gzipped, zstded]),
    st.binary(max_size=3000),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=3),
)
def test_UNP_08_decompresses_damaged_streams_or_refuses_them(
    compress: Callable[[bytes], bytes], data: bytes, damages: list[tuple[int, int]]
) -> None:
    stream = bytearray(compress(data) * 2)
    for place, value in damages:
        stream[place % len(stream)] = value

    def read() -> None:
        for piece in decompressed(io.BytesIO(bytes(stream)), LIMITS):
            assert piece

    failure(read)


@bounded(150)
@given(layers(paths))
def test_a_random_layer_touches_nothing_outside(entries: list[bytes]) -> None:
    """Accepted or not; and every failure is one of ours."""
    with sandboxed() as sandbox:
        failure(lambda: sandbox.unpack(archive(*entries)))


@bounded(150)
@given(layers(paths), layers(paths))
def test_random_layers_touch_nothing_outside_a_flat_tree(first: list[bytes], second: list[bytes]) -> None:
    with sandboxed() as sandbox:
        if not failure(lambda: sandbox.unpack(archive(*first), Form.FLAT)):
            failure(lambda: sandbox.unpack(archive(*second), Form.FLAT))


@contextmanager
def sandboxed() -> Iterator[Sandbox]:
    """A sandbox for each example; a fixture would be one for all of them."""
    with tempfile.TemporaryDirectory() as name:
        yield Sandbox(Path(name))


def outcome(attempt: Callable[[Sandbox], object]) -> object:
    """Return the tree that the attempt makes, or what its error says."""
    with sandboxed() as sandbox:
        error = failure(lambda: attempt(sandbox))
        return str(error) if error else listing(sandbox.root)


@bounded(150)
@given(layers(plain))
def test_a_layer_without_whiteouts_is_the_same_tree_in_both_forms(entries: list[bytes]) -> None:
    layer = archive(*entries)

    assert outcome(lambda sandbox: sandbox.unpack(layer)) == outcome(
        lambda sandbox: sandbox.unpack(layer, Form.FLAT)
    )


@bounded(100)
@given(layers(plain), layers(plain))
def test_layers_applied_together_make_what_they_make_one_by_one(
    first: list[bytes], second: list[bytes]
) -> None:
    """apply_layers keeps directories open until the end; unpack_layer closes them in between."""
    stack = archive(*first), archive(*second)

    def one_by_one(sandbox: Sandbox) -> None:
        for layer in stack:
            sandbox.unpack(layer, Form.FLAT)

    assert outcome(lambda sandbox: sandbox.apply(*stack)) == outcome(one_by_one)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(bounded(50_000), derandomize=False)
@given(damaged())
def test_UNP_02_soak(data: bytes) -> None:
    check_reader(data)


# umoci reads the names of whiteouts anywhere as directories, moby skips .wh..wh. at the root; we follow moby.
names = st.builds(
    lambda path, end: path + end,
    paths.filter(lambda path: ".wh..wh." not in path),
    st.sampled_from(["", "", "", "/.wh..wh..opq"]),
)


BELOW_A_FILE = "a parent that is no directory"


def check_umoci(first: list[bytes], second: list[bytes]) -> None:
    """We refuse what umoci refuses and more: names above the root, whiteouts below a file. No other tree."""
    stack = archive(directory("./"), *first), archive(*second)
    with sandboxed() as sandbox, tempfile.TemporaryDirectory() as other:
        theirs = umoci.unpack(Path(other), stack)
        if error := failure(lambda: sandbox.apply(*stack)):
            assert theirs is None or isinstance(error, Unsafe) or error.message == BELOW_A_FILE
            return
        assert theirs is not None
        # Directories that no entry describes are of the time of the run there, and of 1970 here.
        without = frozenset(["mtime"])
        assert listing(sandbox.root, without=without) == listing(theirs, without=without)


@umoci.needed
@needs_root
@bounded(30)
@given(layers(names), layers(names))
def test_UNP_02_makes_what_umoci_makes(first: list[bytes], second: list[bytes]) -> None:
    check_umoci(first, second)


@umoci.needed
@needs_root
@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(bounded(3000), derandomize=False)
@given(layers(names), layers(names))
def test_UNP_02_makes_what_umoci_makes_soak(first: list[bytes], second: list[bytes]) -> None:
    check_umoci(first, second)
