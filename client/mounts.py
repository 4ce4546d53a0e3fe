"""Layers mounted as one tree by the kernel's overlayfs, and taken away again.

The new mount calls are used where the kernel has them: they take any number of layers. mount(2) has one page
of 4 KiB for all options, so there the layers are named by the numbers of their descriptors.
Source: fsopen(2), fsconfig(2), fsmount(2), move_mount(2), mount(2); kernel, overlayfs.rst.
"""

import errno
import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from client import system_calls
from client.errors import DiskFailed
from client.mount_table import Mount, mounts
from client.system_calls import (
    FLAG_NO_DEVICES,
    FLAG_NO_EXECUTION,
    FLAG_NO_SET_ID,
    FLAG_READ_ONLY,
)
from client.unpack.options import LARGEST_ID
from client.view.layers import disk_errors, is_opaque
from storage.oci.errors import RequestInvalid

SOURCE = "cargohold"
"""What our mounts are called in /proc/self/mountinfo."""

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Layers hold no redirects, and none that a writable mount might make should lead anywhere else.
_SAFE = (("redirect_dir", "nofollow"), ("metacopy", "off"))
_PAGE = 4096
# EINVAL: lowerdir+ is newer than fsopen. EPERM: a seccomp filter that knows mount(2) only.
_WITHOUT_NEW_CALLS = (errno.ENOSYS, errno.EINVAL, errno.EPERM)


class MountRefused(RequestInvalid):
    """A mount that the kernel or we refuse; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """Safe for reading an image nobody has looked at: its programs run, with no powers of their own."""

    set_id: bool = False
    """Honour set-user-id bits and file capabilities."""
    devices: bool = False
    """Let device nodes open devices."""
    execution: bool = True
    user_attributes: bool | None = None
    """Read the marks of an ordinary user's layers (user.overlay.*, not trusted.*); None finds out."""

    @property
    def flags(self) -> int:
        return (
            (0 if self.set_id else FLAG_NO_SET_ID)
            | (0 if self.devices else FLAG_NO_DEVICES)
            | (0 if self.execution else FLAG_NO_EXECUTION)
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """Where a writable mount keeps what is written: two directories of one file system.

    `work` is empty and the kernel's own; `upper` becomes a layer in overlay form.
    """

    upper: Path
    work: Path


def mount(
    layers: Sequence[Path],
    target: Path,
    *,
    changes: Changes | None = None,
    options: MountOptions = MountOptions(),
) -> None:
    """Mount layers in overlay form, uppermost first, at the empty directory `target`.

    Read-only without `changes`. Lasts until `unmount`, or the end of the mount namespace it was made in.
    Raises MountRefused, and DiskFailed for a layer that cannot be opened.
    """
    with ExitStack() as opened:
        place = _empty_directory(target, opened)
        stack = _visible(layers, opened)
        if len(stack) == 1 and changes is None:
            # Overlayfs wants two layers to read from. The target is empty, and about to be covered.
            stack.append(place)
        user_attributes = options.user_attributes
        if user_attributes is None:
            user_attributes = not _is_initial_root() or _is_of_a_user(layers[0])
        plan = _Plan(
            tuple(stack),
            () if changes is None else (_open(changes.upper, opened), _open(changes.work, opened)),
            _SAFE + ((("userxattr", None),) if user_attributes else ()),
            options.flags | (FLAG_READ_ONLY if changes is None else 0),
        )
        _perform(plan, place)


@dataclass(frozen=True, slots=True)
class _Directory:
    path: Path
    fd: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to mount: `changes` are none, or upper and work; an option without a value is a flag."""

    layers: tuple[_Directory, ...]
    changes: tuple[_Directory, ...]
    options: tuple[tuple[str, str | None], ...]
    flags: int


def _open(path: Path, opened: ExitStack) -> _Directory:
    try:
        fd = os.open(path, _LIST)
    except OSError as error:
        raise DiskFailed(f"{path}: {error.strerror}") from error
    opened.callback(os.close, fd)
    return _Directory(Path(os.path.abspath(path)), fd)


def _empty_directory(target: Path, opened: ExitStack) -> _Directory:
    try:
        fd = os.open(target, _LIST)
        opened.callback(os.close, fd)
        is_empty = not os.listdir(fd)
    except OSError as error:
        raise MountRefused(f"{target} is no directory to mount at: {error.strerror}") from error
    if not is_empty:
        raise MountRefused(f"{target} is not empty: give an empty directory, or `cargohold umount` it first")
    # By its descriptor: it may be in a directory of somebody who swaps it for another meanwhile.
    return _Directory(Path(f"/proc/self/fd/{fd}"), fd)


def _visible(layers: Sequence[Path], opened: ExitStack) -> list[_Directory]:
    """Open the layers down to one whose root is opaque: overlayfs ignores that mark."""
    if not layers:
        raise MountRefused("the image has no layers, so there is nothing to mount")
    stack = []
    for layer in layers:
        stack.append(_open(layer, opened))
        with disk_errors(b""):
            if is_opaque(stack[-1].fd, b"."):
                break
    return stack


def _is_initial_root() -> bool:
    """Whether trusted.* attributes can be read: by root outside of any user namespace."""
    if os.geteuid() != 0:
        return False
    with suppress(OSError):
        return Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(LARGEST_ID + 1)]
    return True


def _is_of_a_user(layer: Path) -> bool:
    # The owner of the layer's own root is what the image says; around it is the store's.
    return layer.parent.stat().st_uid != 0


def _perform(plan: _Plan, place: _Directory) -> None:
    try:
        try:
            mount_by_calls(plan, place)
        except OSError as error:
            if error.errno not in _WITHOUT_NEW_CALLS:
                raise
            _fall_back(plan, place, error)
    except OSError as error:
        raise _refusal(error) from error


def _fall_back(plan: _Plan, place: _Directory, first: OSError) -> None:
    try:
        mount_by_page(plan, place)
    except OSError as second:
        # The newer calls say more of the same failure.
        raise (first if first.errno == second.errno else second) from second


def mount_by_calls(plan: _Plan, place: _Directory) -> None:
    """Mount with the calls of Linux 5.2, layer by layer, which takes 6.7. Raises OSError."""
    context = system_calls.fsopen("overlay")
    try:
        made = _configured(plan, context)
        try:
            system_calls.move_mount(made, place.fd)
        finally:
            os.close(made)
    finally:
        os.close(context)


def _configured(plan: _Plan, context: int) -> int:
    try:
        system_calls.fsconfig_set(context, "source", SOURCE)
        for layer in plan.layers:
            system_calls.fsconfig_set(context, "lowerdir+", str(layer.path))
        for key, directory in zip(("upperdir", "workdir"), plan.changes, strict=False):
            system_calls.fsconfig_set(context, key, str(directory.path))
        for key, value in plan.options:
            system_calls.fsconfig_set(context, key, value)
        system_calls.fsconfig_create(context)
        return system_calls.fsmount(context, plan.flags)
    except OSError as error:
        reason = system_calls.context_message(context)
        raise OSError(error.errno, f"{error.strerror}: {reason}" if reason else error.strerror) from error


def mount_by_page(plan: _Plan, place: _Directory) -> None:
    """Mount with mount(2). Raises OSError."""
    failures: list[OSError] = []

    def work() -> None:
        try:
            # Descriptors' numbers are names in this directory: 4 KiB hold 800 of them, whatever their paths.
            system_calls.own_working_directory()
            os.chdir("/proc/self/fd")
            system_calls.mount(SOURCE, str(place.fd), "overlay", plan.flags, _page(plan))
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    for failure in failures:
        raise failure


def _page(plan: _Plan) -> str:
    options: list[tuple[str, str | None]] = [("lowerdir", ":".join(str(layer.fd) for layer in plan.layers))]
    options += zip(("upperdir", "workdir"), (str(directory.fd) for directory in plan.changes), strict=False)
    page = ",".join(key if value is None else f"{key}={value}" for key, value in (*options, *plan.options))
    if len(page) >= _PAGE:
        # The kernel would cut it, perhaps in the middle of a number.
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    return page


def _refusal(error: OSError) -> MountRefused:
    if error.errno == errno.EPERM:
        return MountRefused(
            "mounting needs root, or a namespace of your own: run it inside `unshare -Urm`, "
            "or use `cargohold unpack` instead"
        )
    if error.errno == errno.ENODEV:
        return MountRefused("this kernel has no overlay file system: use `cargohold unpack` instead")
    return MountRefused(f"the kernel refuses the mount: {error.strerror}; `dmesg` may say more")


def unmount(target: Path, *, lazy: bool = False) -> None:
    """Take away one of our mounts; with `lazy` at once from sight and in fact when nobody uses it any more.

    Raises MountRefused for anything else's mount, for none, and for one in use.
    """
    found = _at(target)
    if found is None:
        raise MountRefused(f"nothing is mounted at {target}")
    if not _is_ours(found):
        raise MountRefused(f"{target} is a mount of {found.kind} that cargohold did not make")
    try:
        system_calls.unmount(os.fsdecode(found.target), lazy=lazy)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise MountRefused(f"{target} is in use: end what uses it, or try --lazy") from error
        raise _refusal(error) from error


def unmount_below(directory: Path) -> None:
    """Take away all our mounts in a directory, lazily."""
    inside = os.fsencode(os.path.realpath(directory)) + b"/"
    for found in reversed(
        [mount for mount in mounts() if _is_ours(mount) and mount.target.startswith(inside)]
    ):
        unmount(Path(os.fsdecode(found.target)), lazy=True)


def is_mounted(path: Path) -> bool:
    """Whether something is mounted at the path itself, links followed."""
    return _at(path) is not None


def _is_ours(mount: Mount) -> bool:
    return mount.kind == "overlay" and mount.source == SOURCE.encode()


def _at(path: Path) -> Mount | None:
    where = os.fsencode(os.path.realpath(path))
    found = None
    for candidate in mounts():
        if candidate.target == where:
            found = candidate
    return found
