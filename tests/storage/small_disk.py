"""A disk that is small enough to fill."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Mount a tmpfs of its own; what stays of it after a killed test is outside of pytest's directories."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip(f"LEFT OUT: only root may mount a tmpfs of {megabytes} MiB")
    path = Path(tempfile.mkdtemp(prefix="cargohold-small-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path], capture_output=True, text=True
    )
    if mounted.returncode:
        path.rmdir()
        pytest.skip(f"LEFT OUT: no tmpfs may be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
        path.rmdir()


def grow(path: Path, megabytes: int) -> None:
    """Give a small disk more room."""
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", path], check=True)
