"""Platforms, and which of several offered ones a machine runs best."""

import functools
import platform as machine
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from storage.oci import strict_json
from storage.oci.errors import RequestInvalid

_match_text = re.compile(
    r"(?P<os>[a-z0-9_.-]+)(?:\((?P<version>[a-z0-9_.-]*)(?P<features>(?:\+[a-z0-9_.-]+)*)\))?"
    r"/(?P<architecture>[a-z0-9_.-]+)(?:/(?P<variant>[a-z0-9_.-]+))?",
    re.ASCII,
).fullmatch

_MEMBERS = frozenset({"architecture", "os", "os.version", "os.features", "variant", "features"})

# What uname, package managers and people call them, as (architecture, variant) of the Go language.
_ALIASES: dict[str, tuple[str, str | None]] = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "i386": ("386", None),
    "i486": ("386", None),
    "i586": ("386", None),
    "i686": ("386", None),
}
_OS_ALIASES = {"macos": "darwin"}
_DEFAULT_VARIANTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}

_match_version = re.compile(r"v?(?P<major>[0-9]{1,2})(?:\.(?P<minor>[0-9]{1,2}))?", re.ASCII).fullmatch

_Instructions = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Platform:
    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/architecture[/variant]`, as in linux/arm64/v8; windows(10.0.17763+win32k)/amd64 says more.

        Case is ignored and other names for an architecture are taken as Go's, so linux/x86_64 is linux/amd64.
        Raises RequestInvalid.
        """
        matched = _match_text(text.lower()) if len(text) <= 255 and text.isascii() else None
        if matched is None:
            raise RequestInvalid(
                f"not a platform, os/architecture[/variant]: {text[:100]!r}", platform=text[:100]
            )
        features = tuple(matched["features"].split("+")[1:]) if matched["features"] else ()
        architecture, variant = _canonical(matched["architecture"], matched["variant"])
        os = _OS_ALIASES.get(matched["os"], matched["os"])
        return cls(os, architecture, variant, matched["version"] or None, features)

    @classmethod
    def from_json(cls, value: object, where: str = "platform") -> Self:
        """Read a descriptor's `platform` as it is written. Raises ManifestInvalid for a wrong type.

        An absent os or architecture is empty: registries keep such indexes, and it matches nothing.
        Source: image-spec image-index.md, "Image Index Property Descriptions".
        """
        members = strict_json.members(value, _MEMBERS, where)
        return cls(
            strict_json.string(members, "os", where) or "",
            strict_json.string(members, "architecture", where) or "",
            strict_json.string(members, "variant", where),
            strict_json.string(members, "os.version", where),
            strict_json.strings(members, "os.features", where),
        )

    def to_json(self) -> dict[str, Any]:
        members: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            members["os.version"] = self.os_version
        if self.os_features:
            members["os.features"] = list(self.os_features)
        if self.variant:
            members["variant"] = self.variant
        return members

    @classmethod
    def host(cls) -> Self:
        """Give the platform whose images this machine runs: linux on macOS too, in a virtual machine."""
        architecture, variant = _canonical(machine.machine().lower(), None)
        return cls("windows" if sys.platform == "win32" else "linux", architecture, variant)

    def __str__(self) -> str:
        features = "".join(f"+{feature}" for feature in self.os_features)
        more = f"({self.os_version or ''}{features})" if self.os_version or features else ""
        variant = f"/{self.variant}" if self.variant else ""
        return f"{self.os}{more}/{self.architecture}{variant}"


def best_match(wanted: Platform, offered: Iterable[Platform | None]) -> int | None:
    """Choose the index of the offered platform that a machine of the `wanted` one runs best.

    The exact variant comes first, then lesser ones, then a lesser architecture that the machine also runs
    (386 on amd64, arm on arm64), as containerd orders them; the first of equals wins.
    None when the machine runs none of them.
    Source: image-spec image-index.md, "Image Index Property Descriptions"; github.com/containerd/platforms.
    """
    ranks = _ranks(*_normal(wanted.architecture, wanted.variant))
    best: tuple[int, int] | None = None
    for index, platform in enumerate(offered):
        if platform is None or not _os_suits(wanted, platform):
            continue
        rank = ranks.get(_normal(platform.architecture, platform.variant))
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, index)
    return None if best is None else best[1]


def _canonical(architecture: str, variant: str | None) -> _Instructions:
    canonical, implied = _ALIASES.get(architecture, (architecture, None))
    return canonical, variant or implied


def _normal(architecture: str, variant: str | None) -> _Instructions:
    """Spell for comparison: `arm/7` is arm/v7, `arm64` and `arm64/v8.0` are arm64/v8."""
    architecture, variant = _canonical(architecture.lower(), variant and variant.lower())
    if variant is None:
        return architecture, _DEFAULT_VARIANTS.get(architecture)
    if architecture in _DEFAULT_VARIANTS and (version := _version(variant)):
        return architecture, _variant(*version)
    return architecture, variant


def _version(variant: str | None) -> tuple[int, int] | None:
    matched = _match_version(variant or "")
    return (int(matched["major"]), int(matched["minor"] or 0)) if matched else None


def _variant(major: int, minor: int = 0) -> str:
    return f"v{major}.{minor}" if minor else f"v{major}"


@functools.lru_cache(maxsize=64)
def _ranks(architecture: str, variant: str | None) -> Mapping[_Instructions, int]:
    """Rank what the machine runs, 0 for the best; the first rank of what is named twice counts."""
    ranks: dict[_Instructions, int] = {}
    for instructions in _runs(architecture, variant):
        ranks.setdefault(instructions, len(ranks))
    return ranks


def _runs(architecture: str, variant: str | None) -> Iterator[_Instructions]:
    yield architecture, variant
    version = _version(variant)
    match architecture:
        case "amd64":
            yield from (("amd64", _variant(major)) for major in range(version[0] if version else 1, 0, -1))
            yield "386", None
        case "arm":
            yield from _runs_arm(version[0] if version else 7)
        case "arm64":
            yield from _runs_arm64(*(version or (8, 0)))
            yield from _runs_arm(8)
        case _:
            yield architecture, None


def _runs_arm(major: int) -> Iterator[_Instructions]:
    yield from (("arm", _variant(lesser)) for lesser in range(major, 4, -1))


def _runs_arm64(major: int, minor: int) -> Iterator[_Instructions]:
    if major == 9:
        yield from (("arm64", _variant(9, lesser)) for lesser in range(minor, -1, -1))
        minor += 5  # Armv9.0 has what Armv8.5 has
    yield from (("arm64", _variant(8, lesser)) for lesser in range(minor, -1, -1))


def _os_suits(wanted: Platform, offered: Platform) -> bool:
    """Tell whether the operating system runs it; on Windows the build must agree where both state one.

    A host states its revision too (10.0.17763.2000), which need not agree: only three parts count.
    """
    os = _OS_ALIASES.get(wanted.os.lower(), wanted.os.lower())
    if os != _OS_ALIASES.get(offered.os.lower(), offered.os.lower()):
        return False
    if wanted.os_features and not set(offered.os_features) <= set(wanted.os_features):
        return False
    if os != "windows" or not wanted.os_version or not offered.os_version:
        return True
    build = wanted.os_version.split(".")[:3]
    return offered.os_version.split(".")[: len(build)] == build
