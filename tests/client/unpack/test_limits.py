"""UNP-07, TAR-57, TAR-79, TAR-93: limits, and what memory is used at them."""

import subprocess
import sys
from pathlib import Path

import pytest

from client.unpack.errors import LimitExceeded, UnpackError
from client.unpack.limits import Limits
from tests.client.unpack.archives import archive, directory, file, link
from tests.client.unpack.sandbox import Sandbox

PEAK = 256 << 20

REPORT = """
# Not ru_maxrss: Linux hands on that of the process that started this one.
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak[0].split()[1]) * 1024)
"""


def peak_memory(code: str, *arguments: str | Path) -> int:
    """Run the code in a new process; return the most memory it had."""
    result = subprocess.run(
        [sys.executable, "-c", code + REPORT, *arguments], check=True, capture_output=True, text=True
    )
    return int(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("limits", "entries"),
    [
        pytest.param(Limits(depth=3), [file("a/b/c/d")], id="depth"),
        pytest.param(Limits(entries=2), [file("a"), file("b"), file("c")], id="entries"),
        pytest.param(Limits(unpacked=2000), [file("a", bytes(1000))], id="unpacked"),
        pytest.param(Limits(extension=100), [file("a" * 101)], id="extension"),
        pytest.param(Limits(xattrs=5), [file("a", pax={"SCHILY.xattr.user.a": "b"})], id="xattrs"),
        pytest.param(Limits(directories=2000), [directory(str(n)) for n in range(20)], id="directories"),
    ],
)
def test_UNP_07_holds_every_limit(sandbox: Sandbox, limits: Limits, entries: list[bytes]) -> None:
    with pytest.raises(LimitExceeded):
        sandbox.unpack(archive(*entries), limits=limits)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_TAR_93_a_million_links_end_somewhere(sandbox: Sandbox) -> None:
    """ext4 takes 65,000; elsewhere the entries' limit ends it."""
    entries = [file("f"), *(link(f"l{number}", "f") for number in range(66_000))]

    with pytest.raises(UnpackError):
        sandbox.unpack(archive(*entries), limits=Limits(entries=66_000))


def test_UNP_07_memory_is_flat_however_large_the_layer(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    code = """
import io, sys
from pathlib import Path
from client.unpack.layer import unpack_layer
from client.unpack.options import Options
from tests.client.unpack.archives import gzipped, raw

class Layer(io.RawIOBase):
    "A file of 512 MiB that is made as it is read."
    left = 512 << 20
    start = raw(b"f", size=left)
    def read(self, size=-1):
        if self.start:
            start, self.start = self.start, b""
            return start
        size = min(size, self.left)
        self.left -= size
        return bytes(size)

stats = unpack_layer(Layer(), Path(sys.argv[1]), diff_id=None, options=Options())
assert stats.unpacked == (512 << 20) + 512
(Path(sys.argv[1]) / "f").unlink()
"""
    assert peak_memory(code, tmp_path / "target") < 64 << 20


def test_TAR_93_memory_of_a_flat_tree_at_the_limit_of_entries() -> None:
    code = """
from client.unpack.limits import Limits
from client.unpack.whiteouts import FlatDeletions
deletions = FlatDeletions(None, None)
for number in range(Limits().entries):
    deletions.made(b"some/directory/and/a/name/%d" % number)
"""
    assert peak_memory(code) < PEAK


@pytest.mark.parametrize("path", ["b'%d'", "b'x' * 4000 + b'%d'"])
def test_TAR_93_memory_of_directories_at_their_limit(path: str) -> None:
    code = f"""
from client.unpack.directories import Directories
from client.unpack.errors import LimitExceeded
from client.unpack.limits import Limits
directories = Directories(None, Limits().directories)
try:
    for number in range(Limits().entries):
        directories.imply({path} % number)
except LimitExceeded:
    pass
"""
    assert peak_memory(code) < PEAK


def test_TAR_90_memory_at_the_largest_window(tmp_path: Path) -> None:
    code = """
import sys
from client.unpack.decompress import decompressed
from client.unpack.limits import Limits
unpacked = sum(len(piece) for piece in decompressed(open(sys.argv[1], "rb"), Limits(ratio=10**9)))
assert unpacked == 300 << 20
"""
    large = """
import sys
from client.unpack.decompress import zstd
compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
with open(sys.argv[1], "wb") as file:
    for _ in range(300):
        file.write(compressor.compress(bytes(1 << 20)))
    file.write(compressor.flush())
"""
    subprocess.run([sys.executable, "-c", large, tmp_path / "layer"], check=True)

    assert peak_memory(code, tmp_path / "layer") < PEAK


def test_TAR_79_memory_at_the_limit_of_a_sparse_map() -> None:
    code = """
from client.unpack.limits import MIB
from client.unpack.sparse import SparseMap
count = MIB // 4 - 10
text = (b"%d\\n" % count + b"0\\n0\\n" * count).ljust(MIB, b"\\0")
taken = 0
def take(size):
    global taken
    taken += size
    return text[taken - size : taken]
assert len(SparseMap(take, MIB, MIB).read(0)) == count
"""
    assert peak_memory(code) < PEAK


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_TAR_93_two_million_entries(tmp_path: Path) -> None:
    code = """
from client.unpack.errors import LimitExceeded
from client.unpack.limits import Limits
from client.unpack.tar_reader import TarReader
from tests.client.unpack.archives import raw
reader = TarReader(iter([raw() * 1000] * 2001), Limits())
try:
    for entry in reader:
        pass
except LimitExceeded:
    assert reader.entries == 2_000_001
else:
    raise AssertionError
"""
    assert peak_memory(code) < PEAK
