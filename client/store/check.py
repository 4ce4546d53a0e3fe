"""Check: is what the store says it has really there, and what it should be.

A blob is hashed. A layer is unpacked from its blob once more, and the trees are compared.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from client.clock import NEVER, Deadline
from client.store import rows
from client.store.errors import ImageIncomplete
from client.store.layers import LayerRecord
from client.store.store import Store
from client.store.trees import difference
from client.store.unpacking import LayerToUnpack, Unpacker, default_options, layers_of
from client.unpack.errors import NoSpace, StorageFailed, UnpackError
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest, hasher
from storage.oci.image_config import ImageConfig
from storage.oci.manifest import Manifest

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """A manifest, blob or layer that is lost or damaged, and the manifests that need it."""

    kind: str
    digest: Digest
    what: str
    manifests: tuple[Digest, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.digest} {self.what}"


class Check:
    """One look at the whole store; a `quick` one finds only what is lost or has another size."""

    def __init__(self, store: Store, deadline: Deadline = NEVER, *, quick: bool = False) -> None:
        self._store = store
        self._deadline = deadline
        self._quick = quick

    def problems(self) -> list[Problem]:
        """Find all that is wrong, lowest first: of an image with a bad blob the layers are not looked at.

        Raises InsufficientStorage, NoSpace, StorageFailed and DiskFailed when there is no place to unpack a
        layer for comparison.
        """
        with self._store.directory.shared():
            held = self._store.database.read(rows.manifests)
            found = list(self._manifests(held))
            bad = {problem.digest for problem in found}
            whole = [self._store.manifest(digest) for digest in held if digest not in bad]
            found += self._blobs(whole)
            bad = {problem.digest for problem in found}
            found += self._layers(manifest for manifest in whole if not bad & _blobs_of(manifest).keys())
        return found

    def _manifests(self, held: Iterable[Digest]) -> Iterator[Problem]:
        for digest in held:
            if (what := self._damage(digest, None)) is not None:
                yield Problem("manifest", digest, what, (digest,))

    def _blobs(self, manifests: Iterable[Manifest]) -> Iterator[Problem]:
        wanted: dict[Digest, Descriptor] = {}
        users: dict[Digest, list[Digest]] = {}
        for manifest in manifests:
            wanted |= _blobs_of(manifest)
            for digest in _blobs_of(manifest):
                users.setdefault(digest, []).append(manifest.digest)
        with ThreadPoolExecutor(os.cpu_count(), "check") as pool:
            damages = pool.map(lambda blob: self._damage(blob.digest, blob.size), wanted.values())
            for digest, what in zip(wanted, damages, strict=True):
                if what is not None:
                    yield Problem("blob", digest, what, tuple(users[digest]))

    def _damage(self, digest: Digest, size: int | None) -> str | None:
        """Say what is wrong with a blob."""
        path = self._store.directory.blob(digest)
        try:
            found = path.stat().st_size
            if size is not None and found != size:
                return f"has {found} bytes instead of {size}"
            if self._quick or self._hash(path, digest.algorithm) == digest.hex:
                return None
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return "has other bytes than its digest says"

    def _hash(self, path: Path, algorithm: str) -> str:
        hash_ = hasher(algorithm)
        with path.open("rb", buffering=0) as file:
            while data := file.read(_BLOCK):
                self._deadline.limit(1)
                hash_.update(data)
        return hash_.hexdigest()

    def _layers(self, manifests: Iterable[Manifest]) -> Iterator[Problem]:
        users: dict[Digest, list[Digest]] = {}
        layers: dict[Digest, LayerToUnpack] = {}
        for manifest in manifests:
            for layer in self._unpacked(manifest):
                layers[layer.chain_id] = layer
                users.setdefault(layer.chain_id, []).append(manifest.digest)
        for chain_id, layer in layers.items():
            if (what := self._layer_damage(layer)) is not None:
                yield Problem("layer", chain_id, what, tuple(users[chain_id]))

    def _unpacked(self, manifest: Manifest) -> list[LayerToUnpack]:
        if manifest.config is None or not self._store.chain(manifest.digest):
            return []
        return layers_of(manifest, ImageConfig.parse(self._store.read_blob(manifest.config.digest)))

    def _layer_damage(self, layer: LayerToUnpack) -> str | None:
        if not self._store.layers.has(layer.chain_id):
            return "is missing"
        try:
            record = self._store.layers.record(layer.chain_id)
            if (record.chain_id, record.diff_id) != (layer.chain_id, layer.diff_id):
                return "is another layer's"
            return None if self._quick else self._compare(layer, record)
        except (NoSpace, StorageFailed):
            raise  # it was for the comparison that there was no place: that says nothing of the layer
        except (ImageIncomplete, UnpackError) as error:
            return f"cannot be compared: {error}"

    def _compare(self, layer: LayerToUnpack, record: LayerRecord) -> str | None:
        directory = self._store.directory
        with Unpacker(directory, default_options(), deadline=self._deadline) as unpacker:
            diff, expected = unpacker.unpack_apart(layer)
            if expected != record:
                return "has another record"
            what = difference(diff, self._store.layers.diff(layer.chain_id))
            return None if what is None else f"was changed: {what}"


def _blobs_of(manifest: Manifest) -> dict[Digest, Descriptor]:
    return {blob.digest: blob for blob in (*manifest.blobs, *manifest.layers)}
