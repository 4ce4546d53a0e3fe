"""What needs no store works without Linux: nothing of it is called, or even looked up, on the way."""

import subprocess
import sys
from pathlib import Path

from tests.client.store.layouts import BASE, TOP, Layout

# What CPython has on Linux alone, or in other words there, and the packages that are only installed there.
_ELSEWHERE = """
import os, sys
for name in [*dir(os)]:
    if name in LINUX:
        delattr(os, name)
for name in ("isal", "pysqlite3", "uvloop"):
    sys.modules[name] = None
sys.platform = "freebsd14"  # macOS would ask for modules that only it has
from registry.cli import main
main(sys.argv[1:])
"""
_LINUX = (
    {"O_PATH", "O_TMPFILE", "O_DIRECT", "O_NOATIME", "listxattr", "getxattr", "setxattr", "removexattr"}
    | {"sched_getaffinity", "unshare", "setns", "eventfd", "memfd_create", "copy_file_range", "splice"}
    | {"posix_fallocate", "getrandom", "MFD_CLOEXEC"}
)


def elsewhere(*arguments: object) -> str:
    program = _ELSEWHERE.replace("LINUX", repr(_LINUX))
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_images_are_copied_and_inspected(our_registry: str, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    made = layout.tag(layout.image(BASE, TOP))
    target = f"{our_registry}/elsewhere/app:1"

    assert elsewhere("copy", "-q", f"oci:{layout.root}:latest", target) == f"{made.digest}\n"
    assert elsewhere("inspect", "--remote", "--format", "{{.Os}}", target) == "linux\n"
    back = tmp_path / "back.tar"
    assert elsewhere("copy", "-q", target, f"docker-archive:{back}:app:1") == f"{made.digest}\n"


def test_help_of_every_verb_needs_no_linux() -> None:
    assert "pull" in elsewhere("--help")
    for verb in ("pull", "copy", "unpack", "mount", "images", "login"):
        assert f"cargohold {verb}" in elsewhere(verb, "--help").replace("-c ", "cargohold ")
