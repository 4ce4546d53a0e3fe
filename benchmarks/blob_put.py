"""How fast does a blob arrive, and at what CPU cost? In one PUT, and in one chunked PATCH."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.lab import GIB, Lab, cpu, main, rate
from benchmarks.report import Row, at_least, at_most, median
from benchmarks.servers import Server
from benchmarks.traffic import MIB, Payload, patch_blob, put_blob

_SIZE = 256 * MIB


def measure_put(lab: Lab) -> list[Row]:
    """Upload as containerd does."""
    return _measure(lab, "blob PUT", put_blob, rate_target=4, cpu_target=2.2)


def measure_patch(lab: Lab) -> list[Row]:
    """Upload as docker and podman do."""
    return _measure(lab, "chunked PATCH + PUT", patch_blob, rate_target=3, cpu_target=3)


def _measure(
    lab: Lab, name: str, upload: Callable[[int, Payload], None], *, rate_target: float, cpu_target: float
) -> list[Row]:
    ours, reference = lab.ours(workers=2), lab.reference()
    payload = Payload(_SIZE)
    hashing: list[float] = []
    writing: list[float] = []

    def prepare() -> None:
        payload.renew()
        hashing.append(_hashing_cpu_seconds(payload))
        lab.warm_memory(_SIZE)
        writing.append(_writing_seconds(lab.data / "alone", payload))

    def send(server: Server) -> None:
        upload(server.port, payload)

    for server in (ours, reference):
        send(server)
    samples = lab.compare((ours, reference), send, prepare=prepare)
    megabytes, gib = _SIZE / 1e6, _SIZE / GIB
    our_rate, our_cpu = rate(samples[ours], megabytes), cpu(samples[ours], gib)
    return [
        Row(
            f"{name}, MB/s",
            our_rate, rate(samples[reference], megabytes), reference.name, at_least(rate_target),
        ),
        Row(f"{name}, MB/s", our_rate, megabytes / median(writing), "write + fsync alone", None),
        Row(f"{name}, CPU-s/GiB", our_cpu, cpu(samples[reference], gib), reference.name, None),
        Row(f"{name}, CPU-s/GiB", our_cpu, median(hashing) / gib, "hashlib alone", at_most(cpu_target)),
    ]  # fmt: skip


def _writing_seconds(path: Path, payload: Payload) -> float:
    """Write the payload to a file and wait for the disk: the time that no durable upload can beat."""
    before = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for start in range(0, payload.size, MIB):
            file.write(payload.data[start : start + MIB])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - before
    path.unlink()
    return seconds


def _hashing_cpu_seconds(payload: Payload) -> float:
    """Hash the payload as a server would, in blocks of 1 MiB."""
    before = time.thread_time()
    digest = hashlib.sha256()
    for start in range(0, payload.size, MIB):
        digest.update(payload.data[start : start + MIB])
    return time.thread_time() - before


if __name__ == "__main__":
    main(measure_put, measure_patch)
