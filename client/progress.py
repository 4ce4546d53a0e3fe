"""What happens during a transfer, told while it happens: for bars, for lines, for NDJSON."""

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storage.oci.digest import Digest
from storage.oci.names import ImageReference


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    def to_json(self) -> dict[str, Any]:
        """Return the event as an object whose `event` is its kind; docs/progress.md lists them all."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"event": type(self).__name__.lower()} | {
            name: str(value) if isinstance(value, Digest | ImageReference) else value
            for name, value in fields.items()
        }


@dataclass(frozen=True, slots=True)
class Pulling(Event):
    """An image is fetched; its blobs follow."""

    reference: ImageReference


@dataclass(frozen=True, slots=True)
class Done(Event):
    """All that belongs to an image is there; `is_new` unless nothing was missing."""

    reference: ImageReference
    digest: Digest
    is_new: bool


@dataclass(frozen=True, slots=True)
class BlobEvent(Event):
    """Something that happened to one blob."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Planned(BlobEvent):
    """A blob of `size` bytes is wanted; all of them are told before the first one starts."""

    size: int


@dataclass(frozen=True, slots=True)
class Waiting(BlobEvent):
    """Another process fetches this blob; what it leaves is used."""


@dataclass(frozen=True, slots=True)
class Started(BlobEvent):
    """A blob of `size` bytes is fetched, of which `done` were there from an earlier time; or sent away."""

    size: int
    done: int
    is_upload: bool = False


@dataclass(frozen=True, slots=True)
class Advanced(BlobEvent):
    """`done` bytes are there now."""

    done: int


@dataclass(frozen=True, slots=True)
class Retried(BlobEvent):
    """A source broke off or was left for the next one, after `seconds`; `reason` is for people."""

    host: str
    reason: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Restarted(BlobEvent):
    """The bytes had another digest and were thrown away."""


@dataclass(frozen=True, slots=True)
class Finished(BlobEvent):
    """The blob is whole and verified: `fetched`, `pushed`, `mounted`, `embedded`, or `present` before."""

    size: int
    how: str


@dataclass(frozen=True, slots=True)
class Unpacking(BlobEvent):
    """The layer in the blob is unpacked, by us or by another process."""


@dataclass(frozen=True, slots=True)
class Unpacked(BlobEvent):
    """The layer in the blob is unpacked and verified; `entries` are the tar's."""

    entries: int


@dataclass(frozen=True, slots=True)
class Failed(BlobEvent):
    """The blob could not be had now; what arrived of it is kept for the next time."""

    reason: str


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Tell nobody."""


def one_at_a_time(progress: Progress) -> Progress:
    """Return what may be told from several threads."""
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            progress(event)

    return tell
