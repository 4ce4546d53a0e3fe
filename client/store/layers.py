"""Unpacked layers: each in overlay form, under the chainID of the stack whose top it is.

A layer is the same under the same chainID, for its parents are in it. Its directory is there whole or not at
all, across a power loss too.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from client.partial import disk_errors
from client.store.directory import Directory
from client.store.errors import ImageIncomplete
from client.unpack.options import Ownership
from client.unpack.stats import LayerStats
from storage import durable
from storage.oci.digest import Digest

_RECORD = "layer.json"
_DIFF = "diff"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """What is known of an unpacked layer; sizes are bytes."""

    chain_id: Digest
    diff_id: Digest
    entries: int
    content: int
    unpacked: int
    opaque_root: bool
    """All below is hidden: overlayfs ignores the mark on a root, so nothing is mounted below it."""
    ownership: str = Ownership.REAL.value
    """Whether files have their owners, or are the store's owner's and have them recorded."""
    notices: Mapping[str, int] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, chain_id: Digest, stats: LayerStats, ownership: Ownership) -> Self:
        return cls(
            chain_id=chain_id,
            diff_id=stats.diff_id,
            entries=stats.entries,
            content=stats.content,
            unpacked=stats.unpacked,
            opaque_root=stats.opaque_root,
            ownership=ownership.value,
            notices=dict(stats.notices),
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises ValueError, KeyError or TypeError for what none of ours has written."""
        document: dict[str, Any] = json.loads(data)
        for name in ("chain_id", "diff_id"):
            document[name] = Digest.parse(document[name])
        return cls(**document)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "chain_id": str(self.chain_id), "diff_id": str(self.diff_id)}


class Layers:
    """The layers in a store's directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def has(self, chain_id: Digest) -> bool:
        return self._directory.layer(chain_id).exists()

    def missing(self, chain_ids: Sequence[Digest]) -> list[Digest]:
        return [chain_id for chain_id in chain_ids if not self.has(chain_id)]

    def record(self, chain_id: Digest) -> LayerRecord:
        """Raises ImageIncomplete when the layer is not there or its record cannot be read."""
        path = self._directory.layer(chain_id) / _RECORD
        try:
            return LayerRecord.parse(path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ImageIncomplete(
                f"the layer {chain_id} is damaged: `cargohold store check --repair` unpacks it again"
            ) from error

    def content(self, *chain_ids: Digest) -> int | None:
        """Return the bytes of the files in layers; None where one is damaged."""
        try:
            return sum(self.record(chain_id).content for chain_id in chain_ids)
        except ImageIncomplete:
            return None

    def diff(self, chain_id: Digest) -> Path:
        return self._directory.layer(chain_id) / _DIFF

    def all(self) -> list[str]:
        """Name the directories of layers, as `<algorithm>-<hex>`."""
        return sorted(os.listdir(self._directory.layers))

    def stack(self, chain_ids: Sequence[Digest]) -> tuple[Path, ...]:
        """Return the layers to mount, uppermost first. Raises ImageIncomplete."""
        stack: list[Path] = []
        for chain_id in reversed(chain_ids):
            stack.append(self.diff(chain_id))
            if self.record(chain_id).opaque_root:
                break
        return tuple(stack)

    def publish(self, made: Sequence[tuple[Path, LayerRecord]]) -> None:
        """Give layers their names, lowest first: `made` are directories with a `diff` below them.

        All of their bytes are durable before the first has its name, with one sync for all of them.
        """
        with disk_errors(self._directory.layers):
            for path, record in made:
                (path / _RECORD).write_text(json.dumps(record.to_json(), indent=2) + "\n")
            durable.sync_file_system(self._directory.layers)
            for path, record in made:
                path.rename(self._directory.layer(record.chain_id))
            durable.sync_directory(self._directory.layers)
