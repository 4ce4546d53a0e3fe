"""How many manifests a second, and at what CPU cost each? wrk with 16 connections, by tag."""

import re
import subprocess
from dataclasses import dataclass

from benchmarks.lab import Lab, main, measured
from benchmarks.report import Row, Target, at_least, at_most, median
from benchmarks.servers import Server, program
from benchmarks.traffic import MANIFEST_TYPE, MIB, REPOSITORY, Payload, put_blob, put_manifest

_SECONDS = 2
_CPU_TARGET = at_most(0.10)
_RATE_TARGET = at_least(8)


@dataclass(frozen=True, slots=True)
class _Round:
    requests_a_second: float
    cpu_microseconds: float


def measure(lab: Lab) -> list[Row]:
    """Compare one and two workers with docker-registry."""
    one, two, reference = lab.ours(workers=1), lab.ours(workers=2), lab.reference()
    contestants = (one, two, reference)
    layer = Payload(MIB)
    for server in contestants:
        put_blob(server.port, layer)
        put_manifest(server.port, layer, tag="v1")
        load(server, 1)  # Both warm their caches, and the interpreter its specialised byte code.
    rounds: dict[Server, list[_Round]] = {server: [] for server in contestants}
    for _ in range(lab.rounds):
        for server in contestants:
            rounds[server].append(_round(server))
    return [
        *_rows("1 worker", rounds[one], rounds[reference], None),
        *_rows("2 workers", rounds[two], rounds[reference], _RATE_TARGET),
    ]


def _rows(name: str, ours: list[_Round], reference: list[_Round], target: Target | None) -> list[Row]:
    rates, reference_rates = ([each.requests_a_second for each in rounds] for rounds in (ours, reference))
    costs, reference_costs = ([each.cpu_microseconds for each in rounds] for rounds in (ours, reference))
    return [
        Row(
            f"manifest GET, {name}, CPU us/request",
            median(costs), median(reference_costs), "docker-registry", _CPU_TARGET,
        ),
        Row(
            f"manifest GET, {name}, req/s",
            median(rates), median(reference_rates), "docker-registry", target,
        ),
    ]  # fmt: skip


def _round(server: Server) -> _Round:
    requests = 0

    def action(server: Server) -> None:
        nonlocal requests
        requests = load(server, _SECONDS)

    sample = measured(server, action)
    return _Round(requests / _SECONDS, sample.cpu_seconds / requests * 1e6)


def load(server: Server, seconds: int, *headers: str) -> int:
    """Load a server with wrk and return the number of its requests, all of them answered 200."""
    url = f"http://127.0.0.1:{server.port}/v2/{REPOSITORY}/manifests/v1"
    more = [option for header in headers for option in ("-H", header)]
    command = [program("wrk"), "-t1", "-c16", f"-d{seconds}s", "-H", f"Accept: {MANIFEST_TYPE}", *more, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    requests = re.search(r"(\d+) requests in", output)
    if requests is None or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"error: {server.name}: {output}")
    return int(requests[1])


if __name__ == "__main__":
    main(measure)
