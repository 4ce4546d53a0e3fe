"""An ordinary user, in a process of its own: the tests run as root."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.client.unpack.archives import archive, directory, file, symlink

USER = 65534
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]

_UNPACK = """
import sys
from pathlib import Path
from tests.client.view.stacks import stacked
stacked(Path(sys.argv[1]), *(open(layer, "rb").read() for layer in sys.argv[2:]))
"""


@contextmanager
def users_place() -> Iterator[Path]:
    """A directory of the user's. A pytest that starts closes all of pytest's to others."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, USER, USER)
        yield Path(name)


def run_as_user(code: str, *arguments: object) -> object:
    """Run Python code as the user; return what it printed as JSON."""
    command = [*AS_USER, sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout) if result.stdout else None


def users_layers(place: Path) -> None:
    """Unpack two layers as the user: place/layer-0 and, above it, layer-1."""
    archives = [
        archive(
            directory("./", uid=3),
            file("gone"),
            file("d/f", uid=1000, gid=5),
            file("closed", b"secret", mode=0, uid=7),
        ),
        archive(
            file(".wh.gone"),
            directory("d", uid=9, mode=0o750),
            file("d/.wh..wh..opq"),
            file("d/g", b"2", mode=0o4755, gid=8),
            symlink("s", "d", uid=4),
            file("shut/inner", b"3"),
            directory("shut", mode=0),
        ),
    ]
    paths = []
    for number, data in enumerate(archives):
        paths.append(place / f"{number}.tar")
        paths[-1].write_bytes(data)
    run_as_user(_UNPACK, place, *paths)
