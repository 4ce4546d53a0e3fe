"""Layers made by unpack from archives, what a View tells of them, and what the kernel's overlay tells."""

import hashlib
import io
import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from client.unpack.layer import unpack_layer
from client.unpack.lowers import inherit_directories
from client.unpack.options import Options
from client.unpack.stats import LayerStats
from client.view.view import View

Tree = dict[bytes, dict[str, object]]
_OVERLAY = ("trusted.overlay.", "user.overlay.")


def stacked(place: Path, *archives: bytes) -> list[Path]:
    """Unpack archives, lowest first, as the store does; return their directories, uppermost first."""
    stack: list[Path] = []
    for data in archives:
        add(place, stack, data)
    return stack


def add(place: Path, stack: list[Path], data: bytes) -> LayerStats:
    target = place / f"layer-{len(stack)}"
    target.mkdir()
    options = Options(lowers=tuple(stack), devices=os.geteuid() == 0)
    stats = unpack_layer(io.BytesIO(data), target, diff_id=None, options=options)
    inherit_directories(target, stack, stats.implied)
    stack.insert(0, target)
    return stats


@contextmanager
def kernel_overlay(stack: Sequence[Path], where: Path) -> Iterator[Path]:
    """Mount layers, uppermost first, with the mount program."""
    where.mkdir()
    empty = where.with_name(where.name + "-empty")
    empty.mkdir()
    lowers = ":".join(str(layer) for layer in [*stack, empty])
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={lowers}", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def seen(view: View) -> Tree:
    first: dict[object, bytes] = {}
    found: Tree = {}
    for entry in [view.root(), *view.walk()]:
        facts: dict[str, object] = {
            "mode": oct(entry.mode),
            "owner": (entry.uid, entry.gid),
            "mtime": entry.mtime,
            "target": entry.target,
            "device": entry.device,
            "xattrs": view.xattrs(entry),
        }
        if entry.is_file:
            with view.open(entry) as file:
                facts["data"] = hashlib.file_digest(file, "sha256").hexdigest()
            facts["size"] = entry.size
        if not entry.is_directory:
            facts["links"] = entry.links
            facts["linked to"] = first.setdefault(entry.inodes, entry.path)
        found[entry.path] = facts
    return found


def mounted(root: Path) -> Tree:
    """Describe a mounted tree in the same words, in the same order."""
    first: dict[object, bytes] = {}
    found: Tree = {}
    todo = [b""]
    top = os.fsencode(root)
    while todo:
        path = todo.pop()
        full = os.path.join(top, path)
        try:
            status = os.lstat(full)
        except FileNotFoundError:
            # A directory that only one layer has is listed with its whiteouts by some kernels.
            continue
        found[path] = _facts(full, path, status, first)
        if stat.S_ISDIR(status.st_mode):
            todo.extend(os.path.join(path, name) for name in sorted(os.listdir(full), reverse=True))
    return found


def _facts(full: bytes, path: bytes, status: os.stat_result, first: dict[object, bytes]) -> dict[str, object]:
    mode = status.st_mode
    facts: dict[str, object] = {
        "mode": oct(mode),
        "owner": (status.st_uid, status.st_gid),
        "mtime": status.st_mtime_ns,
        "target": os.readlink(full) if stat.S_ISLNK(mode) else None,
        "device": status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0,
        "xattrs": {
            name: os.getxattr(full, name, follow_symlinks=False)
            for name in sorted(os.listxattr(full, follow_symlinks=False))
            if not name.startswith(_OVERLAY)
        },
    }
    if stat.S_ISREG(mode):
        with open(full, "rb") as file:
            facts["data"] = hashlib.file_digest(file, "sha256").hexdigest()
        facts["size"] = status.st_size
    if not stat.S_ISDIR(mode):
        facts["links"] = status.st_nlink
        facts["linked to"] = first.setdefault((status.st_dev, status.st_ino), path)
    return facts
