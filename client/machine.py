"""What this machine offers to the store and to those who run images: found out by trying it."""

import ctypes
import os
import platform
import pwd
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from client import mounts, system_calls
from client.mounts import MountOptions
from client.store.directory import file_system
from client.unpack import paths
from storage.oci.errors import RegistryError

RUNTIMES = ("runc", "crun", "youki", "runsc", "kata-runtime")

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
# Enough for the ids of nearly every image.
_USUAL_RANGE = 65536


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact; `is_problem` when the store cannot work with it."""

    name: str
    result: str
    is_problem: bool = False


def examine(store: Path) -> Iterator[Finding]:
    """Look at a store's place, the kernel, and the programs around."""
    if sys.platform != "linux":
        yield Finding("store", "needs Linux; what only talks to registries works here too", True)
        return
    yield _store(store)
    yield Finding("free space", _free(_existing(store)))
    yield Finding("kernel", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Finding("openat2", _openat2())
    yield Finding("overlay", _in_child(lambda: _overlay(in_user_namespace=False)))
    yield Finding("overlay, rootless", _in_child(lambda: _overlay(in_user_namespace=True)))
    yield from _id_ranges()
    yield Finding(
        "runtimes", ", ".join(filter(None, map(shutil.which, RUNTIMES))) or "none of them is installed"
    )


def _store(store: Path) -> Finding:
    place = _existing(store)
    kind = file_system(place) or "an unknown file system"
    what = f"{store}, on {kind}"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding("store", f"{what}: {place} cannot be written; choose another with --store", True)
    if place != store:
        return Finding("store", f"{what}, not made yet")
    if place.stat().st_uid != os.geteuid():
        return Finding("store", f"{what}: it belongs to another user; choose another with --store", True)
    return Finding("store", what)


def _existing(path: Path) -> Path:
    """Return the path, or what there is of it."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _free(place: Path) -> str:
    status = os.statvfs(place)
    gib = 1024**3
    free, total = status.f_bavail * status.f_frsize / gib, status.f_blocks * status.f_frsize / gib
    return f"{free:.1f} of {total:.1f} GiB, {status.f_favail} of {status.f_files} inodes"


def _openat2() -> str:
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.close(paths.openat2(root, b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError as error:
        return f"refused ({error.strerror}): paths are walked name by name instead"
    finally:
        os.close(root)
    return "works"


def _overlay(*, in_user_namespace: bool) -> str:
    """Mount two layers, in namespaces that end with this process."""
    try:
        _unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if in_user_namespace else 0))
    except OSError as error:
        what = "user namespaces are" if in_user_namespace else "mounting is"
        return f"{what} refused: {error.strerror}"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        layers, target = [directory / "upper", directory / "lower"], directory / "target"
        for each in (*layers, target):
            each.mkdir()
        try:
            mounts.mount(layers, target, options=MountOptions(user_attributes=in_user_namespace))
        except RegistryError as error:
            return error.message
        mounts.unmount(target)
    return "works, with userxattr" if in_user_namespace else "works"


def _unshare(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    if not flags & _CLONE_NEWUSER:
        # What is mounted here must not show up in the namespace that this one is a copy of.
        system_calls.mount("none", "/", "", _MS_REC | _MS_PRIVATE, "")
    else:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _in_child(work: Callable[[], str]) -> str:
    """Do something in a process of its own, and return what it says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    return said


def _id_ranges() -> Iterator[Finding]:
    """Say which ids an ordinary user may give to files of an image."""
    if os.geteuid() == 0:
        yield Finding("user ids", "all of them, as root")
        return
    name = _user_name()
    for what, file, program in (
        ("user ids", "/etc/subuid", "newuidmap"),
        ("group ids", "/etc/subgid", "newgidmap"),
    ):
        count = _subordinate(Path(file), name)
        if count < _USUAL_RANGE:
            yield Finding(what, f"{count} for {name} in {file}: `usermod --add-sub{what[0]}ids` adds some")
        elif shutil.which(program) is None:
            yield Finding(what, f"{count} for {name} in {file}, but {program} is not installed")
        else:
            yield Finding(what, f"{count} for {name} in {file}")


def _user_name() -> str:
    """Return the user's name, or the number where there is none, as in containers."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _subordinate(file: Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    fields = (line.split(":") for line in lines)
    owners = (name, str(os.geteuid()))
    return sum(int(each[2]) for each in fields if len(each) == 3 and each[0] in owners and each[2].isdigit())
