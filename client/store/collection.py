"""Collection: what no image needs goes, with nobody else at work in the store.

Marking takes milliseconds and renames; the bytes are removed afterwards, when others may work again.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from client.partial import disk_errors
from client.store import index_file, rows
from client.store.store import Store
from client.store.usage import disk_bytes
from storage.database import Connection
from storage.oci.digest import Digest
from storage.oci.errors import DigestInvalid

# What a broken pull left is worth keeping for the next try, not for ever.
PARTIAL_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Piece:
    """Something on the disk that nothing needs: a blob, a layer, or part of a blob; `name` is for people."""

    kind: str
    name: str
    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class Garbage:
    """What goes; `images` are those that were named as not wanted, the rest follows from it."""

    images: tuple[Digest, ...]
    manifests: tuple[Digest, ...]
    pieces: tuple[Piece, ...]

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.pieces)


def unwanted(store: Store, *, all_images: bool = False, before: float | None = None) -> list[Digest]:
    """List images without a name, or all, that nothing uses and that were added before a time."""
    used = {lease.digest for lease in store.leases()}
    return [
        digest
        for digest, added_at in store.database.read(rows.images)
        if (all_images or not store.names(digest))
        and digest not in used
        and (before is None or added_at < before)
    ]


def plan(store: Store, images: Sequence[Digest] = (), *, partial_seconds: float = PARTIAL_SECONDS) -> Garbage:
    """Say what a collection would remove once these images are forgotten. Nothing is changed."""
    live = store.database.read(lambda connection: rows.live(connection, frozenset(map(str, images))))
    held = store.database.read(rows.manifests)
    with disk_errors(store.directory.root):
        pieces = (*_blobs(store, live), *_layers(store, live), *_partials(store, partial_seconds))
    return Garbage(tuple(images), tuple(each for each in held if each not in live.manifests), pieces)


def collect(
    store: Store,
    images: Sequence[Digest] = (),
    *,
    choose: Callable[[Store], Sequence[Digest]] = lambda store: (),
    wait: bool = False,
    partial_seconds: float = PARTIAL_SECONDS,
) -> Garbage:
    """Forget these images and those that `choose` names, and remove what nothing needs any more.

    `choose` is asked when nobody else is at work: an image that has just got a name is not unwanted any more.
    Raises StoreBusy when others are at work in the store, unless they are to be waited for.
    """
    with store.directory.exclusive(wait=wait):
        store.end_leases_of_earlier_boots()
        garbage = plan(store, (*images, *choose(store)), partial_seconds=partial_seconds)
        # Names first: a crash then leaves bytes that nothing names, never a name without bytes.
        store.database.transaction(lambda connection: _forget(connection, garbage))
        index_file.write(store)
        with disk_errors(store.directory.root):
            for piece in garbage.pieces:
                store.directory.throw_away(piece.path)
            store.directory.remove_locks()
    with disk_errors(store.directory.root):
        store.directory.recover()
    return garbage


def _forget(connection: Connection, garbage: Garbage) -> None:
    for digest in garbage.images:
        rows.remove_image(connection, digest)
    rows.remove_manifests(connection, garbage.manifests)


def _blobs(store: Store, live: rows.Live) -> Iterator[Piece]:
    for algorithm in os.listdir(store.directory.blobs):
        for path in sorted((store.directory.blobs / algorithm).iterdir()):
            # What is no blob is not ours; what is gone another has removed, if this is only a plan.
            with suppress(DigestInvalid, FileNotFoundError):
                digest = Digest.parse(f"{algorithm}:{path.name}")
                if digest not in live.blobs:
                    yield Piece("blob", str(digest), path, path.stat().st_size)


def _layers(store: Store, live: rows.Live) -> Iterator[Piece]:
    for name in store.layers.all():
        with suppress(DigestInvalid):
            chain_id = Digest.parse(name.replace("-", ":", 1))
            if chain_id not in live.chain_ids:
                path = store.directory.layer(chain_id)
                yield Piece("layer", str(chain_id), path, disk_bytes(path))


def _partials(store: Store, seconds: float) -> Iterator[Piece]:
    now = time.time()
    for path in sorted(store.directory.partial.iterdir()):
        with suppress(FileNotFoundError):
            status = path.lstat()
            if abs(now - status.st_mtime) >= seconds:
                yield Piece("partial", path.name, path, status.st_blocks * 512)
