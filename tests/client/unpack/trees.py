"""Directories as text that two programs' work can be compared by."""

import hashlib
import os
import stat
from pathlib import Path

_OVERLAY = ("trusted.overlay.", "user.overlay.")


def listing(root: Path, *, without: frozenset[str] = frozenset()) -> dict[bytes, dict[str, object]]:
    """Describe every entry below and including `root`, by its path; `without` names facts to leave out."""
    top = os.fsencode(root)
    paths = [b"."]
    for directory, directories, files in os.walk(top):
        here = os.path.relpath(directory, top)
        paths += [os.path.normpath(os.path.join(here, name)) for name in directories + files]
    first: dict[tuple[int, int], bytes] = {}
    found = {}
    for path in sorted(paths):
        facts = _facts(os.path.join(top, path), path, first)
        found[path] = {key: value for key, value in facts.items() if key not in without}
    return found


def _facts(full: bytes, path: bytes, first: dict[tuple[int, int], bytes]) -> dict[str, object]:
    status = os.lstat(full)
    facts: dict[str, object] = {
        "mode": oct(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "mtime": status.st_mtime_ns,
        "xattrs": {
            name: os.getxattr(full, name, follow_symlinks=False)
            for name in os.listxattr(full, follow_symlinks=False)
            if not name.startswith(_OVERLAY)
        },
    }
    if stat.S_ISREG(status.st_mode):
        facts["size"] = status.st_size
        facts["data"] = _hash(full)
    if stat.S_ISLNK(status.st_mode):
        facts["target"] = os.readlink(full)
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        facts["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
        facts["linked to"] = first.setdefault((status.st_dev, status.st_ino), path)
    return facts


def _hash(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
