"""Ask every question in one run: `python -m benchmarks [--data DIR] [--rounds N]`."""

from benchmarks import access, blob_get, blob_put, client, manifest_get, memory
from benchmarks.lab import main

main(
    manifest_get.measure,
    access.measure,
    blob_get.measure,
    blob_put.measure_put,
    blob_put.measure_patch,
    memory.measure,
    client.measure,
)
