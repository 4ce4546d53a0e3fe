"""The client as a library.

    from pathlib import Path

    from client.api import Client

    with Client() as client:
        client.pull("registry.example/team/app:1.4")
        client.bundle("registry.example/team/app:1.4", Path("app"))

Every method raises errors of storage.oci.errors, client.errors and client.unpack.errors. Whatever it raises,
names mean what they meant before, and what was transferred is kept for the next time.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from client import copy as copying
from client import mounts
from client.bundle.bundle import write_bundle
from client.bundle.options import BundleOptions
from client.clock import Deadline
from client.configuration.credentials import StoredCredentials
from client.configuration.paths import Paths
from client.copy import CopyResult
from client.copy_plan import Plan
from client.endpoints import NO_OVERRIDES, Overrides
from client.errors import ContentMismatch
from client.hosts import Hosts
from client.load import Loaded, load
from client.mounts import MountOptions
from client.network import Network
from client.places import archive, docker_archive, names
from client.places.local_store import local_store
from client.places.names import Location
from client.places.oci_layout import OciLayout
from client.places.opening import Opener
from client.places.place import Contents, Moving, Name, Place, RefName, Target
from client.places.registry import RegistryPlace
from client.progress import Progress, silent
from client.proxies import Proxies
from client.pull import Pull, Pulled, PullOptions, PullPlan
from client.push import Pushed, outgoing
from client.remove import Removed, remove
from client.repair import repair
from client.sessions import Sessions
from client.store import collection, flat
from client.store.check import Check, Problem
from client.store.collection import Garbage
from client.store.image import Image
from client.store.store import Store, default_root
from client.store.unpacking import default_options
from client.store.usage import Usage, usage
from client.unpack.options import Ownership
from client.unpack.stats import LayerStats
from client.view.extraction import extract
from client.view.view import View
from storage.oci.digest import Digest
from storage.oci.errors import ManifestUnknown, NameUnknown, RegistryError
from storage.oci.names import ImageReference
from storage.oci.platform import Platform

T = TypeVar("T")


@contextmanager
def connect(overrides: Overrides = NO_OVERRIDES, deadline: Deadline | None = None) -> Iterator[Opener]:
    """Reach registries as this user's configuration says, and `overrides` for the one that is named."""
    paths = Paths()
    hosts = Hosts(paths, overrides)
    deadline = deadline or Deadline.after(None)
    network = Network(deadline=deadline, proxies=Proxies.from_environment(os.environ), tls=hosts.tls)
    with Sessions(StoredCredentials(paths), network) as sessions:
        yield Opener(hosts, sessions, deadline)


class Client:
    """Images at registries and in the local store. Close it, or use it in a `with`.

    Without a `store` it is the user's own; without an `opener` registries are reached as `connect` does.
    """

    def __init__(
        self, store: Path | None = None, opener: Opener | None = None, progress: Progress = silent
    ) -> None:
        self._exit = ExitStack()
        self._root = store or default_root(dict(os.environ))
        self._opener = opener or self._exit.enter_context(connect())
        self._progress = progress
        self._store: Store | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._exit.close()

    @property
    def store(self) -> Store:
        """The local store, made when it is first needed."""
        if self._store is None:
            self._store = self._exit.enter_context(Store(self._root))
        return self._store

    # Between registries, files and the store

    def pull(self, reference: str, options: PullOptions | None = None) -> Pulled:
        """Bring an image from its registry, or a mirror of it, into the store, verified and unpacked."""

        def work(pull: Pull, name: ImageReference) -> Pulled:
            return pull.run(name.reference, [stored_name(name)])

        return self._first(reference, options, work)

    def plan_pull(self, reference: str, options: PullOptions | None = None) -> PullPlan:
        """Say what a pull would transfer and unpack."""
        return self._first(reference, options, lambda pull, name: pull.plan(name.reference))

    def push(
        self,
        source: str,
        target: str | None = None,
        *,
        platform: Platform | None = None,
        referrers: bool = True,
    ) -> Pushed:
        """Push an image of the store to a registry, under its own name or another."""
        location = names.parse(target or source)
        options = copying.Options(referrers=referrers, moving=self._moving)
        with self.store.directory.shared(), self._opener.target(location) as place:
            chosen = outgoing(self.store, source, platform)
            store = local_store(self.store, chosen.digest)
            result = copying.copy(store, chosen.digest, place, location.name, options)
        return Pushed(result, chosen.left_out)

    def copy(self, source: str, target: str, options: copying.Options | None = None) -> CopyResult:
        """Copy between registries, layouts and archives; the store has no part in it."""
        options = options or copying.Options(moving=self._moving)
        with self._copying(source, target, options) as (plan, place, to):
            return copying.run(plan, place, to, options)

    def plan_copy(self, source: str, target: str, options: copying.Options | None = None) -> Plan:
        """Say what a copy would move."""
        try:
            with self._copying(source, target, options or copying.Options(moving=self._moving)) as (
                plan,
                _,
                _,
            ):
                raise _OnlyPlanned(plan)
        except _OnlyPlanned as planned:
            return planned.plan

    def save(self, references: Sequence[str], target: Location, platform: Platform | None = None) -> None:
        """Write images of the store into an archive or layout, under their names and with their digests."""
        with self.store.directory.shared(), self._opener.target(target) as place:
            for text in references:
                held = tuple(image.platform for image in self.store.held(self.store.find(text)))
                wanted = (platform,) if platform else tuple(each for each in held if each)
                options = copying.Options(platforms=wanted, moving=self._moving)
                copying.copy(
                    local_store(self.store), self.store.find(text), place, self._saved_name(text), options
                )

    def load(self, path: Path, options: PullOptions | None = None) -> Iterator[Loaded]:
        """Take all images of an archive, docker's or an OCI layout's, or of a layout into the store.

        A path of `-` is an archive from stdin.
        """
        with self._contents(path) as place:
            yield from load(self.store, place, options or PullOptions(), self._progress, self._deadline)

    # In the store

    def image(self, reference: str, platform: Platform | None = None) -> Image:
        return self.store.image(reference, platform)

    def images(self) -> list[Image]:
        return self.store.all()[0]

    def tag(self, source: str, target: ImageReference) -> Digest:
        """Give an image another name."""
        with self.store.directory.shared():
            digest = self.store.find(source)
            self.store.tag(digest, target)
        return digest

    def remove(self, reference: str, *, force: bool = False) -> Removed:
        """Take a name away, and the image with its last one. `collect` frees the space."""
        return remove(self.store, reference, force=force)

    def collect(self, images: Sequence[Digest] = (), *, wait: bool = False) -> Garbage:
        """Forget images, and remove what nothing needs any more."""
        return collection.collect(self.store, images, wait=wait)

    def usage(self) -> Usage:
        """Measure what the store takes of the disk."""
        return usage(self.store)

    def check(self, *, quick: bool = False) -> list[Problem]:
        """Compare the store with what its names promise."""
        return Check(self.store, self._deadline, quick=quick).problems()

    def repair(self, problems: Sequence[Problem]) -> list[RegistryError]:
        """Fetch and unpack again what a check found wrong; return why some of it could not be had."""
        return repair(self.store, problems, self._place, self._progress, self._deadline)

    # Files

    def unpack(self, reference: str, target: Path, platform: Platform | None = None) -> list[LayerStats]:
        """Unpack an image into a new directory: all of it or nothing."""
        with self.store.directory.shared():
            image = self.store.image(reference, platform)
            return flat.unpack(self.store, image, target, default_options(), self._deadline)

    def extract(
        self, reference: str, path: str, target: Path, platform: Platform | None = None
    ) -> Mapping[str, int]:
        """Copy a file or directory of an image into a directory; return what was left out, and how often."""
        target.mkdir(parents=True, exist_ok=True)
        with self.view(reference, platform) as view:
            return extract(view, os.fsencode(path), target, archive=os.geteuid() == 0)

    def bundle(
        self,
        reference: str,
        target: Path,
        options: BundleOptions | None = None,
        platform: Platform | None = None,
    ) -> list[LayerStats]:
        """Make an OCI runtime bundle of an image: config.json and rootfs, for runc and others to start."""
        with self.store.directory.shared():
            image = self.store.image(reference, platform)
            config = image.require_config()
            unpack = default_options()
            layers: list[LayerStats] = []
            write_bundle(
                target,
                config,
                lambda root: layers.extend(flat.apply(self.store, image, root, unpack, self._deadline)),
                options,
            )
        return layers

    def mount(
        self,
        reference: str,
        target: Path,
        options: MountOptions | None = None,
        platform: Platform | None = None,
    ) -> None:
        """Mount an image, read-only, at an empty directory; it stays in the store until `unmount`."""
        with self.store.directory.shared():
            image = self.store.image(reference, platform)
            stack = self.store.stack(image)
            purpose = _mounted_at(target)
            self.store.lease(image.root, purpose)
            try:
                mounts.mount(stack, target, options=options or MountOptions())
            except BaseException:
                self.store.end_lease(purpose)
                raise

    def unmount(self, target: Path, *, lazy: bool = False) -> None:
        """End a mount, or what is left of one that ended with its mount namespace."""
        purpose = _mounted_at(target)
        if mounts.is_mounted(target) or not self.store.end_lease(purpose):
            mounts.unmount(target, lazy=lazy)
            self.store.end_lease(purpose)

    @contextmanager
    def view(self, reference: str, platform: Platform | None = None) -> Iterator[View]:
        """Look into an image's files without a mount."""
        with self.store.directory.shared():
            image = self.store.image(reference, platform)
            with View(self.store.stack(image), self._ownership(image)) as view:
                yield view

    # How

    @property
    def _deadline(self) -> Deadline:
        return self._opener.deadline

    @property
    def _moving(self) -> Moving:
        return Moving(self._progress, deadline=self._deadline)

    def _first(
        self, reference: str, options: PullOptions | None, work: Callable[[Pull, ImageReference], T]
    ) -> T:
        """Do it with the first of all registries that a short name may mean which has the image."""
        *candidates, last = self._opener.hosts.expand(reference)
        for candidate in candidates:
            try:
                return work(self._pull(candidate, options), candidate)
            except (ManifestUnknown, NameUnknown):
                continue
        return work(self._pull(last, options), last)

    def _pull(self, name: ImageReference, options: PullOptions | None) -> Pull:
        return Pull(self.store, self._place(name), options or PullOptions(), self._progress, self._deadline)

    def _place(self, name: ImageReference) -> RegistryPlace:
        return RegistryPlace(self._opener.sessions, self._opener.hosts.route(name))

    @contextmanager
    def _contents(self, path: Path) -> Iterator[Contents]:
        if path.is_dir():
            yield OciLayout(path, self._deadline)
            return
        with archive.opened(path, self.store.directory.root) as tar:
            yield docker_archive.read(tar)

    @contextmanager
    def _copying(
        self, source: str, target: str, options: copying.Options
    ) -> Iterator[tuple[Plan, Place, Target]]:
        location = names.parse(target)
        with self._opener.source(names.parse(source)) as found, self._opener.target(location) as place:
            plan = copying.plan(found.place, found.reference, place, location.name, options)
            if isinstance(location.reference, Digest) and plan.root.digest != location.reference:
                raise ContentMismatch(f"{source} is {plan.root.digest}, which cannot be called {target}")
            yield plan, found.place, place

    def _saved_name(self, text: str) -> Name | None:
        """Return the whole name under which an image is written; none where it was found by an ID."""
        found = [name for name in self.store.names(self.store.find(text)) if _is_name(text, name)]
        return RefName(found[0]) if found else None

    def _ownership(self, image: Image) -> Ownership:
        records = [self.store.layers.record(chain_id) for chain_id in image.chain[:1]]
        return Ownership(records[0].ownership) if records else Ownership.REAL


class _OnlyPlanned(Exception):
    """Ends a copy before anything is written: an archive is only there when its block ends without one."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


def stored_name(name: ImageReference) -> ImageReference:
    """Return what a pulled image is called: pulled by digest it has that name, whatever tag stood beside."""
    return ImageReference(name.host, name.repository, None if name.digest else name.tag, name.digest)


def _is_name(text: str, name: str) -> bool:
    try:
        return str(ImageReference.parse(text)) == name
    except RegistryError:
        return False


def _mounted_at(target: Path) -> str:
    return f"mounted at {os.path.realpath(target)}"
