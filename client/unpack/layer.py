"""One layer, or all of an image, from compressed streams to a directory."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from client.unpack.blocks import Blocks
from client.unpack.errors import Unsupported, VerificationFailed, storage_error
from client.unpack.extract import Extractor
from client.unpack.options import Form, Options
from client.unpack.stats import LayerStats
from client.unpack.tar_reader import TarReader
from storage.oci.digest import Digest

_ALGORITHM = "sha256"
# Source: linux/fs.h.
_GET_FLAGS = 0x80086601
_CASEFOLD = 0x40000000


def unpack_layer(stream: BinaryIO, target: Path, *, diff_id: Digest | None, options: Options) -> LayerStats:
    """Unpack a layer into the directory `target`, which is empty for the overlay form.

    `stream` is read to its end, so one that checks the compressed digest has done so. On return the bytes
    were those of `diff_id`, where it is given, and the directory can be published by a rename; nothing was
    synced. After any exception it holds an unfinished tree that is to be removed. What it holds can be set-id
    and another user's: keep its parent closed to others (UNP-10). Raises UnpackError, and what `stream`
    raises.
    """
    with _extractor(target, options) as extractor:
        stats = _apply(extractor, stream, diff_id, options)
        extractor.finish()
    return stats


def apply_layers(
    layers: Iterable[tuple[BinaryIO, Digest | None]], target: Path, *, options: Options
) -> list[LayerStats]:
    """Unpack an image's layers, lowest first, into one flat tree. As unpack_layer otherwise."""
    if options.form is not Form.FLAT:
        raise ValueError("layers in overlay form are unpacked one by one")
    with _extractor(target, options) as extractor:
        stats = [_apply(extractor, stream, diff_id, options) for stream, diff_id in layers]
        extractor.finish()
    return stats


def _apply(extractor: Extractor, stream: BinaryIO, diff_id: Digest | None, options: Options) -> LayerStats:
    algorithm = _ALGORITHM if diff_id is None else diff_id.algorithm
    with Blocks(stream, options.limits, algorithm) as blocks:
        reader = TarReader(iter(blocks), options.limits)
        extractor.apply(reader)
    computed = blocks.digest()
    if diff_id is not None and computed != diff_id:
        raise VerificationFailed(f"the layer unpacks to {computed}, its image says {diff_id}")
    return LayerStats(
        diff_id=computed,
        entries=reader.entries,
        unpacked=blocks.unpacked,
        content=extractor.content,
        opaque_root=extractor.opaque_root,
        implied=extractor.implied(),
        notices=extractor.notices,
    )


@contextmanager
def _extractor(target: Path, options: Options) -> Iterator[Extractor]:
    try:
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, None) from error
    try:
        if _folds_case(root):
            raise Unsupported("the target's file system folds the case of names")
        extractor = Extractor(root, options)
        try:
            yield extractor
        finally:
            extractor.close()
    finally:
        os.close(root)


def _folds_case(root: int) -> bool:
    flags = bytearray(8)
    with suppress(OSError):
        fcntl.ioctl(root, _GET_FLAGS, flags)
    return bool(int.from_bytes(flags[:4], "little") & _CASEFOLD)
