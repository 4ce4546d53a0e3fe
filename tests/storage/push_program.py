"""Pushes in its own process, for tests that trace, kill or starve it: `push_program.py <root> <mode> …`."""

import os
import sys
from contextlib import closing
from pathlib import Path

from storage.blobs import UploadId
from storage.filesystem import FilesystemBlobs
from storage.oci.digest import Digest
from storage.oci.errors import InsufficientStorage
from tests.storage.pushing import append, commit, push

BLOCK = bytes(range(256)) * 16


def chunked(root: Path) -> None:
    """Push two blocks as a client does, and say each answer as it is given."""
    store = FilesystemBlobs(root)
    upload = store.begin()
    row = append(store, upload, 0, BLOCK)
    _say("appended", upload, row.offset)
    row = append(store, upload, row.offset, BLOCK, row.digest)
    _say("appended", upload, row.offset)
    _say("committed", commit(store, upload, Digest.of(BLOCK * 2), row))


def hold(root: Path, upload: str) -> None:
    """Claim an upload until killed."""
    with FilesystemBlobs(root).claim(UploadId(upload)):
        _say("claimed")
        sys.stdin.read()


def fill(root: Path) -> None:
    """Push into a full disk from every number of free blocks, then free it. Says what happened."""
    store = FilesystemBlobs(root)
    kept = push(store, b"kept before the disk was full" * 100)
    refused = 0
    for room in range(12):
        ballast = root / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, store.free_bytes() - room * len(BLOCK))
        refused += _is_refused(store)
        with closing(store.open(kept)) as blob:
            assert Digest.of(blob.read(10_000)).hex in kept
        ballast.unlink()
        store.delete(push(store, BLOCK * 8))
    _say(refused, len(list(store.locations())), len(list(store.uploads())))


def _is_refused(store: FilesystemBlobs) -> bool:
    before = set(store.uploads())
    try:
        store.delete(push(store, BLOCK * 8))
    except InsufficientStorage:
        for upload in set(store.uploads()) - before:
            assert store.offset(upload) == 0, "room that was not acknowledged was not given back"
            store.abort(upload)
        return True
    return False


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main(root: str, mode: str, *arguments: str) -> None:
    if mode == "hold":
        hold(Path(root), *arguments)
    elif mode == "fill":
        fill(Path(root))
    else:
        chunked(Path(root))


if __name__ == "__main__":
    main(*sys.argv[1:])
