"""What the caller of a bundle may ask for beside what the image says."""

import enum
import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path

from client.bundle.errors import BundleRefused
from client.bundle.user_namespace import UserNamespace


class Network(enum.Enum):
    NONE = "none"
    """A network of its own with nothing in it but loopback."""
    HOST = "host"
    """The host's network, with all that listens on it."""


class Volumes(enum.Enum):
    """What to do for the directories that the image says are written to."""

    DIRECTORIES = "directories"
    """A directory of the bundle each, filled with what the image has there: data stays on the disk, as long
    as the bundle does. A database on a tmpfs would fill the memory, and be gone after a restart."""
    TMPFS = "tmpfs"
    """An empty file system in memory each, gone when the container ends."""
    IGNORE = "ignore"
    """Nothing: data is written to the root file system."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the host, shown in the container at the absolute path `destination`."""

    source: Path
    destination: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleOptions:
    command: tuple[str, ...] | None = None
    """Instead of the image's Cmd."""
    entrypoint: tuple[str, ...] | None = None
    """Instead of the image's Entrypoint, whose Cmd then goes with it."""
    env: tuple[str, ...] = ()
    """NAME=VALUE, instead of the image's variables of these names."""
    user: str | None = None
    """As the image's User: name or uid, and after a colon group or gid."""
    working_dir: str | None = None
    binds: tuple[Bind, ...] = ()
    volumes: Volumes = Volumes.DIRECTORIES
    read_only_root: bool = False
    terminal: bool = False
    hostname: str = "cargohold"
    network: Network | Path | None = None
    """A path is that of a network namespace. None is a network of its own; the host's without root, who
    could not connect another to anything."""
    new_privileges: bool = False
    """Let set-id programs and file capabilities raise the powers of a process."""
    capabilities: tuple[str, ...] | None = None
    """Instead of docker's, as CAP_CHOWN."""
    user_namespace: UserNamespace | None = field(
        default_factory=lambda: None if os.geteuid() == 0 else UserNamespace.of_caller()
    )
    """Given, the bundle is one that an ordinary user starts: without limits, its powers end at its ids."""

    def __post_init__(self) -> None:
        for variable in self.env:
            if not variable.partition("=")[0] or "=" not in variable:
                raise BundleRefused(f"not a variable: {variable!r}; write NAME=VALUE")
        for bind in self.binds:
            _check(bind)


def _check(bind: Bind) -> None:
    place = bind.destination
    if not place.startswith("/") or normal(place) == "/":
        raise BundleRefused(f"not an absolute path below the container's root: {place!r}")
    if not bind.source.is_absolute() or not bind.source.exists():
        raise BundleRefused(f"nothing to bind at {bind.source}: give the absolute path of what exists")


def normal(path: str) -> str:
    """Return an absolute path in the container, `.` and `..` taken back as text."""
    return posixpath.normpath("/" + path.lstrip("/"))
