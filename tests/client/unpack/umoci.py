"""The reference: what umoci makes of the same layers."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

needed = pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed")


def unpack(place: Path, layers: Sequence[bytes]) -> Path | None:
    """Unpack the layers, lowest first, below `place`; return the tree, None where umoci refuses them."""
    image = f"{place / 'image'}:x"
    _run("init", "--layout", str(place / "image"))
    _run("new", "--image", image)
    for layer in layers:
        path = place / "layer.tar"
        path.write_bytes(layer)
        if not _run("raw", "add-layer", "--image", image, str(path)):
            return None
    done = _run("unpack", "--image", image, str(place / "bundle"))
    return place / "bundle/rootfs" if done else None


def _run(*arguments: str) -> bool:
    return subprocess.run(["umoci", *arguments], check=False, capture_output=True).returncode == 0
