"""What to make of a layer, and on whose behalf."""

import enum
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from client.unpack.limits import Limits

# Owners are 32 bits, and all ones means "leave it" to chown.
LARGEST_ID = 2**32 - 2


class Form(enum.Enum):
    OVERLAY = "overlay"
    """What this layer adds, as overlayfs reads it: whiteouts are 0:0 devices, opaque is an xattr."""
    FLAT = "flat"
    """The tree itself: a whiteout deletes what lower layers left."""


class Ownership(enum.Enum):
    REAL = "real"
    """Files get the layer's owner, through the id maps; one that cannot be had is an error."""
    RECORDED = "recorded"
    """Files stay the caller's, who stands for 0:0. Another owner is written to the xattr
    `user.containers.override_stat` as `uid:gid:mode`, where fuse-overlayfs and podman look for it; links,
    devices and fifos cannot carry it."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """`size` ids of the image from `inside` on are those of this host from `outside` on."""

    inside: int
    outside: int
    size: int

    def __str__(self) -> str:
        return f"{self.inside}:{self.outside}:{self.size}"


@dataclass(frozen=True, slots=True)
class IdMap:
    ranges: tuple[IdRange, ...] = (IdRange(0, 0, LARGEST_ID + 1),)

    @classmethod
    def of_process(cls, which: str) -> Self:
        """Read which ids this process's user namespace knows; `which` is uid or gid."""
        lines = Path(f"/proc/self/{which}_map").read_text().splitlines()
        ranges = [[int(number) for number in line.split()] for line in lines]
        # Inside its own namespace the process uses the inner numbers on both sides.
        return cls(tuple(IdRange(inside, inside, size) for inside, _, size in ranges))

    def to_host(self, id_: int) -> int | None:
        """Return the id on this host, or None for one that the map does not have."""
        for range_ in self.ranges:
            if range_.inside <= id_ < range_.inside + range_.size:
                return range_.outside + id_ - range_.inside
        return None

    def __str__(self) -> str:
        return ",".join(map(str, self.ranges)) or "none"


def _ownership() -> Ownership:
    return Ownership.REAL if os.geteuid() == 0 else Ownership.RECORDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    form: Form = Form.OVERLAY
    limits: Limits = field(default_factory=Limits)
    ownership: Ownership = field(default_factory=_ownership)
    uids: IdMap = IdMap()
    gids: IdMap = IdMap()
    devices: bool = False
    """Make device nodes. Without it, and where the kernel refuses, they are left out and counted."""
    lowers: tuple[Path, ...] = ()
    """Lower layers in overlay form, uppermost first: where hard links find targets that the layer lacks."""
