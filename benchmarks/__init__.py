"""One program a question; each prints ratios measured in one run on one machine.

`python -m benchmarks` asks all of them. `python -m benchmarks.blob_get` asks one.
"""
