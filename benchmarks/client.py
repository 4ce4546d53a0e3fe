"""What does a client take to pull, unpack and push: time on the clock, user CPU, and memory?

Programs run in turn, round after round, each into stores of its own on one disk. Nothing is deleted between
them: making files on ext4 soon after many were deleted is about ten times slower.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import samples
from benchmarks.lab import Lab, main
from benchmarks.report import Row, at_most, median
from benchmarks.servers import program

_OURS = str(Path(sys.executable).with_name("cargohold"))
_MEMORY_LIMIT = 150e6
# skopeo and podman as root remember in one place which blobs a registry has, and then send nothing.
_FORGETFUL = (
    "unshare", "-m", "--propagation", "slave", "sh", "-c",
    'mount -t tmpfs none /var/lib/containers/cache 2>/dev/null; exec "$@"', "sh",
)  # fmt: skip

Command = Sequence[str]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run of one or more programs took; `peak` is the memory of the largest, in bytes."""

    seconds: float
    user_seconds: float
    peak: float


@dataclass(frozen=True, slots=True)
class Bench:
    """One image at one registry, and a directory for all stores."""

    label: str
    layout: Path
    host: str
    directory: Path
    rounds: int

    @property
    def image(self) -> str:
        return f"{self.host}/bench/{self.label.replace(' ', '-')}:latest"

    def fresh(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.directory))

    def compare(self, *contestants: Callable[[Path], Sequence[Command]]) -> list[list[Cost]]:
        """Run the contestants in turn, each with a fresh directory."""
        costs: list[list[Cost]] = [[] for _ in contestants]
        for _ in range(self.rounds):
            for commands, found in zip(contestants, costs, strict=True):
                os.sync()
                found.append(_run(commands(self.fresh())))
        return costs


def _run(commands: Sequence[Command]) -> Cost:
    before, user, peak = time.perf_counter(), 0.0, 0
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    for command in commands:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        printed = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        if process.returncode:
            raise SystemExit(f"error: {' '.join(command)}: {printed.decode(errors='replace')}")
        user, peak = user + usage.ru_utime, max(peak, usage.ru_maxrss * 1024)
    return Cost(time.perf_counter() - before, user, peak)


def measure(lab: Lab) -> list[Row]:
    """Compare with skopeo, podman and umoci, on many small files and on few large layers."""
    host = f"127.0.0.1:{lab.ours(workers=2).port}"
    rows: list[Row] = []
    for label, layout in (("small files", samples.small_files()), ("large layers", samples.large_layers())):
        directory = Path(tempfile.mkdtemp(dir=lab.data))
        bench = Bench(label, layout, host, directory, lab.rounds)
        _run(
            [
                [
                    program("skopeo"),
                    "copy",
                    "--dest-tls-verify=false",
                    f"oci:{layout}:latest",
                    f"docker://{bench.image}",
                ]
            ]
        )
        rows += [*_fetch(bench), *_whole(bench), *_push(bench)]
        shutil.rmtree(directory)
    return rows


def _pull(bench: Bench, *options: str) -> Callable[[Path], Sequence[Command]]:
    return lambda store: [[_OURS, "--store", f"{store}/store", "pull", "-q", *options, bench.image]]


def _skopeo(bench: Bench) -> Callable[[Path], Sequence[Command]]:
    def commands(store: Path) -> Sequence[Command]:
        source = f"docker://{bench.image}"
        return [
            [*_FORGETFUL, program("skopeo"), "copy", "--src-tls-verify=false", source, f"oci:{store}/l:x"]
        ]

    return commands


def _fetch(bench: Bench) -> list[Row]:
    """Compare the network part."""
    ours, skopeo = bench.compare(_pull(bench, "--no-unpack"), _skopeo(bench))
    name = "skopeo copy"
    return [
        _row(f"fetch {bench.label}, s", ours, skopeo, name, "seconds", 1.0),
        _row(f"fetch {bench.label}, user CPU-s", ours, skopeo, name, "user_seconds"),
    ]


def _whole(bench: Bench) -> list[Row]:
    """Compare pull and unpack together."""

    def podman(store: Path) -> Sequence[Command]:
        run = tempfile.mkdtemp(prefix="hold-")  # podman wants it short
        storage = ["--root", f"{store}/root", "--runroot", run, "--storage-driver", "overlay"]
        return [[*_FORGETFUL, program("podman"), *storage, "pull", "-q", "--tls-verify=false", bench.image]]

    def umoci(store: Path) -> Sequence[Command]:
        unpack = [program("umoci"), "unpack", "--image", f"{store}/l:x", f"{store}/bundle"]
        return [*_skopeo(bench)(store), unpack]

    ours, podmans, umocis = bench.compare(_pull(bench), podman, umoci)
    what = f"pull + unpack {bench.label}"
    limit = [Cost(1, 1, _MEMORY_LIMIT)] * len(ours)
    return [
        _row(f"{what}, s", ours, podmans, "podman pull", "seconds", 0.7),
        _row(f"{what}, user CPU-s", ours, podmans, "podman pull", "user_seconds", 0.5),
        _row(f"{what}, s", ours, umocis, "skopeo + umoci", "seconds", 0.6),
        _row(f"{what}, user CPU-s", ours, umocis, "skopeo + umoci", "user_seconds"),
        _row(f"{what}, peak MB", ours, limit, "limit", "peak", 1.0, scale=1e6),
    ]


def _push(bench: Bench) -> list[Row]:
    """Compare pushes into new repositories."""
    store = bench.fresh() / "store"
    _run(_pull(bench, "--no-unpack")(store.parent))

    def ours(fresh: Path) -> Sequence[Command]:
        target = f"{bench.host}/bench/ours-{fresh.name.lower().replace('_', '-')}:x"
        return [[_OURS, "--store", str(store), "push", "-q", bench.image, target]]

    def skopeo(fresh: Path) -> Sequence[Command]:
        target = f"docker://{bench.host}/bench/skopeo-{fresh.name.lower().replace('_', '-')}:x"
        source = f"oci:{bench.layout}:latest"
        return [[*_FORGETFUL, program("skopeo"), "copy", "--dest-tls-verify=false", source, target]]

    pushed, copied = bench.compare(ours, skopeo)
    return [
        _row(f"push {bench.label}, s", pushed, copied, "skopeo copy", "seconds"),
        _row(f"push {bench.label}, user CPU-s", pushed, copied, "skopeo copy", "user_seconds"),
    ]


def _row(
    measure: str,
    ours: Sequence[Cost],
    theirs: Sequence[Cost],
    name: str,
    field: str,
    limit: float | None = None,
    *,
    scale: float = 1.0,
) -> Row:
    mine, other = (median(getattr(cost, field) for cost in costs) / scale for costs in (ours, theirs))
    return Row(measure, mine, other, name, None if limit is None else at_most(limit))


if __name__ == "__main__":
    main(measure)
