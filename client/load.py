"""Load: all images of an archive or layout into the store."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from client.clock import NEVER, Deadline
from client.places.place import Contents
from client.progress import Progress, silent
from client.pull import Pull, Pulled, PullOptions
from client.store.store import Store
from storage.oci.errors import DigestInvalid, ManifestUnknown, NameInvalid
from storage.oci.names import ImageReference


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that is in the store now; `name` is what it is called, if the archive calls it something."""

    name: ImageReference | None
    pulled: Pulled


def load(
    store: Store,
    place: Contents,
    options: PullOptions,
    progress: Progress = silent,
    deadline: Deadline = NEVER,
) -> Iterator[Loaded]:
    """Take in the images of a place on this disk, each under its own name, and of indexes what is there.

    Raises ManifestUnknown for a place without images, and what a pull raises.
    """
    options = replace(options, all_present=not options.platforms)
    contents = list(place.contents())
    if not contents:
        raise ManifestUnknown(f"{place.name} has no images")
    for text, digest in contents:
        name = _image_name(text or "")
        pull = Pull(store, place, options, progress, deadline)
        yield Loaded(name, pull.run(digest, [] if name is None else [name]))


def _image_name(text: str) -> ImageReference | None:
    """Read what a layout calls an image; a tag alone, as `latest`, says of no repository."""
    try:
        return ImageReference.parse(text) if "/" in text or ":" in text else None
    except (NameInvalid, DigestInvalid):
        return None
