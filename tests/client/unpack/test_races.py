"""TAR-101, and the fallback for kernels without openat2."""

import ctypes
import errno
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from client.unpack.errors import UnpackError
from client.unpack.layer import unpack_layer
from client.unpack.options import Form, Options
from tests.client.unpack.archives import archive, directory, file, symlink
from tests.client.unpack.trees import listing

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent

# For each of three decoys; the soak test makes up the 100,000.
TRIES = 5_000

SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
EXCHANGE, HERE = 2, -100
print("ready", flush=True)
swaps = 0
while not os.path.exists("stop"):
    swaps += libc.renameat2(HERE, b"root/d", HERE, b"decoy", EXCHANGE) == 0
print(swaps, flush=True)
"""


@contextmanager
def swapping(place: Path) -> Iterator[list[int]]:
    """Let another process exchange root/d and a link to the victim, on and on; tell how often it did."""
    swaps: list[int] = []
    with subprocess.Popen([sys.executable, "-c", SWAP, place], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield swaps
        finally:
            (place / "stop").touch()
            swaps.append(int(process.stdout.readline()))


DECOYS = ["../victim", "/proc/self/cwd", "e"]


@pytest.mark.parametrize("decoy", DECOYS)
def test_TAR_101_writes_nothing_outside_whoever_swaps_directories(tmp_path: Path, decoy: str) -> None:
    swap(tmp_path, decoy, TRIES)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("decoy", DECOYS)
def test_TAR_101_soak(tmp_path: Path, decoy: str) -> None:
    swap(tmp_path, decoy, 100_000)


def swap(place: Path, decoy: str, tries: int) -> None:
    """Resolve a name anew so many times, while it is now a directory and now a link."""
    root, victim = place / "root", place / "victim"
    (root / "d").mkdir(parents=True)
    victim.mkdir()
    (victim / "hello").write_text("hello")
    (place / "decoy").symlink_to(decoy)
    before = listing(victim)
    # Every other entry makes the next one look for its directory again.
    entries = [
        directory("d/x"),
        directory("e/x"),
        file("d/f", b"pwn"),
        symlink("e/s", "x"),
        file("d/y/z", b"pwn"),
    ]
    data = archive(*entries * 20)

    with swapping(place) as swaps:
        for _ in range(tries // 100):
            with suppress(UnpackError):
                unpack_layer(io.BytesIO(data), root, diff_id=None, options=Options(form=Form.FLAT))

    assert listing(victim) == before
    assert swaps[0] > 1000
    assert set(os.listdir(place)) == {"root", "victim", "decoy", "stop"}


WITHOUT_OPENAT2 = """
import ctypes, struct, sys
import pytest

LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ERRNO, ALLOW, ENOSYS, OPENAT2 = 0x00050000, 0x7FFF0000, 38, 437
program = b"".join(struct.pack("HBBI", *line) for line in [
    (LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, OPENAT2), (RETURN, 0, 0, ERRNO | ENOSYS), (RETURN, 0, 0, ALLOW),
])
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0, "no new privileges"
filter_ = Filter(4, ctypes.addressof(buffer))
assert libc.prctl(22, 2, ctypes.byref(filter_), 0, 0) == 0, "seccomp"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def run_without_openat2(*arguments: str | Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPENAT2, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.parametrize("module", ["test_tar_names.py", "test_whiteouts.py", "test_races.py"])
def test_UNP_03_all_holds_without_openat2(module: str, request: pytest.FixtureRequest) -> None:
    """Old kernels, and sandboxes that do not know the call."""
    if not is_openat2_there():
        pytest.skip("this is the run without it")

    # Walking a thousand directories deep a thousand times is slow.
    run_without_openat2(HERE / module, "-m", "not soak", "-k", "not deep")


def test_the_filter_takes_openat2_away() -> None:
    """In the run that it starts, this test finds the call gone and says so by its name."""
    if is_openat2_there():
        name = f"{__file__}::test_the_filter_takes_openat2_away"
        assert "openat2 is gone" in run_without_openat2(name, "-rs")
    else:
        pytest.skip("openat2 is gone")


def is_openat2_there() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(437, -1, b"x", None, 0)
    return ctypes.get_errno() != errno.ENOSYS
