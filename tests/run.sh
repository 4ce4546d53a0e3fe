#!/bin/sh
# Run all tests but the soaks, in two halves side by side: each waits much for processes and disks.
#
# The first half's output comes when both are done. Fails when either does.
set -u
cd "$(dirname "$0")/.."
mkdir -p .cache

first=.cache/first-half.txt
.venv/bin/coverage run -m pytest -m "not soak" tests/e2e tests/faults tests/registry >"$first" 2>&1 &
half=$!
trap 'kill "$half" 2>/dev/null' INT TERM
.venv/bin/coverage run -m pytest -m "not soak" --ignore tests/e2e --ignore tests/faults --ignore tests/registry
code=$?
wait "$half" || code=$?
cat "$first"
exit "$code"
