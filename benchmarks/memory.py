"""How much memory does a worker hold after uploads, downloads and manifests, above a bare interpreter?"""

import os
import subprocess
import sys

from benchmarks import blob_get, blob_put, manifest_get
from benchmarks.lab import Lab, main
from benchmarks.report import Row, at_most
from benchmarks.servers import resident_bytes

_LIMIT_MB = 60
_IMPORTS = "import registry.app, registry.cli, registry.server"


def measure(lab: Lab) -> list[Row]:
    """Look at the workers that the questions before have loaded."""
    interpreter = _interpreter_bytes()
    rows = []
    for workers in (1, 2):
        server = lab.ours(workers=workers)
        largest = max(resident_bytes(pid) for pid in server.worker_pids())
        name = f"worker RSS above its imports ({interpreter / 1e6:.0f} MB), {server.name}, MB"
        rows.append(Row(name, (largest - interpreter) / 1e6, _LIMIT_MB, "limit", at_most(1)))
    return rows


def _interpreter_bytes() -> int:
    """Measure an interpreter that has imported what a worker imports, and done nothing else."""
    program = f"{_IMPORTS}; print(open('/proc/self/statm').read().split()[1])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(done.stdout) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(manifest_get.measure, blob_get.measure, blob_put.measure_put, blob_put.measure_patch, measure)
