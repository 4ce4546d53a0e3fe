"""An image of the store as one ordinary tree."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from client.clock import NEVER, Deadline
from client.partial import disk_errors
from client.store.image import Image
from client.store.removal import remove_tree
from client.store.store import Store
from client.store.stream import open_layer
from client.store.unpacking import layers_of
from client.unpack.layer import apply_layers
from client.unpack.options import Form, Options
from client.unpack.stats import LayerStats
from storage import durable
from storage.oci.digest import Digest
from storage.oci.errors import RequestInvalid


def unpack(
    store: Store, image: Image, target: Path, options: Options, deadline: Deadline = NEVER
) -> list[LayerStats]:
    """Unpack an image's layers from its blobs into `target`, which is new or empty: all of it or nothing.

    Each layer is verified against its diffID, and the tree is durable before it has its name. Raises
    UnpackError, ImageIncomplete; RequestInvalid for a target that is not empty.
    """
    with making(target.absolute()) as made:
        stats = apply(store, image, made, options, deadline)
        if os.geteuid() == 0:
            # Set-id programs may be inside, and what is around the target is not ours to close (UNP-10).
            made.chmod(0o700)
    return stats


def apply(
    store: Store, image: Image, target: Path, options: Options, deadline: Deadline = NEVER
) -> list[LayerStats]:
    """Unpack an image's layers into the empty directory `target`, which nobody else can see yet."""
    flat = replace(options, form=Form.FLAT)
    return apply_layers(_streams(store, image, deadline), target, options=flat)


@contextmanager
def making(target: Path) -> Iterator[Path]:
    """Make a directory that gets its name when the block ends well; nothing is left of it otherwise.

    It is made beside its place, in a directory that is closed to others (UNP-10).
    """
    _check_empty(target)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        outer = target.parent / f".{target.name}.{secrets.token_hex(4)}"
        outer.mkdir(mode=0o700)
    try:
        inner = outer / "tree"
        with disk_errors(target):
            inner.mkdir(mode=0o700)
        yield inner
        with disk_errors(target):
            durable.sync_file_system(inner)
            _move(inner, target)
            durable.sync_directory(target.parent)
    finally:
        _remove(outer)


def _move(source: Path, target: Path) -> None:
    mode = stat.S_IMODE(source.stat().st_mode)
    is_closed = os.geteuid() != 0 and not mode & stat.S_IWUSR
    # Moving a directory writes its `..`, for which its owner needs the right to write to it.
    if is_closed:
        source.chmod(mode | stat.S_IWUSR)
    source.rename(target)
    if is_closed:
        target.chmod(mode)


def _remove(outer: Path) -> None:
    """Remove a working directory, whose deep directories are moved about within it."""
    for name in os.listdir(outer):
        remove_tree(outer / name)
    outer.rmdir()


def _check_empty(target: Path) -> None:
    """Raises RequestInvalid unless there is nothing at a path, or an empty directory."""
    try:
        is_empty = not os.listdir(target)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise RequestInvalid(f"{target} is not a directory") from error
    if not is_empty:
        raise RequestInvalid(f"{target} is not empty: name a new directory")


def _streams(store: Store, image: Image, deadline: Deadline) -> Iterator[tuple[BinaryIO, Digest]]:
    for layer in layers_of(image.manifest, image.require_config()):
        with open_layer(store.directory, layer.blob.digest, lambda: deadline.limit(1)) as stream:
            yield stream, layer.diff_id
