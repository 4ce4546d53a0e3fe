"""Unpacks the layers of images, several at once, each as soon as its blob is there.

A layer in overlay form needs nothing of those below it, but for two things that are done in their order at
the end: a directory that it only passes through has the attributes of the one below, and a hard link may lead
to a file below.

Of several processes one unpacks a layer. Who finds one taken goes on with others, and waits for it at the
end, in one order of all layers, while it holds locks of later ones only: so nobody waits in a circle.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from client.clock import NEVER, Deadline
from client.errors import Cancelled
from client.partial import disk_errors
from client.progress import Progress, Unpacked, Unpacking, silent
from client.store import locks
from client.store.directory import Directory
from client.store.layers import LayerRecord, Layers
from client.store.stream import open_layer
from client.unpack.errors import LinkTargetMissing, UnpackError
from client.unpack.layer import unpack_layer
from client.unpack.lowers import inherit_directories
from client.unpack.options import IdMap, Options
from client.unpack.stats import LayerStats
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import ManifestInvalid
from storage.oci.image_config import ImageConfig
from storage.oci.manifest import Manifest

_RETRY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class LayerToUnpack:
    """A layer of an image, and `below` it the chainIDs of what it lies on, lowest first."""

    chain_id: Digest
    diff_id: Digest
    blob: Descriptor
    below: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class _Made:
    """A layer in a directory of ours, which is not published yet."""

    path: Path
    record: LayerRecord
    implied: tuple[bytes, ...]

    @property
    def diff(self) -> Path:
        return self.path / "diff"


def layers_of(manifest: Manifest, config: ImageConfig) -> list[LayerToUnpack]:
    """Say which layers an image has, lowest first. Raises ManifestInvalid (UNP-12)."""
    if len(config.diff_ids) != len(manifest.layers):
        raise ManifestInvalid(
            f"the image {manifest.digest} has {len(manifest.layers)} layers, "
            f"and its configuration {len(config.diff_ids)}"
        )
    chain = config.chain_ids
    return [
        LayerToUnpack(chain_id, diff_id, blob, chain[:depth])
        for depth, (chain_id, diff_id, blob) in enumerate(
            zip(chain, config.diff_ids, manifest.layers, strict=True)
        )
    ]


def _order(layer: LayerToUnpack) -> tuple[int, str]:
    """Lower layers first; of several images' in the same order in every process."""
    return len(layer.below), str(layer.chain_id)


def default_options() -> Options:
    """Give files to their owners as root, as far as this user namespace knows them; else record owners."""
    if os.geteuid() != 0:
        return Options()
    return Options(devices=True, uids=IdMap.of_process("uid"), gids=IdMap.of_process("gid"))


class Unpacker:
    """Use it in a `with`: what was unpacked and not published is removed at its end."""

    def __init__(
        self,
        directory: Directory,
        options: Options,
        progress: Progress = silent,
        deadline: Deadline = NEVER,
    ) -> None:
        self._directory = directory
        self._layers = Layers(directory)
        self._options = options
        self._progress = progress
        self._deadline = deadline
        self._wanted: dict[Digest, LayerToUnpack] = {}
        self._tries: dict[Digest, Future[_Made | None]] = {}
        self._ready: dict[Digest, _Made] = {}
        self._locks: dict[Digest, int] = {}
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "unpack")
        self._guard = threading.Lock()
        self._temporary = ExitStack()
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = kind is not None
        self._pool.shutdown(cancel_futures=True)
        try:
            with disk_errors(self._directory.root):
                self._temporary.close()
        finally:
            for chain_id in list(self._locks):
                self._release(chain_id)

    def add(self, layers: Iterable[LayerToUnpack]) -> None:
        """Want these layers, each of which may be there already or be another image's too."""
        for layer in layers:
            if layer.chain_id not in self._wanted and not self._layers.has(layer.chain_id):
                self._wanted[layer.chain_id] = layer

    def blob_is_there(self, digest: Digest) -> None:
        """Start with the layers in a blob; called from any thread."""
        with self._guard:
            for layer in self._wanted.values():
                if layer.blob.digest == digest and layer.chain_id not in self._tries:
                    self._tries[layer.chain_id] = self._pool.submit(self._try, layer)

    @property
    def failure(self) -> BaseException | None:
        """Why a layer could not be unpacked, as soon as one could not."""
        with self._guard:
            done = [each for each in self._tries.values() if each.done() and not each.cancelled()]
        return next((error for each in done if (error := each.exception()) is not None), None)

    def finish(self) -> None:
        """Wait until all layers are unpacked, and publish them.

        Raises UnpackError, of which nothing is left; InsufficientStorage, DiskFailed, ImageIncomplete.
        """
        for layer in self._wanted.values():
            self.blob_is_there(layer.blob.digest)
        for future in self._tries.values():
            future.result()
        for layer in sorted(self._wanted.values(), key=_order):
            self._settle(layer)
        self._publish()
        self._wanted.clear()
        self._tries.clear()

    def unpack_apart(self, layer: LayerToUnpack) -> tuple[Path, LayerRecord]:
        """Unpack a layer once more, to be looked at until the end of the `with`: its directory and record."""
        lowers = self._lowers(layer.below)
        made = self._unpack(layer, lowers)
        inherit_directories(made.diff, lowers, made.implied)
        return made.diff, made.record

    def _try(self, layer: LayerToUnpack) -> _Made | None:
        """Unpack a layer; None for one that another process has, or that needs those below it."""
        with disk_errors(self._directory.layers):
            fd = locks.try_lock(self._directory.layer_lock(layer.chain_id))
        if fd is None:
            return None
        with self._guard:
            self._locks[layer.chain_id] = fd
        if self._layers.has(layer.chain_id):
            return None
        try:
            return self._unpack(layer, ())
        except LinkTargetMissing:
            return None

    def _settle(self, layer: LayerToUnpack) -> None:
        """Make a layer ready to be published, its lower layers being there or ready."""
        made = self._tries[layer.chain_id].result()
        if layer.chain_id not in self._locks:
            self._wait_for(layer)
        if self._layers.has(layer.chain_id):
            self._release(layer.chain_id)
            return
        lowers = self._lowers(layer.below)
        if made is None:
            made = self._unpack(layer, lowers)
        inherit_directories(made.diff, lowers, made.implied)
        self._ready[layer.chain_id] = made

    def _wait_for(self, layer: LayerToUnpack) -> None:
        """Wait for the process that unpacks a layer, which may wait for those that we have below it."""
        self._publish()
        self._progress(Unpacking(layer.blob.digest))
        with disk_errors(self._directory.layers):
            path = self._directory.layer_lock(layer.chain_id)
            self._locks[layer.chain_id] = locks.wait_for(path, lambda: self._deadline.sleep(_RETRY_SECONDS))

    def _publish(self) -> None:
        if self._ready:
            self._layers.publish([(made.path, made.record) for made in self._ready.values()])
        for chain_id in self._ready:
            self._release(chain_id)
        self._ready.clear()

    def _release(self, chain_id: Digest) -> None:
        os.close(self._locks.pop(chain_id))

    def _lowers(self, below: Sequence[Digest]) -> tuple[Path, ...]:
        """Return the directories of layers below, uppermost first."""
        lowers: list[Path] = []
        for chain_id in reversed(below):
            made = self._ready.get(chain_id)
            lowers.append(self._layers.diff(chain_id) if made is None else made.diff)
            if (made.record if made else self._layers.record(chain_id)).opaque_root:
                break
        return tuple(lowers)

    def _unpack(self, layer: LayerToUnpack, lowers: tuple[Path, ...]) -> _Made:
        self._progress(Unpacking(layer.blob.digest))
        with disk_errors(self._directory.root), self._guard:
            path = self._temporary.enter_context(self._directory.temporary())
            diff = path / "diff"
            diff.mkdir(mode=0o700)
        stats = self._unpack_to(diff, layer, lowers)
        self._progress(Unpacked(layer.blob.digest, stats.entries))
        record = LayerRecord.of(layer.chain_id, stats, self._options.ownership)
        return _Made(path, record, stats.implied)

    def _unpack_to(self, diff: Path, layer: LayerToUnpack, lowers: tuple[Path, ...]) -> LayerStats:
        options = replace(self._options, lowers=lowers)
        with open_layer(self._directory, layer.blob.digest, self._check) as stream:
            try:
                return unpack_layer(stream, diff, diff_id=layer.diff_id, options=options)
            except UnpackError as error:
                raise type(error)(f"layer {layer.blob.digest}: {error}") from error

    def _check(self) -> None:
        """Raise when nobody wants the layer any more."""
        self._deadline.limit(1)
        if self._is_over:
            raise Cancelled("another layer failed")
