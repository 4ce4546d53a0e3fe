"""What happens during a transfer, told while it happens: for bars, for lines, for NDJSON."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from storage.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to one blob."""

    digest: Digest

    def to_json(self) -> dict[str, Any]:
        """Return the event as an object whose `event` is its kind."""
        return {"event": _kind(self), **asdict(self), "digest": str(self.digest)}


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """Another process fetches this blob; what it leaves is used."""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A blob of `size` bytes is fetched, of which `done` were there from an earlier time."""

    size: int
    done: int


@dataclass(frozen=True, slots=True)
class Advanced(Event):
    """`done` bytes are there now."""

    done: int


@dataclass(frozen=True, slots=True)
class Retried(Event):
    """A source broke off or was left for the next one; `reason` is for people."""

    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class Restarted(Event):
    """The bytes had another digest and were thrown away."""


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The blob is whole and verified: `fetched` now, `present` before, or `embedded` in its descriptor."""

    size: int
    how: str


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The blob could not be had now; what arrived of it is kept for the next time."""

    reason: str


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Tell nobody."""


def _kind(event: Event) -> str:
    return type(event).__name__.lower()
