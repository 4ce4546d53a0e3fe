"""Layers as the kernel shows them, stacked."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, chowns and makes devices: needs root")


@contextmanager
def mounted(layers: Sequence[Path], where: Path, options: str = "ro") -> Iterator[Path]:
    """Show the layers, lowest first, as one tree."""
    where.mkdir()
    empty = where.with_name(where.name + "-empty")
    empty.mkdir()
    stack = ":".join(str(layer) for layer in [*reversed(layers), empty])
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", f"{options},lowerdir={stack}", where], check=True
    )
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
