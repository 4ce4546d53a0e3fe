"""A bundle on the disk: a directory with config.json beside rootfs, closed to others (UNP-10)."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from client.bundle import users
from client.bundle.configuration import configuration, volume_places
from client.bundle.defaults import Json
from client.bundle.errors import BundleRefused
from client.bundle.options import BundleOptions, Volumes, normal
from client.bundle.user_namespace import wide_enough
from client.mounts import unmount_below
from client.partial import disk_errors
from client.store.flat import making
from client.unpack.options import Ownership
from client.unpack.reading import read_file
from client.view.errors import PathUnknown
from client.view.extraction import copy
from client.view.view import View
from storage.durable import DIRECTORY_MODE, write_file
from storage.oci.image_config import ImageConfig

_ROOT, _VOLUMES, _CONFIGURATION = "rootfs", "volumes", "config.json"


def write_bundle(
    directory: Path, image: ImageConfig, fill: Callable[[Path], object], options: BundleOptions | None = None
) -> None:
    """Make a bundle at `directory`, which is missing or empty; it appears there when it is whole.

    `fill` makes the root file system in the empty directory it is given: unpacks a flat tree, or mounts one.
    The image's users are looked up in that. After an error nothing is left; what cargohold mounted is
    unmounted. Raises BundleRefused, RequestInvalid for a directory that is not empty, DiskFailed,
    InsufficientStorage, UnpackError, and what `fill` raises.
    """
    options = options or BundleOptions()
    # What is wrong with the image itself is told before anything is unpacked.
    configuration(image, users.User(0, 0), options, {})
    with making(Path(os.path.realpath(directory))) as bundle:
        try:
            _fill(bundle, image, fill, options)
        except BaseException:
            unmount_below(bundle)
            raise


def _fill(bundle: Path, image: ImageConfig, fill: Callable[[Path], object], options: BundleOptions) -> None:
    root = bundle / _ROOT
    root.mkdir(DIRECTORY_MODE)
    fill(root)
    text = options.user if options.user is not None else image.execution.user
    user = users.resolve(text or "", partial(read_file, root))
    if options.user_namespace is not None:
        options = replace(options, user_namespace=wide_enough(options.user_namespace, user.uid, user.gid))
    with disk_errors(bundle):
        volumes = _make_volumes(bundle, image, options)
        document = configuration(image, user, options, volumes)
        write_file(bundle / ".config", bundle / _CONFIGURATION, _encoded(document))


def _encoded(document: Json) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


def _make_volumes(bundle: Path, image: ImageConfig, options: BundleOptions) -> dict[str, str]:
    """Make a directory for each volume, filled from the image; return them by place in the container."""
    if options.volumes is not Volumes.DIRECTORIES:
        return {}
    bound = {normal(bind.destination) for bind in options.binds}
    volumes = {}
    for number, place in enumerate(place for place in volume_places(image) if place not in bound):
        (bundle / _VOLUMES).mkdir(DIRECTORY_MODE, exist_ok=True)
        volumes[place] = f"{_VOLUMES}/{number}"
        _make_volume(bundle, bundle / volumes[place], place)
    return volumes


def _make_volume(bundle: Path, directory: Path, place: str) -> None:
    directory.mkdir(DIRECTORY_MODE)
    ownership = Ownership.REAL if os.geteuid() == 0 else Ownership.RECORDED
    with View([bundle / _ROOT], ownership) as view:
        try:
            found = view.find(place.encode())
        except PathUnknown:
            # As the runtime makes the place itself. The umask is not the container's.
            directory.chmod(0o755)
            return
        if not found.is_directory:
            raise BundleRefused(f"the image wants a volume at {place}, where it has no directory")
        copy(view, found, directory, archive=True, bare=True)
