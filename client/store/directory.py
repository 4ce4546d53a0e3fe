"""Where the store keeps what, and how something half made is told from what is whole.

oci-layout, index.json, blobs/<algorithm>/<hex>     an OCI image layout, for every tool that reads one
partial/                                            blobs on their way, resumed by the next process
layers/<algorithm>-<hex of the chainID>/            diff/ in overlay form, and layer.json
tmp/<token>/                                        flocked by the process that makes something in it
trash/<token>                                       on its way out
locks/, state.db                                    who works on what; which image has which name
"""

import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from client.mount_table import MOUNTINFO, mounts
from client.partial import disk_errors
from client.store import locks
from client.store.errors import StoreBusy, StoreUnusable
from client.store.removal import remove_tree
from storage import durable
from storage.oci.digest import ALGORITHMS, Digest

# On these a lock of one machine may be none to another, and a rename need not be one step.
_NETWORK = re.compile(r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|fuse\.(?:sshfs|glusterfs|s3fs|rclone)")
_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_DIRECTORIES = ("blobs", "layers", "partial", "tmp", "trash", "locks")


class Directory:
    """The store's directory, made if need be; nobody but its owner can enter it (UNP-10).

    Raises StoreUnusable for a place on a network file system, another's directory, or one with other content.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.blobs = self.root / "blobs"
        self.partial = self.root / "partial"
        self.layers = self.root / "layers"
        self.index_file = self.root / "index.json"
        self._tmp = self.root / "tmp"
        self._trash = self.root / "trash"
        self._locks = self.root / "locks"
        self.index_lock = self._locks / "index"
        with disk_errors(self.root):
            self._make()

    def _make(self) -> None:
        self._check_root()
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        directories = durable.DurableDirectories(self.root)
        for name in _DIRECTORIES:
            directories.make(self.root / name)
        for algorithm in ALGORITHMS:
            directories.make(self.blobs / algorithm)
        layout = self.root / "oci-layout"
        if not layout.exists():
            self.write(layout, json.dumps(_LAYOUT).encode())

    def _check_root(self) -> None:
        kind = file_system(self.root)
        if is_network(kind):
            raise StoreUnusable(
                f"{self.root} is on {kind}, where locks and renames do not hold: choose a local directory"
            )
        try:
            status = self.root.stat()
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(status.st_mode):
            raise StoreUnusable(f"{self.root} is not a directory: choose another with --store")
        if status.st_uid != os.geteuid():
            raise StoreUnusable(f"{self.root} belongs to another user: choose another with --store")
        # In one look: another process may be making the store.
        found = set(os.listdir(self.root))
        if "oci-layout" not in found and not found <= {*_DIRECTORIES}:
            raise StoreUnusable(f"{self.root} is neither empty nor a store: choose another with --store")
        if status.st_mode & 0o077:
            self.root.chmod(0o700)

    def blob(self, digest: Digest) -> Path:
        return self.blobs / digest.algorithm / digest.hex

    def has_blob(self, digest: Digest) -> bool:
        return self.blob(digest).exists()

    def layer(self, chain_id: Digest) -> Path:
        return self.layers / f"{chain_id.algorithm}-{chain_id.hex}"

    def layer_lock(self, chain_id: Digest) -> Path:
        return self._locks / f"layer-{chain_id.algorithm}-{chain_id.hex}"

    def write(self, target: Path, data: bytes) -> None:
        """Put a small file at its name, at once and durably."""
        with disk_errors(target), self.temporary() as directory:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write_file(directory / "new", target, data)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Keep collection away for the block, and first remove what dead processes left half made."""
        with disk_errors(self.root):
            fd = locks.lock(self._locks / "collection", shared=True)
        with locks.released(fd):
            with disk_errors(self.root):
                self.recover()
            yield

    @contextmanager
    def exclusive(self, *, wait: bool = False) -> Iterator[None]:
        """Have the store to oneself for the block.

        Raises StoreBusy when others work in it, unless that is to be waited for.
        """
        path = self._locks / "collection"
        with disk_errors(self.root):
            fd = locks.lock(path) if wait else locks.try_lock(path)
        if fd is None:
            raise StoreBusy(f"another process is at work in {self.root}")
        with locks.released(fd):
            yield

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Make a directory of our own, removed with all that is left in it at the end."""
        path, fd = self._claim_temporary()
        with locks.released(fd):
            try:
                yield path
            finally:
                self.discard(path)

    def _claim_temporary(self) -> tuple[Path, int]:
        while True:
            path = self._tmp / secrets.token_hex(8)
            path.mkdir(mode=0o700)
            # Another's recovery may have it before we do.
            if (fd := locks.try_lock_directory(path)) is not None:
                return path, fd

    def discard(self, path: Path) -> None:
        """Take something away at once, and then remove it; what a crash leaves of it the next one removes."""
        target = self._trash / secrets.token_hex(8)
        try:
            path.rename(target)
        except FileNotFoundError:
            return
        remove_tree(target)

    def throw_away(self, path: Path) -> None:
        """Take something away at once; `empty_trash` removes it."""
        path.rename(self._trash / secrets.token_hex(8))

    def recover(self) -> None:
        """Remove what nobody works on any more."""
        for name in os.listdir(self._tmp):
            self._recover(self._tmp / name)
        self.empty_trash()

    def empty_trash(self) -> None:
        """Remove what was taken away. What the system holds on to waits: nobody is to fail for it."""
        for name in os.listdir(self._trash):
            with suppress(OSError):
                remove_tree(self._trash / name)

    def remove_locks(self) -> None:
        """Remove the lock files of layers, of which nobody holds one while the store is ours alone."""
        for path in self._locks.glob("layer-*"):
            path.unlink(missing_ok=True)

    def leftovers(self) -> tuple[Path, ...]:
        return self._tmp, self._trash

    def _recover(self, path: Path) -> None:
        fd = locks.try_lock_directory(path)
        if fd is not None:
            with locks.released(fd):
                self.discard(path)


def is_network(kind: str | None) -> bool:
    return kind is not None and _NETWORK.fullmatch(kind) is not None


def file_system(path: Path, table: Path = MOUNTINFO) -> str | None:
    """Name the kind of file system on which a path is or would be, None where the system does not say."""
    try:
        kinds = {mount.target: mount.kind for mount in mounts(table)}
    except OSError:
        return None
    resolved = path.resolve()
    parents = map(os.fsencode, (resolved, *resolved.parents))
    return next((kinds[parent] for parent in parents if parent in kinds), None)
