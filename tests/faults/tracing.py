"""A tracer on a running server: faults at its nth system call, or a record of them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_tracer = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("strace") is None, reason="LEFT OUT: needs root and strace"
)


@contextmanager
def traced(pid: int, trace: Path, *options: str) -> Iterator[None]:
    """Trace a process and its threads into a file."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-y", "-s", "0", "-o", trace, "-p", str(pid), *options])
    try:
        # There is no event for "attached"; the kernel says it here.
        while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():
            assert tracer.poll() is None
            os.sched_yield()
        yield
    finally:
        tracer.terminate()
        try:
            # It does not always notice the end of a process that it has killed itself.
            tracer.wait(0.2 if _is_dead(pid) else 10)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()


def _is_dead(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def at_call(calls: str, nth: int, fault: str) -> tuple[str, ...]:
    """Return the options for a fault at the nth of these calls in each thread: error=EIO, signal=KILL."""
    return ("-e", f"trace={calls}", "-e", f"inject={calls}:{fault}:when={nth}")
