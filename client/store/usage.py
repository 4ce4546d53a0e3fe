"""How much of the disk the store takes, and for what."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.partial import disk_errors
from client.store.image import Image
from client.store.store import Store
from storage.oci.digest import Digest

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """What an image takes, and how much of that would go with it: bytes on the disk."""

    image: Image
    bytes: int
    unique: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on the disk, hard links counted once and holes not at all."""

    blobs: int
    layers: int
    partial: int
    leftovers: int
    """What dead processes left, and what is on its way out."""
    images: tuple[ImageUsage, ...]

    @property
    def total(self) -> int:
        return self.blobs + self.layers + self.partial + self.leftovers


def disk_bytes(path: Path) -> int:
    """Return the bytes that a file or a tree takes on the disk."""
    seen: set[int] = set()
    total = 0
    for status in _walk(path):
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if status.st_ino in seen:
                continue
            seen.add(status.st_ino)
        total += status.st_blocks * _BLOCK
    return total


def _walk(path: Path) -> Iterator[os.stat_result]:
    try:
        yield path.lstat()
    except FileNotFoundError:
        return
    todo = [path] if path.is_dir() and not path.is_symlink() else []
    while todo:
        # What vanishes meanwhile takes nothing; into what is closed to an ordinary user he cannot look.
        try:
            found = os.scandir(todo.pop())
        except (FileNotFoundError, PermissionError):
            continue
        with found as entries:
            for entry in entries:
                try:
                    yield entry.stat(follow_symlinks=False)
                except (FileNotFoundError, PermissionError):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))


def usage(store: Store) -> Usage:
    """Measure the store."""
    directory = store.directory
    with disk_errors(directory.root):
        images = _images(store)
        return Usage(
            sum(disk_bytes(path) for path in directory.blobs.glob("*/*")),
            sum(disk_bytes(path) for path in directory.layers.iterdir()),
            sum(disk_bytes(path) for path in directory.partial.iterdir()),
            sum(disk_bytes(path) for parent in directory.leftovers() for path in parent.iterdir()),
            images,
        )


def _images(store: Store) -> tuple[ImageUsage, ...]:
    images, _ = store.all()
    sizes: dict[Path, int] = {}
    for image in images:
        for path in _paths(store, image):
            if path not in sizes:
                sizes[path] = disk_bytes(path)
    users = Counter(path for image in images for path in _paths(store, image))
    return tuple(
        ImageUsage(
            image,
            sum(sizes[path] for path in _paths(store, image)),
            sum(sizes[path] for path in _paths(store, image) if users[path] == 1),
        )
        for image in images
    )


def _paths(store: Store, image: Image) -> set[Path]:
    """Return what an image is made of on the disk."""
    blobs: set[Digest] = {image.root, image.manifest.digest}
    blobs.update(blob.digest for blob in (*image.manifest.blobs, *image.manifest.layers))
    layers = {store.directory.layer(chain_id) for chain_id in image.chain}
    return {store.directory.blob(digest) for digest in blobs} | layers
