"""Image configurations: what an image runs, and of which layers its root file system is made.

Source: image-spec config.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from storage.oci import strict_json
from storage.oci.digest import Digest
from storage.oci.errors import DigestInvalid, ManifestInvalid
from storage.oci.platform import Platform

_PLATFORM_MEMBERS = ("architecture", "os", "os.version", "os.features", "variant")
_MEMBERS = frozenset({"created", "author", "config", "rootfs", "history", *_PLATFORM_MEMBERS})
_EXECUTION_MEMBERS = frozenset(
    {"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal"}
)


@dataclass(frozen=True, slots=True)
class Execution:
    """The base from which containers are run. Source: image-spec config.md, "Properties", `config`."""

    user: str | None = None
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    working_dir: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    stop_signal: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """How one layer came to be; one that is `is_empty` brought none."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    is_empty: bool = False


@dataclass(frozen=True, slots=True)
class ImageConfig:
    platform: Platform
    diff_ids: tuple[Digest, ...]
    execution: Execution = Execution()
    created: str | None = None
    author: str | None = None
    history: tuple[HistoryEntry, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a configuration of an image. Raises ManifestInvalid for one that is not well formed."""
        document = strict_json.members(strict_json.loads(body), _MEMBERS, "config")
        return cls(
            Platform.from_json({name: document.get(name) for name in _PLATFORM_MEMBERS}, "config"),
            _diff_ids(document),
            _execution(document.get("config")),
            strict_json.string(document, "created", "config"),
            strict_json.string(document, "author", "config"),
            tuple(_history_entry(entry) for entry in strict_json.array(document, "history", "config")),
        )

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        return chain_ids(self.diff_ids)


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """Name what each layer makes together with all below it.

    Source: image-spec config.md, "Layer ChainID".
    """
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)


def _diff_ids(document: Mapping[str, Any]) -> tuple[Digest, ...]:
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise ManifestInvalid("config.rootfs is not of the type `layers`")
    try:
        return tuple(Digest.parse(text) for text in strict_json.strings(rootfs, "diff_ids", "config.rootfs"))
    except DigestInvalid as error:
        raise ManifestInvalid(f"config.rootfs.diff_ids: {error.message}") from error


def _execution(value: object) -> Execution:
    if value is None:
        return Execution()
    where = "config.config"
    members = strict_json.members(value, _EXECUTION_MEMBERS, where)
    return Execution(
        strict_json.string(members, "User", where),
        _keys(members, "ExposedPorts", where),
        strict_json.strings(members, "Env", where),
        strict_json.strings(members, "Entrypoint", where),
        strict_json.strings(members, "Cmd", where),
        _keys(members, "Volumes", where),
        strict_json.string(members, "WorkingDir", where),
        strict_json.string_map(members, "Labels", where),
        strict_json.string(members, "StopSignal", where),
    )


def _keys(container: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """Read a set of texts, which Go writes as an object of empty objects."""
    value = container.get(name)
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where}.{name} is not an object")
    return tuple(value)


def _history_entry(value: object) -> HistoryEntry:
    where = "config.history"
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where} has an entry that is no object")
    return HistoryEntry(
        strict_json.string(value, "created", where),
        strict_json.string(value, "created_by", where),
        strict_json.string(value, "author", where),
        strict_json.string(value, "comment", where),
        value.get("empty_layer") is True,
    )
