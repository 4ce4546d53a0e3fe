"""Take images out of the store: their names first, then, with the last one, what they are made of."""

from dataclasses import dataclass

from client.store import collection
from client.store.collection import Garbage
from client.store.errors import ImageInUse, StoreBusy
from client.store.store import Store
from storage.oci.digest import Digest
from storage.oci.errors import NameInvalid, ReferenceConflict
from storage.oci.names import ImageReference


@dataclass(frozen=True, slots=True)
class Removed:
    """The names that are gone, and the image with them, if that was its last one."""

    names: tuple[str, ...]
    digest: Digest | None


def remove(store: Store, text: str, *, force: bool = False) -> Removed:
    """Remove the name `text`; or the image of a digest or ID, with all its names if `force` is set.

    Raises ImageUnknown; ReferenceConflict for an image with several names; ImageInUse.
    """
    with store.directory.shared():
        digest = _image(store, text)
        names = store.names(digest)
        name = _name(text)
        if len(names) > 1 and name is not None and str(name) in names:
            store.untag(name)
            return Removed((str(name),), None)
        if len(names) > 1 and not force:
            listed = ", ".join(names)
            raise ReferenceConflict(f"{text} has several names: remove one, or all with --force: {listed}")
        _check_unused(store, digest, text)
        store.forget(digest)
        return Removed(names, digest)


def sweep(store: Store, *, wait: bool = False) -> Garbage | None:
    """Remove what nothing needs any more; None when others are at work, who leave it to the next time."""
    try:
        return collection.collect(store, wait=wait)
    except StoreBusy:
        return None


def _image(store: Store, text: str) -> Digest:
    """Return what was pulled or loaded: an ID leads to the image itself, which may be part of an index."""
    digest = store.find(text)
    images = sorted(filter(store.has_image, store.wholes(digest)), key=str)
    if len(images) > 1 and digest not in images:
        raise ReferenceConflict(f"{text} is part of several images: remove them by their names")
    return digest if digest in images or not images else images[0]


def _name(text: str) -> ImageReference | None:
    try:
        return ImageReference.parse(text)
    except NameInvalid:
        return None


def _check_unused(store: Store, digest: Digest, text: str) -> None:
    uses = [lease.purpose for lease in store.leases() if lease.digest == digest]
    if uses:
        raise ImageInUse(f"{text} is {uses[0]}: end that first")
