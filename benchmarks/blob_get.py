"""How fast does a blob leave, and at what CPU cost? One connection, page cache warm."""

from benchmarks.lab import GIB, Lab, cpu, main, rate
from benchmarks.report import Row, at_least, at_most
from benchmarks.servers import Server
from benchmarks.traffic import MIB, REPOSITORY, Payload, connected, put_blob

_SIZE = 256 * MIB
_REPEATS = 8  # CPU time is counted in ticks of 10 ms.


def measure(lab: Lab) -> list[Row]:
    """Compare with docker-registry."""
    ours, reference = lab.ours(workers=2), lab.reference()
    payload = Payload(_SIZE)
    buffer = memoryview(bytearray(MIB))

    def get(server: Server, repeats: int = _REPEATS) -> None:
        with connected(server.port) as connection:
            for _ in range(repeats):
                connection.send("GET", f"/v2/{REPOSITORY}/blobs/{payload.digest}", {})
                if connection.receive_into(buffer) != _SIZE:
                    raise SystemExit(f"error: {server.name} sent another size")

    for server in (ours, reference):
        put_blob(server.port, payload)
        get(server, 1)
    samples = lab.compare((ours, reference), get)
    gib = _SIZE * _REPEATS / GIB
    gigabytes = _SIZE * _REPEATS / 1e9
    return [
        Row(
            "blob GET, GB/s",
            rate(samples[ours], gigabytes), rate(samples[reference], gigabytes), reference.name, at_least(1),
        ),
        Row(
            "blob GET, CPU-s/GiB",
            cpu(samples[ours], gib), cpu(samples[reference], gib), reference.name, at_most(0.7),
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main(measure)
