"""Pull: from where images lie into the local store, verified and unpacked."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from client.clock import NEVER, Deadline
from client.partial import PartialFiles, disk_errors
from client.places.place import Name, Place
from client.progress import Done, Event, Finished, Planned, Progress, Pulling, one_at_a_time, silent
from client.store import index_file
from client.store.errors import ImageIncomplete
from client.store.store import Store
from client.store.unpacking import Unpacker, default_options, layers_of
from client.store.usage import disk_bytes
from client.transfer import Transfer
from client.unpack.options import Options
from storage.durable import DISK
from storage.oci import media_types
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import InsufficientStorage, ManifestInvalid, ManifestUnknown, Unsupported
from storage.oci.image_config import ImageConfig
from storage.oci.manifest import Manifest
from storage.oci.names import ImageReference
from storage.oci.platform import Platform, best_match

_NESTING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """`platforms` are what to take of an index: this machine's when it is empty.

    `all_platforms` takes all, `all_present` those that are there, as a sparse copy of an index lacks some.
    """

    platforms: tuple[Platform, ...] = ()
    all_platforms: bool = False
    all_present: bool = False
    unpack: bool = True
    foreign: bool = False
    """Whether to fetch layers that their owner wants to be had from elsewhere, from where it says."""
    unpacking: Options = field(default_factory=default_options)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a reference meant, and whether anything of it or of its name is new here."""

    digest: Digest
    is_new: bool
    names: tuple[ImageReference, ...] = ()

    @property
    def name(self) -> str:
        """What it is called here: its first name, or its digest."""
        return str(self.names[0]) if self.names else str(self.digest)


@dataclass(frozen=True, slots=True)
class PullPlan:
    """What a pull would do; the sizes of blobs are bytes to transfer."""

    digest: Digest
    platforms: tuple[str, ...]
    present: tuple[Descriptor, ...]
    to_fetch: tuple[Descriptor, ...]
    to_unpack: tuple[Digest, ...]

    @property
    def bytes(self) -> int:
        return sum(blob.size for blob in self.to_fetch)

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": str(self.digest),
            "platforms": list(self.platforms),
            "present": [blob.to_json() for blob in self.present],
            "fetch": [blob.to_json() for blob in self.to_fetch],
            "bytes": self.bytes,
            "unpack": [str(chain_id) for chain_id in self.to_unpack],
        }


@dataclass(frozen=True, slots=True)
class Part:
    """An image or artifact to take in; only an image has a configuration that we know."""

    manifest: Manifest
    config: ImageConfig | None

    def blobs(self, *, foreign: bool) -> tuple[Descriptor, ...]:
        """Return its blobs but for the configuration that was read, and foreign ones if they are wanted."""
        distinct = {blob.digest: blob for blob in self.manifest.blobs}
        if self.config is not None and self.manifest.config is not None:
            del distinct[self.manifest.config.digest]
        distinct |= {layer.digest: layer for layer in self.manifest.layers if foreign or not layer.is_foreign}
        return tuple(distinct.values())

    @property
    def chain(self) -> tuple[Digest, ...]:
        return self.config.chain_ids if self.config else ()


class Pull:
    """Takes images from one place into a store."""

    def __init__(
        self,
        store: Store,
        place: Place,
        options: PullOptions,
        progress: Progress = silent,
        deadline: Deadline = NEVER,
    ) -> None:
        self._store = store
        self._place = place
        self._options = options
        self._progress = one_at_a_time(progress)
        self._deadline = deadline

    def run(self, reference: Digest | Name | None, names: Sequence[ImageReference]) -> Pulled:
        """Pull what a reference means there, and give it names here, last of all.

        Raises ManifestUnknown, also for a platform that is not offered; ContentMismatch, UnpackError; others
        of Session. After any of them the names mean what they meant before, and blobs that are whole or on
        their way wait for the next pull.
        """
        for name in names:
            self._progress(Pulling(name))
        with self._store.directory.shared():
            pulled = self._run(reference, names)
        for name in names:
            self._progress(Done(name, pulled.digest, pulled.is_new))
        return pulled

    def _run(self, reference: Digest | Name | None, names: Sequence[ImageReference]) -> Pulled:
        root = self._resolve(reference)
        if self._is_here(root, names):
            index_file.write(self._store)  # which a crash may have kept from it
            return Pulled(root.digest, is_new=False, names=tuple(names))
        parts = [self._part(each) for each in choose(self._place.manifest, root, self._options)]
        self._take(parts)
        chains = [(part.manifest, part.chain if self._options.unpack else ()) for part in parts]
        self._store.add(root, chains, names)
        return Pulled(root.digest, is_new=True, names=tuple(names))

    def _resolve(self, reference: Digest | Name | None) -> Manifest:
        """Fetch what is meant, unless it is what the store has. A tag may move meanwhile (CLI-05)."""
        digest = self._place.head(reference)
        if digest is not None and self._store.has_manifest(digest):
            with suppress(ImageIncomplete):
                return self._store.manifest(digest)
        return self._place.resolve(reference)

    def plan(self, reference: Digest | Name | None) -> "PullPlan":
        """Say what a pull would move and unpack; manifests and configurations are fetched for it."""
        with self._store.directory.shared():
            root = self._place.resolve(reference)
            parts = [self._part(each) for each in choose(self._place.manifest, root, self._options)]
            blobs = {
                blob.digest: blob for part in parts for blob in part.blobs(foreign=self._options.foreign)
            }
            has = self._store.directory.has_blob
            chains = dict.fromkeys(chain_id for part in parts for chain_id in part.chain)
            return PullPlan(
                root.digest,
                tuple(str(part.config.platform) for part in parts if part.config),
                tuple(blob for blob in blobs.values() if has(blob.digest)),
                tuple(blob for blob in blobs.values() if not has(blob.digest)),
                tuple(self._store.layers.missing(list(chains)) if self._options.unpack else ()),
            )

    def heal(self, digest: Digest) -> None:
        """Fetch and unpack again what the store has lost of one of its manifests."""
        with self._store.directory.shared():
            if not self._store.directory.has_blob(digest):
                found = self._place.manifest(self._store.descriptor(digest))
                self._store.write_blob(found.body, digest)
            manifest = self._store.manifest(digest)
            if not media_types.is_index(manifest.media_type):
                self._take([self._part(manifest)])

    def _is_here(self, root: Manifest, names: Sequence[ImageReference]) -> bool:
        """Tell whether the names mean this already, and all that is wanted of it is whole."""
        store = self._store
        if any(store.find_name(name) != root.digest for name in names) or not store.has_image(root.digest):
            return False
        try:
            parts = list(choose(lambda child: store.manifest(child.digest), root, self._options))
        except (ManifestUnknown, ImageIncomplete):
            return False
        return all(self._is_whole(manifest) for manifest in parts)

    def _is_whole(self, manifest: Manifest) -> bool:
        directory = self._store.directory
        blobs = Part(manifest, None).blobs(foreign=self._options.foreign)
        if not all(directory.has_blob(blob.digest) for blob in blobs):
            return False
        if not self._options.unpack or not is_file_system(manifest):
            return True
        chain = self._part(manifest).chain
        return chain == self._store.chain(manifest.digest) and not self._store.layers.missing(chain)

    def _part(self, manifest: Manifest) -> Part:
        if manifest.config is None or not is_file_system(manifest):
            return Part(manifest, None)
        if not self._store.directory.has_blob(manifest.config.digest):
            self._fetch([manifest.config], silent)
        config = ImageConfig.parse(self._store.read_blob(manifest.config.digest))
        _check_platform(manifest, config, self._options)
        return Part(manifest, config)

    def _take(self, parts: Sequence[Part]) -> None:
        """Fetch the blobs of the parts, and unpack each layer as soon as it is there."""
        directory = self._store.directory
        foreign = self._options.foreign
        blobs = {blob.digest: blob for part in parts for blob in part.blobs(foreign=foreign)}
        self._check_space(blobs.values())
        for blob in blobs.values():
            self._progress(Planned(blob.digest, blob.size))
        with Unpacker(directory, self._options.unpacking, self._progress, self._deadline) as unpacker:
            for part in parts if self._options.unpack else ():
                if part.config is not None:
                    self._check_foreign(part)
                    unpacker.add(layers_of(part.manifest, part.config))

            def tell(event: Event) -> None:
                self._progress(event)
                if isinstance(event, Finished):
                    unpacker.blob_is_there(event.digest)
                if (failure := unpacker.failure) is not None:
                    raise failure

            self._fetch(blobs.values(), tell)
            unpacker.finish()

    def _fetch(self, blobs: Iterable[Descriptor], progress: Progress) -> None:
        directory = self._store.directory
        sinks = PartialFiles(directory.partial, directory.blobs)
        Transfer(sinks, progress, deadline=self._deadline).fetch(blobs, self._place.sources())

    def _check_foreign(self, part: Part) -> None:
        wanted = {blob.digest for blob in part.blobs(foreign=self._options.foreign)}
        missing = [layer for layer in part.manifest.layers if layer.digest not in wanted]
        if any(not self._store.directory.has_blob(layer.digest) for layer in missing):
            raise Unsupported(
                f"{part.manifest.digest} has layers that their owner gives out elsewhere only: "
                "fetch them with --foreign, or do without with --no-unpack"
            )

    def _check_space(self, blobs: Iterable[Descriptor]) -> None:
        """Refuse before the first byte what cannot end well. Each blob is looked at again by its sink."""
        root = self._store.directory.root
        wanted = sum(blob.size for blob in blobs if not self._store.directory.has_blob(blob.digest))
        with disk_errors(root):
            free = DISK.free_bytes(root)
            partial = sum(disk_bytes(each) for each in self._store.directory.partial.glob("*.part"))
        if wanted - partial > free:
            raise InsufficientStorage(
                f"{root}: the image's blobs need {wanted - partial} bytes more, and {free} are free",
                free=free,
            )


Fetch = Callable[[Descriptor], Manifest]


def choose(fetch: Fetch, root: Manifest, options: PullOptions) -> Iterator[Manifest]:
    """Yield the images to take of an index, or the image itself.

    Raises ManifestUnknown, naming what is offered; ManifestInvalid for indexes nested too deep.
    """
    chosen = {root.digest: root}
    for _ in range(_NESTING):
        if not any(media_types.is_index(manifest.media_type) for manifest in chosen.values()):
            yield from chosen.values()
            return
        chosen = {
            each.digest: each for manifest in chosen.values() for each in _open(fetch, manifest, options)
        }
    raise ManifestInvalid(f"{root.digest} has indexes within indexes, more than {_NESTING} deep")


def _open(fetch: Fetch, manifest: Manifest, options: PullOptions) -> Iterator[Manifest]:
    if not media_types.is_index(manifest.media_type):
        yield manifest
        return
    if options.all_present:
        for child in manifest.manifests:
            with suppress(ManifestUnknown):
                yield fetch(child)
        return
    for child in manifest.manifests if options.all_platforms else _suitable(manifest, options):
        yield fetch(child)


def _suitable(index: Manifest, options: PullOptions) -> Iterator[Descriptor]:
    offered = [child.platform for child in index.manifests]
    for wanted in options.platforms or (Platform.host(),):
        found = best_match(wanted, offered)
        if found is None:
            names = ", ".join(sorted({str(platform) for platform in offered if platform and platform.os}))
            raise ManifestUnknown(f"{index.digest} has no image for {wanted}, but for: {names or 'nothing'}")
        yield index.manifests[found]


def is_file_system(manifest: Manifest) -> bool:
    """Tell whether this is an image that can be unpacked: buildkit's attestations only look like one."""
    has_config = manifest.config is not None and media_types.is_image_config(manifest.config.media_type)
    return has_config and all(media_types.is_layer(layer.media_type) for layer in manifest.layers)


def _check_platform(manifest: Manifest, config: ImageConfig, options: PullOptions) -> None:
    """Refuse another platform's image when one was asked for. Without a wish any image will do."""
    if options.platforms and all(best_match(each, [config.platform]) is None for each in options.platforms):
        wanted = ", ".join(map(str, options.platforms))
        raise ManifestUnknown(f"{manifest.digest} is for {config.platform}, not for {wanted}")
