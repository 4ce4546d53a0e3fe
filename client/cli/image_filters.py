"""The filters of `images` and `prune`, in docker's words."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from time import time
from typing import Self

import click

from client.store.image import Image
from client.store.store import Store
from storage.oci.errors import RegistryError
from storage.oci.names import ImageReference

Accepts = Callable[[Image], bool]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Filters:
    """All must accept an image, of those with the same key one."""

    by_key: dict[str, list[Accepts]]
    patterns: tuple[str, ...]
    wants_dangling: bool

    @classmethod
    def parse(cls, texts: tuple[str, ...], store: Store, name: str | None = None) -> Self:
        """Read KEY=VALUE texts, and a name or pattern of `images NAME`. Raises UsageError."""
        by_key: dict[str, list[Accepts]] = {}
        patterns = [] if name is None else [name]
        for text in texts:
            key, equals, value = text.partition("=")
            if key == "reference" and equals:
                patterns.append(value)
                continue
            make = _FILTERS.get(key)
            if not equals or make is None:
                keys = " or ".join([*_FILTERS, "reference"])
                raise click.UsageError(f"--filter: not {keys} with a value: {text!r}")
            try:
                by_key.setdefault(key, []).append(make(value, store))
            except ValueError as error:
                raise click.UsageError(f"--filter {text}: {error}") from error
        return cls(by_key, tuple(patterns), "dangling=true" in texts)

    def accepts(self, image: Image) -> bool:
        if self.patterns and not self.names(image):
            return False
        return all(any(accepts(image) for accepts in choices) for choices in self.by_key.values())

    def names(self, image: Image) -> list[ImageReference]:
        """Return those of an image's names that are asked for."""
        names = [ImageReference.parse(name) for name in image.names]
        return [
            name for name in names if not self.patterns or any(_matches(name, each) for each in self.patterns)
        ]


def _dangling(value: str, _store: Store) -> Accepts:
    if value not in ("true", "false"):
        raise ValueError("write true or false")
    return lambda image: bool(image.names) != (value == "true")


def _label(value: str, _store: Store) -> Accepts:
    key, equals, wanted = value.partition("=")

    def accepts(image: Image) -> bool:
        labels = image.config.execution.labels if image.config else {}
        return key in labels and (not equals or labels[key] == wanted)

    return accepts


def _matches(name: ImageReference, pattern: str) -> bool:
    """Compare a pattern with every form of a name that people use, with and without tag and host."""
    bare = ImageReference(name.host, name.repository)
    forms = {str(name), name.familiar(), str(bare), bare.familiar()}
    return any(fnmatchcase(form, pattern) for form in forms)


def _before(value: str, store: Store) -> Accepts:
    limit = _created(_find(value, store))
    return lambda image: _created(image) < limit


def _since(value: str, store: Store) -> Accepts:
    limit = _created(_find(value, store))
    return lambda image: _created(image) > limit


def _until(value: str, _store: Store) -> Accepts:
    limit = moment(value)
    return lambda image: _created(image) < limit


def _find(value: str, store: Store) -> Image:
    try:
        return store.image(value)
    except RegistryError as error:
        raise ValueError(error.message) from error


def _created(image: Image) -> float:
    """Return when an image was made, in seconds since 1970; when it came where it does not say."""
    try:
        return _timestamp(datetime.fromisoformat((image.config and image.config.created) or ""))
    except ValueError:
        return image.added_at


def moment(text: str) -> float:
    """Read a time: RFC 3339, seconds since 1970, or how long ago, as in 24h or 7d. Raises ValueError."""
    if text[-1:] in _UNITS and text[:-1].isdigit():
        return time() - int(text[:-1]) * _UNITS[text[-1]]
    if text.isdigit():
        return float(text)
    try:
        return _timestamp(datetime.fromisoformat(text))
    except ValueError:
        raise ValueError("write a time as 2026-01-31T12:00:00Z, or how long ago, as 24h or 7d") from None


def _timestamp(when: datetime) -> float:
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


_FILTERS: dict[str, Callable[[str, Store], Accepts]] = {
    "dangling": _dangling,
    "label": _label,
    "before": _before,
    "since": _since,
    "until": _until,
}
