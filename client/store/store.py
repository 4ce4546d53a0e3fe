"""The store: what it holds, by name, by digest and by ID."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from client.partial import boot_id, disk_error, disk_errors
from client.store import index_file, rows
from client.store.directory import Directory
from client.store.errors import ImageIncomplete, ImageUnknown, StoreUnusable
from client.store.image import Image
from client.store.layers import Layers
from storage.database import Connection, Database, Migration, SchemaNewer, connect
from storage.durable import DISK
from storage.oci import media_types
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import InsufficientStorage, NameInvalid, RegistryError, Unavailable
from storage.oci.image_config import ImageConfig
from storage.oci.manifest import Manifest
from storage.oci.names import ImageReference
from storage.oci.platform import Platform, best_match

_MIGRATIONS = Path(__file__).parent / "schema"
_NESTING = 8
# What SQLite takes to open its file.
_LEAST_ROOM = 64 * 1024
_is_id = re.compile(r"(?:(?P<algorithm>sha256|sha512):)?(?P<hex>[0-9a-f]{2,128})").fullmatch


def default_root(environment: dict[str, str]) -> Path:
    """Return where the store is: CARGOHOLD_STORE, else /var/lib/cargohold for root, else the user's data."""
    if chosen := environment.get("CARGOHOLD_STORE"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/cargohold")
    data = (
        environment.get("XDG_DATA_HOME") or Path(environment.get("HOME") or "~").expanduser() / ".local/share"
    )
    return Path(data) / "cargohold"


def _open_database(path: Path) -> Database:
    try:
        return connect(f"sqlite:{path}", Migration.load(_MIGRATIONS))
    except SchemaNewer as error:
        raise StoreUnusable(str(error)) from error
    except Unavailable as error:
        match error.__cause__:
            case None:
                raise
            case OSError() as cause:
                raise disk_error(path, cause) from error
            case _ if DISK.free_bytes(path.parent) < _LEAST_ROOM:
                # It speaks of an I/O error when it has no room for its shared memory.
                raise InsufficientStorage(f"{path}: no space is left") from error
            case cause:
                raise StoreUnusable(f"{path}: {cause}: choose another store with --store") from error


class Store:
    """Images below a directory, for any number of processes of one user. Close it, or use it in a `with`.

    Raises StoreUnusable when it cannot be opened; DiskFailed, Unavailable and InsufficientStorage from every
    method.
    """

    def __init__(self, root: Path) -> None:
        self.directory = Directory(root)
        self.layers = Layers(self.directory)
        self.database = _open_database(self.directory.root / "state.db")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.database.close()

    # Content

    def read_blob(self, digest: Digest) -> bytes:
        """Read a small blob, checked. Raises ImageIncomplete when it is lost or damaged."""
        path = self.directory.blob(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ImageIncomplete(f"the store lacks {digest}: pull again") from error
        except OSError as error:
            with disk_errors(path):
                raise error from None
        if Digest.of(data, digest.algorithm) != digest:
            raise ImageIncomplete(f"{path} is damaged: `cargohold store check --repair` heals it")
        return data

    def write_blob(self, data: bytes, digest: Digest) -> None:
        """Keep a small blob, whose digest the caller has checked."""
        if not self.directory.has_blob(digest):
            self.directory.write(self.directory.blob(digest), data)

    def manifest(self, digest: Digest) -> Manifest:
        """Read a manifest that the store holds. Raises ManifestUnknown, ImageIncomplete."""
        media_type = self.descriptor(digest).media_type
        return Manifest.parse(media_type, self.read_blob(digest), digest.algorithm)

    def descriptor(self, digest: Digest) -> Descriptor:
        """Describe a manifest that the store holds. Raises ManifestUnknown."""
        return self.database.read(lambda connection: rows.descriptor(connection, digest))

    def has_manifest(self, digest: Digest) -> bool:
        return self.database.read(lambda connection: rows.has_manifest(connection, digest))

    # Names

    def find(self, text: str) -> Digest:
        """Return what a reference, a digest or an ID means: the digest of an image or of an index.

        An ID is the start of the digest of an image, an index or a configuration, with or without `sha256:`.
        Raises ImageUnknown; NameInvalid for an ID that several images share, and for what is no name.
        """
        if (found := self._find_by_name(text)) is not None:
            return found
        if matched := _is_id(text):
            prefix = f"{matched['algorithm'] or 'sha256'}:{matched['hex']}"
            found_by_id = self.database.read(lambda connection: rows.find_by_id(connection, prefix))
            if len(found_by_id) > 1:
                raise NameInvalid(f"several images have an ID that starts with {text}: give more of it")
            if found_by_id:
                return found_by_id[0]
        raise ImageUnknown(f"no image {text!r} in {self.directory.root}")

    def _find_by_name(self, text: str) -> Digest | None:
        try:
            reference = ImageReference.parse(text)
        except NameInvalid:
            if _is_id(text):
                return None
            raise
        if reference.digest is not None:
            return reference.digest if self.has_manifest(reference.digest) else None
        return self.find_name(reference)

    def find_name(self, reference: ImageReference) -> Digest | None:
        """Return what exactly this name means, which may be one with a digest; None for no image."""
        return self.database.read(lambda connection: rows.find_tag(connection, str(reference)))

    def names(self, digest: Digest) -> tuple[str, ...]:
        return tuple(self.database.read(lambda connection: rows.tags_of(connection, digest)))

    def names_of_part(self, digest: Digest) -> list[str]:
        """Return the names of an image, and of those that have it as a part."""
        return sorted(name for each in self.wholes(digest) for name in self.names(each))

    def wholes(self, digest: Digest) -> set[Digest]:
        """Return a manifest and the indexes that have it as a part."""

        def unit(connection: Connection) -> set[Digest]:
            found, todo = {digest}, [digest]
            while todo:
                new = set(rows.parents(connection, todo.pop())) - found
                found |= new
                todo += new
            return found

        return self.database.read(unit)

    # Images

    def image(self, text: str, platform: Platform | None = None) -> Image:
        """Return the image that a name, digest or ID means, for this machine's platform if there is a choice.

        Raises ImageUnknown, ImageIncomplete for a platform that the store does not hold, NameInvalid.
        """
        root = self.find(text)
        held = list(self.held(root))
        if not held:
            raise ImageIncomplete(f"the store has the index {text}, and none of its images: pull one")
        if platform is None and len(held) == 1:
            return held[0]
        chosen = best_match(platform or Platform.host(), [image.platform for image in held])
        if chosen is None:
            offered = ", ".join(str(image.platform) for image in held)
            raise ImageIncomplete(f"{text} is here for {offered} only: pull it with --platform {platform}")
        return held[chosen]

    def all(self) -> tuple[list[Image], list[RegistryError]]:
        """List what was pulled or loaded, newest first, of an index each image that is here.

        The errors are of images that cannot be read.
        """
        images: list[Image] = []
        problems: list[RegistryError] = []
        for root, added_at in self.database.read(rows.images):
            try:
                images += self.held(root, added_at)
            except RegistryError as error:
                problems.append(error)
        return images, problems

    def held(self, root: Digest, added_at: float = 0.0) -> Iterator[Image]:
        """Yield the images that are here of what a digest means."""
        names = self.names(root)
        for manifest in self._leaves(self.manifest(root), _NESTING):
            yield self._image(root, manifest, names, added_at)

    def _leaves(self, manifest: Manifest, depth: int) -> Iterator[Manifest]:
        if not media_types.is_index(manifest.media_type):
            yield manifest
            return
        for child in manifest.manifests if depth else ():
            if self.has_manifest(child.digest):
                yield from self._leaves(self.manifest(child.digest), depth - 1)

    def _image(self, root: Digest, manifest: Manifest, names: tuple[str, ...], added_at: float) -> Image:
        chain = self.chain(manifest.digest)
        config = None
        if manifest.config and media_types.is_image_config(manifest.config.media_type):
            config = ImageConfig.parse(self.read_blob(manifest.config.digest))
        return Image(root, manifest, config, names, added_at, chain, self.layers.content(*chain))

    def has_image(self, digest: Digest) -> bool:
        """Tell whether this was pulled or loaded for its own sake."""
        return self.database.read(lambda connection: rows.has_image(connection, digest))

    def chain(self, digest: Digest) -> tuple[Digest, ...]:
        """Return the chainIDs of an image's unpacked layers, lowest first."""
        return self.database.read(lambda connection: rows.chain_of(connection, digest))

    def stack(self, image: Image) -> tuple[Path, ...]:
        """Return the layers of an image to mount or to look into, uppermost first. Raises ImageIncomplete."""
        config = image.require_config()
        if len(image.chain) != len(config.diff_ids):
            raise ImageIncomplete(f"{image.manifest.digest} was not unpacked: pull it again")
        return self.layers.stack(image.chain)

    # Changes; the caller keeps collection away with `directory.shared()`.

    def add(
        self,
        root: Manifest,
        parts: Iterable[tuple[Manifest, Sequence[Digest]]],
        names: Iterable[ImageReference] = (),
    ) -> None:
        """Take in an image whose blobs and layers are there: `parts` are manifests with their chainIDs."""
        parts = list(parts)
        for manifest, _ in [*parts, (root, ())]:
            self.write_blob(manifest.body, manifest.digest)

        def unit(connection: Connection) -> None:
            for manifest, chain in [*parts, (root, ())]:
                rows.add_manifest(connection, manifest, chain)
            rows.add_image(connection, root.digest)
            for name in names:
                rows.set_tag(connection, str(name), root.digest)

        self.database.transaction(unit)
        index_file.write(self)

    def tag(self, digest: Digest, name: ImageReference) -> None:
        """Give an image a name, which moves if another has it. Raises ManifestUnknown."""

        def unit(connection: Connection) -> None:
            rows.descriptor(connection, digest)
            rows.add_image(connection, digest)
            rows.set_tag(connection, str(name), digest)

        self.database.transaction(unit)
        index_file.write(self)

    def untag(self, name: ImageReference) -> bool:
        """Take a name away; false when nothing has it."""
        removed = self.database.transaction(lambda connection: rows.remove_tag(connection, str(name)))
        index_file.write(self)
        return removed

    def forget(self, digest: Digest) -> None:
        """Take an image and its names away. Its content goes with the next collection."""
        self.database.transaction(lambda connection: rows.remove_image(connection, digest))
        index_file.write(self)

    # Leases: what is in use, at most until the machine starts again

    def lease(self, digest: Digest, purpose: str) -> None:
        """Keep an image from being collected or removed; `purpose` is unique, and says for what.

        Raises ManifestUnknown.
        """
        lease = rows.Lease(secrets.token_hex(8), digest, purpose, boot_id())

        def unit(connection: Connection) -> None:
            rows.descriptor(connection, digest)
            rows.remove_lease(connection, purpose)
            rows.add_lease(connection, lease)

        self.database.transaction(unit)

    def end_lease(self, purpose: str) -> bool:
        """Give a lease up; false when there was none."""
        return self.database.transaction(lambda connection: rows.remove_lease(connection, purpose))

    def leases(self) -> list[rows.Lease]:
        found = self.database.read(rows.leases)
        return [lease for lease in found if lease.boot == boot_id()]

    def end_leases_of_earlier_boots(self) -> None:
        self.database.transaction(lambda connection: rows.remove_leases_of_other_boots(connection, boot_id()))
