"""Images as directories: read-only or writable, by root and by an ordinary user."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.errors import DiskFailed
from client.mounts import Changes, MountOptions, MountRefused, is_mounted, mount, unmount
from client.view.view import View
from tests.client.unpack.archives import archive, entry, file
from tests.client.unpack.overlays import needs_root
from tests.client.unpack.test_golden import LAYERS
from tests.client.view.stacks import mounted, seen, stacked
from tests.client.view.users import run_as_user, users_layers, users_place

pytestmark = needs_root


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a target"
    path.mkdir()
    yield path
    while is_mounted(path):
        subprocess.run(["umount", "--lazy", path], check=True)


def options_of(path: Path) -> list[str]:
    command = ["findmnt", "--noheadings", "--output", "VFS-OPTIONS", str(path)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return result.stdout.strip().split(",")


@pytest.mark.parametrize("name", LAYERS)
def test_mounts_what_a_view_shows(tmp_path: Path, target: Path, name: str) -> None:
    stack = stacked(tmp_path, *(archive(*entries) for entries in LAYERS[name]))

    mount(stack, target)

    with View(stack) as view:
        assert mounted(target) == seen(view)
    assert is_mounted(target)
    unmount(target)
    assert not is_mounted(target)
    assert os.listdir(target) == []


def test_is_read_only_and_without_powers_by_default(tmp_path: Path, target: Path) -> None:
    mount(stacked(tmp_path, archive(file("f")), archive(file("g"))), target)

    assert {"ro", "nosuid", "nodev"} <= set(options_of(target))
    with pytest.raises(OSError, match="Read-only file system"):
        (target / "f").write_text("x")


def test_gives_the_powers_it_is_asked_for(tmp_path: Path, target: Path) -> None:
    null = entry("null", kind="character", device=(1, 3), mode=0o666)
    stack = stacked(tmp_path, archive(null), archive(file("g")))

    mount(stack, target, options=MountOptions(set_id=True, devices=True, execution=False))

    assert {"ro", "noexec"} <= set(options_of(target))
    assert not {"nosuid", "nodev"} & set(options_of(target))
    assert (target / "null").read_bytes() == b""


def test_opens_no_device_by_default(tmp_path: Path, target: Path) -> None:
    null = entry("null", kind="character", device=(1, 3), mode=0o666)
    mount(stacked(tmp_path, archive(null), archive(file("g"))), target)

    with pytest.raises(PermissionError):
        (target / "null").read_bytes()


def test_mounts_a_single_layer(tmp_path: Path, target: Path) -> None:
    stack = stacked(tmp_path, archive(file("f", b"1"), file(".wh.nothing"), file("d/g")))

    mount(stack, target)

    assert sorted(os.listdir(target)) == ["d", "f"]
    assert "ro" in options_of(target)


def test_mounts_nothing_below_an_opaque_root(tmp_path: Path, target: Path) -> None:
    lower, opaque, upper = archive(file("old")), archive(file(".wh..wh..opq"), file("f")), archive(file("g"))
    stack = stacked(tmp_path, lower, opaque, upper)

    mount(stack, target)
    assert sorted(os.listdir(target)) == ["f", "g"]
    unmount(target)

    mount(stack[1:], target)
    assert os.listdir(target) == ["f"]


def many(place: Path, count: int) -> list[Path]:
    """Layers under paths so long that forty would fill a page."""
    long = place / ("x" * 100)
    long.mkdir()
    return stacked(
        long, *(archive(file(f"f{number}"), file("top", b"%d" % number)) for number in range(count))
    )


def test_mounts_more_layers_than_a_page_holds(tmp_path: Path, target: Path) -> None:
    mount(many(tmp_path, 120), target)

    assert len(os.listdir(target)) == 121
    assert (target / "top").read_text() == "119"


# A filter makes the kernel forget fsopen, as one before 5.2, or the key lowerdir+, as one before 6.7 would by
# EINVAL. Source: seccomp(2); bpf instructions of linux/bpf_common.h.
OLD_KERNEL = """
import ctypes, os, struct, sys
from pathlib import Path
from client.mounts import Changes, is_mounted, mount, unmount

FSOPEN, FSCONFIG, ENOSYS, EINVAL = 430, 431, 38, 22
call, error = {"no-fsopen": (FSOPEN, ENOSYS), "no-lowerdir+": (FSCONFIG, EINVAL)}[sys.argv[1]]
program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in [
        (0x20, 0, 0, 0),
        (0x15, 0, 1, call),
        (0x06, 0, 0, 0x00050000 | error),
        (0x06, 0, 0, 0x7FFF0000),
    ]
)
filter_ = ctypes.create_string_buffer(program, len(program))
head = struct.pack("HxxxxxxP", 4, ctypes.addressof(filter_))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, head, 0, 0) == 0

place, target, stack = Path(sys.argv[2]), Path(sys.argv[3]), [Path(layer) for layer in sys.argv[4:]]
here, descriptors = os.getcwd(), os.listdir("/proc/self/fd")
mount(stack, target)
assert os.getcwd() == here
assert os.statvfs(target).f_flag & 7 == os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV
print(len(os.listdir(target)), (target / "top").read_text())
unmount(target)
assert not is_mounted(target)

mount(stack, target, changes=Changes(place / "upper", place / "work"))
(target / "top").write_text("changed")
unmount(target)
print((place / "upper/top").read_text())
assert os.listdir("/proc/self/fd") == descriptors
"""


@pytest.mark.parametrize("lack", ["no-fsopen", "no-lowerdir+"])
def test_mounts_as_many_on_an_old_kernel(tmp_path: Path, target: Path, lack: str) -> None:
    stack = many(tmp_path, 120)
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()

    command: list[str | Path] = [sys.executable, "-c", OLD_KERNEL, lack, tmp_path, target, *stack]
    result = subprocess.run(command, check=False, capture_output=True, text=True)

    assert (result.stderr, result.stdout) == ("", "121 119\nchanged\n")


def test_keeps_changes_as_a_layer(tmp_path: Path, target: Path) -> None:
    stack = stacked(tmp_path, archive(file("d/f", b"1"), file("g")))
    changes = Changes(tmp_path / "upper", tmp_path / "work")
    changes.upper.mkdir()
    changes.work.mkdir()

    mount(stack, target, changes=changes)
    (target / "d/f").write_text("2")
    (target / "g").unlink()
    os.rename(target / "d/f", target / "moved")
    unmount(target)

    with View([changes.upper, *stack]) as view:
        assert [found.path for found in view.walk()] == [b"d", b"moved"]
        with view.open_file(b"moved") as moved:
            assert moved.read() == b"2"
    assert not (stack[0] / "moved").exists()


def test_refuses_a_target_that_is_not_empty(tmp_path: Path, target: Path) -> None:
    (target / "mine").touch()

    with pytest.raises(MountRefused, match="is not empty"):
        mount(stacked(tmp_path, archive(file("f"))), target)
    assert not is_mounted(target)


def test_refuses_to_mount_twice(tmp_path: Path, target: Path) -> None:
    stack = stacked(tmp_path, archive(file("f")))
    mount(stack, target)

    with pytest.raises(MountRefused, match="is not empty"):
        mount(stack, target)


@pytest.mark.parametrize("kind", ["missing", "file", "link"])
def test_refuses_a_target_that_is_no_directory(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.touch()
    elif kind == "link":
        place.symlink_to("/tmp")

    with pytest.raises(MountRefused, match="is no directory to mount at"):
        mount(stacked(tmp_path, archive(file("f"))), place)


def test_says_that_the_kernel_refuses(tmp_path: Path, target: Path) -> None:
    stack = stacked(tmp_path, archive(file("f")))
    (tmp_path / "upper").mkdir()
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as work,
        pytest.raises(MountRefused, match=r"the kernel refuses the mount: Invalid argument; `dmesg`"),
    ):
        # On another file system than `upper`.
        mount(stack, target, changes=Changes(tmp_path / "upper", Path(work)))
    assert not is_mounted(target)


def test_refuses_an_image_without_layers(target: Path) -> None:
    with pytest.raises(MountRefused, match="no layers"):
        mount([], target)


def test_says_which_layer_is_missing(tmp_path: Path, target: Path) -> None:
    with pytest.raises(DiskFailed, match="gone: No such file"):
        mount([tmp_path / "gone"], target)


def test_unmounts_nothing_of_others(target: Path) -> None:
    with pytest.raises(MountRefused, match="nothing is mounted"):
        unmount(target)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", target], check=True)
    with pytest.raises(MountRefused, match="a mount of tmpfs that cargohold did not make"):
        unmount(target)
    assert is_mounted(target)


def test_unmounts_what_is_in_use_lazily(tmp_path: Path, target: Path) -> None:
    mount(stacked(tmp_path, archive(file("f", b"still here")), archive(file("g"))), target)

    with open(target / "f", "rb") as used:
        with pytest.raises(MountRefused, match=r"in use.*--lazy"):
            unmount(target)
        unmount(target, lazy=True)
        assert not is_mounted(target)
        assert used.read() == b"still here"


@pytest.mark.parametrize(
    "name", ["a b", "t\tb", "n\nl", "r\rr", "back\\slash", "\udcff", "é", "\\040", "a,b:c"]
)
def test_finds_mounts_at_odd_names(tmp_path: Path, name: str) -> None:
    stack = stacked(tmp_path, archive(file("f")), archive(file("g")))
    place = tmp_path / name
    place.mkdir()
    (tmp_path / "link").symlink_to(place)

    mount(stack, place)
    try:
        assert is_mounted(place)
        assert is_mounted(tmp_path / "link")
        assert not is_mounted(tmp_path)
    finally:
        unmount(place)
    assert not is_mounted(place)


def test_mounts_layers_with_odd_paths(tmp_path: Path, target: Path) -> None:
    place = tmp_path / "a,b:c\\d e"
    place.mkdir()
    stack = stacked(place, archive(file("f")), archive(file("g")))

    mount(stack, target)

    assert sorted(os.listdir(target)) == ["f", "g"]


def test_leaves_no_descriptor_open(tmp_path: Path, target: Path) -> None:
    stack = stacked(tmp_path, archive(file("f")), archive(file("g")))
    before = os.listdir("/proc/self/fd")
    mount(stack, target)
    unmount(target)
    assert os.listdir("/proc/self/fd") == before


# The interpreter may be where a namespace's root may not start it: the process makes its namespace itself.
USERS = """
import ctypes, json, os, sys
from pathlib import Path
from client.mounts import MountRefused, is_mounted, mount, unmount
from client.unpack.options import Ownership
from client.view.view import View
from tests.client.view.stacks import mounted, seen

place = Path(sys.argv[1])
if sys.argv[2] == "namespace":
    user, group = os.getuid(), os.getgid()
    assert ctypes.CDLL(None).unshare(0x10000000 | 0x20000) == 0
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
stack = sorted(place.glob("layer-*"), reverse=True)
target = place / "target"
target.mkdir(exist_ok=True)
try:
    mount(stack, target)
except MountRefused as error:
    print(json.dumps(str(error)))
    sys.exit()
kernel = mounted(target)
unmount(target)
assert not is_mounted(target)
with View(stack, Ownership.RECORDED) as view:
    ours = seen(view)
owners = {os.fsdecode(path): facts.pop("owner") for path, facts in ours.items()}
for facts in kernel.values():
    assert facts.pop("owner") == (0, 0)
    facts["xattrs"].pop("user.containers.override_stat", None)
assert kernel == ours, (kernel, ours)
print(json.dumps(owners))
"""


def test_UNP_14_mounts_a_users_layers_in_a_namespace_of_the_users_own() -> None:
    """The mount shows all as the user's, a View the owners that unpack recorded; links have none."""
    with users_place() as place:
        users_layers(place)
        owners = run_as_user(USERS, place, "namespace")

    assert owners == {
        "": [3, 0],
        "closed": [7, 0],
        "d": [9, 0],
        "d/g": [0, 8],
        "s": [0, 0],
        "shut": [0, 0],
        "shut/inner": [0, 0],
    }


def test_tells_a_user_without_a_namespace_what_to_do() -> None:
    with users_place() as place:
        users_layers(place)
        assert run_as_user(USERS, place, "compare") == (
            "mounting needs root, or a namespace of your own: run it inside `unshare -Urm`, "
            "or use `cargohold unpack` instead"
        )


def test_root_mounts_a_users_layers_with_the_users_marks(target: Path) -> None:
    with users_place() as place:
        users_layers(place)
        stack = sorted(place.glob("layer-*"), reverse=True)
        mount(stack, target)
        try:
            assert sorted(os.listdir(target)) == ["closed", "d", "s", "shut"]
            assert os.listdir(target / "d") == ["g"]
            assert stat.S_IMODE((target / "d/g").stat().st_mode) == 0o4755
            assert "nosuid" in options_of(target)
        finally:
            unmount(target)
