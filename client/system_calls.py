"""Linux system calls that Python 3.11 does not have. Each raises OSError."""

import ctypes
import os

# Source: linux/unistd.h; the same on every architecture.
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
# Source: linux/mount.h. MS_* and MOUNT_ATTR_* agree in these four.
FLAG_READ_ONLY, FLAG_NO_SET_ID, FLAG_NO_DEVICES, FLAG_NO_EXECUTION = 1, 2, 4, 8
_FROM_DESCRIPTOR, _TO_DESCRIPTOR = 0x04, 0x40
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
# Source: linux/sched.h.
_CLONE_FS = 0x200

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _call(number: int, *arguments: object) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def fsopen(kind: str) -> int:
    return _call(_FSOPEN, kind.encode(), _CLOEXEC)


def fsconfig_set(context: int, key: str, value: str | None) -> None:
    """Set an option; None for one that is a flag."""
    command = _SET_FLAG if value is None else _SET_STRING
    _call(_FSCONFIG, context, command, key.encode(), None if value is None else os.fsencode(value), 0)


def fsconfig_create(context: int) -> None:
    _call(_FSCONFIG, context, _CREATE, None, None, 0)


def fsmount(context: int, flags: int) -> int:
    return _call(_FSMOUNT, context, _CLOEXEC, flags)


def move_mount(mount: int, target: int) -> None:
    """Attach a new mount to an open directory."""
    _call(_MOVE_MOUNT, mount, b"", target, b"", _FROM_DESCRIPTOR | _TO_DESCRIPTOR)


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    _checked(
        _libc.mount(
            source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(data)
        )
    )


def unmount(target: str, *, lazy: bool) -> None:
    """Unmount what is uppermost at `target`, which is no link."""
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)))


def own_working_directory() -> None:
    """Give this thread a working directory apart from the other threads'."""
    _checked(_libc.unshare(ctypes.c_int(_CLONE_FS)))


def context_message(context: int) -> str:
    """Return what the kernel says of a context's failure, if anything."""
    try:
        return os.read(context, 4096).decode("utf-8", "replace").removeprefix("e ").strip()
    except OSError:
        return ""
