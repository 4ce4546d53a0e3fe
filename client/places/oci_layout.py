"""An OCI layout in a directory, for reading and writing by several processes at once.

Source: image-spec image-layout.md.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from client.clock import Deadline
from client.errors import ContentMismatch
from client.partial import disk_errors
from client.places import layout_index
from client.places.blob_directory import BlobDirectory
from client.places.errors import PlaceInvalid
from client.places.layout import LayoutPlace
from client.places.layout_index import REF_NAME, LayoutIndex
from client.places.place import QUIETLY, Moving, Name, Place, Standing
from storage import durable
from storage.durable import FileSystem
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import ManifestInvalid, ManifestUnknown, RegistryError
from storage.oci.manifest import Manifest

_LOCK_RETRY_SECONDS = 0.05
# What a layout has before it is one.
_UNFINISHED = {"blobs", "partial", ".oci-layout.tmp"}


class _OpenFiles(FileSystem):
    """Files that others may read as far as the umask says: a layout is handed on, unlike our store."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


class OciLayout(LayoutPlace):
    """A layout directory, which is made when something is first written."""

    def __init__(self, root: Path, deadline: Deadline = QUIETLY.deadline) -> None:
        self.root = root
        self._disk = _OpenFiles()
        self._deadline = deadline
        self._directory = BlobDirectory(root, self._disk)
        super().__init__(f"oci:{root}", self._directory, self._read)

    def find(self, name: Name) -> Digest | None:
        with suppress(ManifestUnknown):
            return self._read().find(name, self.name).digest
        return None

    def has_manifest(self, descriptor: Descriptor) -> bool:
        if not self._directory.has(descriptor):
            return False
        try:
            manifest = self.manifest(descriptor)
        except (ContentMismatch, ManifestInvalid):
            return False  # damaged; it is written anew
        return all(map(self._directory.has, manifest.blobs))

    def standings(self, blobs: Sequence[Descriptor], source: Place) -> Sequence[Standing]:
        return [Standing.PRESENT if self._directory.has(each) else Standing.ABSENT for each in blobs]

    def write_blobs(self, blobs: Sequence[Descriptor], source: Place, moving: Moving) -> None:
        with self._writing():
            self._directory.fetch(blobs, source.sources(), moving)

    def put_child(self, manifest: Manifest) -> None:
        with self._writing():
            self._directory.write(manifest.body, manifest.digest)

    def put_root(self, manifest: Manifest, name: Name | None) -> None:
        self.put_child(manifest)
        annotations = {} if name is None else {REF_NAME: str(name)}
        self._change(
            lambda index: index.with_entry(
                Descriptor(manifest.media_type, manifest.digest, manifest.size, annotations=annotations)
            )
        )
        self._tidy()

    def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """List them in index.json without a name, where oras looks for them and collectors keep them."""

        def add(index: LayoutIndex) -> LayoutIndex:
            for each in referrers:
                index = index.with_entry(
                    Descriptor(each.media_type, each.digest, each.size, artifact_type=each.artifact_type)
                )
            return index

        self._change(add)

    def _read(self) -> LayoutIndex:
        """Return the index, an empty one where there is nothing yet. Raises PlaceInvalid for other things."""
        # In this order: who sees the index of one that is just made sees its version too.
        document, version = self._document("index.json"), self._document("oci-layout")
        if version is None and document is None and self._names() <= _UNFINISHED:
            return LayoutIndex()
        if version is None:
            raise PlaceInvalid(f"{self.root} is no OCI layout: it has no file oci-layout")
        layout_index.check_version(version, str(self.root))
        return LayoutIndex() if document is None else LayoutIndex.parse(document, str(self.root))

    def _document(self, name: str) -> bytes | None:
        path = self.root / name
        try:
            with disk_errors(path), path.open("rb") as file:
                document = file.read(layout_index.LIMIT + 1)
        except RegistryError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise
        if len(document) > layout_index.LIMIT:
            raise PlaceInvalid(f"{path} has more than {layout_index.LIMIT} bytes")
        return document

    def _names(self) -> set[str]:
        with disk_errors(self.root):
            return set(os.listdir(self.root)) if self.root.is_dir() else set()

    def _make(self) -> None:
        """Make the directory into a layout. Raises PlaceInvalid where other things are in it."""
        self._read()
        with disk_errors(self.root):
            (self.root / "blobs").mkdir(parents=True, exist_ok=True)
        if self._document("oci-layout") is not None:
            return
        with self._locked(self.root):
            if self._document("oci-layout") is None:
                self._write("oci-layout", layout_index.VERSION)

    def _change(self, change: Callable[[LayoutIndex], LayoutIndex]) -> None:
        """Replace index.json, at once for readers and without loss of what another process writes."""
        with self._locked(self.root):
            index = self._read()
            changed = change(index)
            if changed != index:
                with disk_errors(self.root):
                    # Those of the algorithms: what the index says is there is there after a power loss.
                    durable.sync_directory(self.root / "blobs", self._disk)
                self._write("index.json", changed.render())
        self.__dict__.pop("_referrers", None)

    def _write(self, name: str, document: bytes) -> None:
        temporary = self.root / f".{name}.tmp"
        with disk_errors(self.root / name):
            temporary.unlink(missing_ok=True)  # of a process that died; the lock is ours
            durable.write_file(temporary, self.root / name, document, self._disk)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep the directory of unfinished blobs from being tidied away."""
        self._make()
        with self._locked(self.root / "blobs", fcntl.LOCK_SH):
            yield

    def _tidy(self) -> None:
        """Take the directory of unfinished blobs away when it is empty and nobody is about to use it."""
        with disk_errors(self.root), _opened(self.root / "blobs") as fd:
            if _try_lock(fd, fcntl.LOCK_EX):
                with suppress(OSError):
                    (self.root / "partial").rmdir()

    @contextmanager
    def _locked(self, directory: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Hold an flock on a directory itself, so that nothing lies about afterwards."""
        with _opened(directory) as fd:
            while not _try_lock(fd, kind):
                self._deadline.sleep(_LOCK_RETRY_SECONDS)
            yield


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    with disk_errors(directory):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
