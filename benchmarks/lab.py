"""The running servers of one benchmark run, and alternating measurements of them."""

import argparse
import contextlib
import datetime
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import servers
from benchmarks.report import Row, median, print_table
from benchmarks.servers import Server

GIB = 1 << 30
_BLOCK = 1 << 20
_DATA = Path(__file__).parents[1] / ".cache/benchmarks"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one action took: time on the clock, and CPU time of the server."""

    seconds: float
    cpu_seconds: float


@dataclass(slots=True)
class Lab:
    """Servers that start when a question first needs them and end with the run."""

    data: Path
    rounds: int
    _open: contextlib.ExitStack
    _running: dict[str, Server] = field(default_factory=dict)

    def ours(self, *, workers: int) -> Server:
        """Give cargohold with so many workers."""
        data = self.data / f"cargohold{workers}"
        return self._started(f"ours{workers}", lambda: servers.cargohold(data, workers=workers))

    def reference(self) -> Server:
        """Give Debian's docker-registry."""
        return self._started("reference", lambda: servers.docker_registry(self.data / "docker-registry"))

    def compare(
        self,
        contestants: Sequence[Server],
        action: Callable[[Server], None],
        *,
        prepare: Callable[[], None] = lambda: None,
    ) -> dict[Server, list[Sample]]:
        """Do an action on each server in turn, round after round, so that all meet the same machine."""
        samples: dict[Server, list[Sample]] = {server: [] for server in contestants}
        for _ in range(self.rounds):
            for server in contestants:
                os.sync()  # What earlier rounds wrote must not be this one's burden.
                prepare()
                samples[server].append(measured(server, action))
        return samples

    def warm_memory(self, size: int) -> None:
        """Make the page cache hand out memory that the machine really has, for a file of a size.

        A virtual machine may give free memory back to its host, and then touching it again costs 1.2 CPU
        seconds a GiB, more than hashing. Pages of a file just deleted are the next to be handed out; more of
        them than the size, because the server and the client use some for themselves.
        """
        scratch = self.data / "scratch"
        block = bytes(_BLOCK)
        with scratch.open("wb", buffering=0) as file:
            for _ in range(0, size + size // 2, _BLOCK):
                file.write(block)
        scratch.unlink()

    def _started(self, key: str, start: Callable[[], contextlib.AbstractContextManager[Server]]) -> Server:
        if key not in self._running:
            self._running[key] = self._open.enter_context(start())
        return self._running[key]


def measured(server: Server, action: Callable[[Server], None]) -> Sample:
    """Do an action once and see what it took."""
    cpu_before, before = server.cpu_seconds(), time.perf_counter()
    action(server)
    seconds = time.perf_counter() - before
    return Sample(seconds, server.cpu_seconds() - cpu_before)


def rate(samples: Sequence[Sample], amount: float) -> float:
    """Compute the median amount a second."""
    return median(amount / sample.seconds for sample in samples)


def cpu(samples: Sequence[Sample], amount: float) -> float:
    """Compute the median CPU seconds for one of an amount."""
    return median(sample.cpu_seconds / amount for sample in samples)


@contextlib.contextmanager
def opened(data: Path, rounds: int) -> Iterator[Lab]:
    """Open a lab on a directory of its own below `data`, which goes with the lab."""
    data.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=data))
    try:
        with contextlib.ExitStack() as stack:
            yield Lab(directory, rounds, stack)
    finally:
        shutil.rmtree(directory)


def main(*questions: Callable[[Lab], list[Row]]) -> None:
    """Ask questions in one run and print their rows as a table."""
    parser = argparse.ArgumentParser(description="Measure cargohold beside docker-registry.")
    parser.add_argument("--data", type=Path, default=_DATA, help="directory on the disk to measure on")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds; medians are printed")
    options = parser.parse_args()
    with opened(options.data, options.rounds) as lab:
        rows = [row for question in questions for row in question(lab)]
    print(_machine(), end="\n\n")
    print_table(rows)


def _machine() -> str:
    """Name the day and the machine, for a table says little without."""
    models = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = f"{os.cpu_count()} x {models[0] if models else platform.machine()}"
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{datetime.date.today()}, {processor}, {system}"
