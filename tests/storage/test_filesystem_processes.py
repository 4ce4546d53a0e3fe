"""The filesystem store in processes of their own: traced, killed, on a full disk."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from storage.blobs import Appended, Location, UploadId
from storage.filesystem import FilesystemBlobs
from storage.oci.digest import Digest
from storage.oci.errors import BlobUploadUnknown, RangeInvalid
from tests.storage.push_program import BLOCK
from tests.storage.pushing import append, commit, content

PROJECT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "tests.storage.push_program"]
# Nothing but the program's own calls: no byte code is written, and no measurement of coverage.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")} | {
    "PYTHONDONTWRITEBYTECODE": "1"
}


def _traces(arguments: list[str]) -> bool:
    strace = shutil.which("strace")
    if strace is None:
        return False
    return subprocess.run([strace, *arguments, "true"], capture_output=True, check=False).returncode == 0


needs_strace = pytest.mark.skipif(
    not _traces(["-o", "/dev/null"]), reason="strace is not installed, or may not trace here"
)
needs_namespace = pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="no user namespace to mount a tmpfs in",
)


@needs_strace
def test_test_02_makes_system_calls_in_the_order_that_survives(tmp_path: Path) -> None:
    """What SimFS believes of the real thing."""
    trace = tmp_path / "trace"
    root = tmp_path / "store"
    calls = "pwrite64,ftruncate,fsync,fdatasync,mkdir,mkdirat,rename,renameat,renameat2"

    subprocess.run(
        ["strace", "-f", "-y", "-o", trace, "-e", f"trace={calls}", *PROGRAM, root, "chunked"],
        cwd=PROJECT,
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )

    digest = Digest.of(BLOCK * 2).hex
    upload, fan_out = "uploads/UPLOAD", f"blobs/sha256/{digest[:2]}"
    assert _calls(trace.read_text(), root) == [
        "mkdir .",
        "fsync ..",
        "mkdir uploads",
        "fsync .",
        f"pwrite64 {upload}",
        f"fsync {upload}",
        "fsync uploads",
        f"pwrite64 {upload}",
        f"fsync {upload}",
        f"fsync {upload}",
        "mkdir blobs",
        "fsync .",
        "mkdir blobs/sha256",
        "fsync blobs",
        f"mkdir {fan_out}",
        "fsync blobs/sha256",
        f"rename {upload}",
        f"fsync {fan_out}",
    ]


def _calls(trace: str, root: Path) -> list[str]:
    """Read `<pid> call(<fd><path>` and `<pid> call("path"` of what is in or around the root."""
    found = []
    for call, by_number, by_name in re.findall(r'^\d+ +(\w+)\((?:\d+<([^>]*)>|"([^"]*)")', trace, re.M):
        path = os.path.relpath(by_number or by_name, root)
        if not path.startswith("../.."):
            name = re.sub(r"uploads/[0-9a-f]{32}\.sha256", "uploads/UPLOAD", path)
            found.append(f"{call.removesuffix('at').removesuffix('at2')} {name}")
    return found


@needs_strace
@pytest.mark.parametrize(
    ("call", "times"), [("flock", 3), ("pwrite64", 2), ("fsync", 8), ("mkdir", 5), ("rename", 1)]
)
def test_crash_01_keeps_its_answers_when_killed_at_any_call(tmp_path: Path, call: str, times: int) -> None:
    for nth in range(1, 20):
        root = tmp_path / str(nth)
        inject = f"inject={call}:signal=KILL:when={nth}"
        run = subprocess.run(
            [
                "strace",
                "-f",
                "-o",
                "/dev/null",
                "-e",
                f"trace={call}",
                "-e",
                inject,
                *PROGRAM,
                root,
                "chunked",
            ],
            cwd=PROJECT,
            env=ENVIRONMENT,
            check=False,
            capture_output=True,
            text=True,
        )
        _check_answers(FilesystemBlobs(root), run.stdout)
        if run.returncode == 0:
            assert nth > times
            return
        assert run.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), run.stderr
    pytest.fail("never ran to its end")


def _check_answers(store: FilesystemBlobs, answers: str) -> None:
    lines = [line.split() for line in answers.splitlines()]
    for location in [Location(line[1]) for line in lines if line[0] == "committed"]:
        assert content(store, location) == BLOCK * 2
    for location in store.locations():
        assert Digest.of(content(store, location)).hex in location
    appended = [line for line in lines if line[0] == "appended"]
    if appended and lines[-1] == appended[-1]:
        _go_on(store, UploadId(appended[-1][1]), int(appended[-1][2]))
    for upload in list(store.uploads()):
        store.abort(upload)


def _go_on(store: FilesystemBlobs, upload: UploadId, offset: int) -> None:
    """Do what the client does next: the rest, then PUT; 404 only where it may have been committed."""
    try:
        row = append(store, upload, offset, (BLOCK * 2)[offset:])
    except BlobUploadUnknown:
        assert offset == len(BLOCK) * 2
        assert list(store.locations())
    else:
        digest = Digest.of(BLOCK * 2)
        assert content(store, commit(store, upload, digest, Appended(row.offset, None))) == BLOCK * 2


def test_r12_frees_the_claim_of_a_killed_process(tmp_path: Path) -> None:
    store = FilesystemBlobs(tmp_path)
    upload = store.begin()
    with subprocess.Popen(
        [*PROGRAM, tmp_path, "hold", upload],
        cwd=PROJECT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"claimed\n"
        with pytest.raises(RangeInvalid), store.claim(upload):
            pytest.fail("claimed what another process holds")

        holder.kill()
        holder.wait()

    with store.claim(upload), closing(store.append(upload, 0)) as writer:
        writer.write(b"x")


@needs_namespace
def test_crash_20_loses_nothing_on_a_full_disk(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@" "$0" fill'
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, tmp_path, *PROGRAM],
        cwd=PROJECT,
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stderr
    refused, locations, uploads = map(int, run.stdout.split())
    assert 8 <= refused <= 10  # eight blocks do not fit into less, and the names need room as well
    assert (locations, uploads) == (1, 0)
