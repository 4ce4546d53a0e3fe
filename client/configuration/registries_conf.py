"""podman's registries.conf, version 2. Source: containers-registries.conf(5)."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from client.configuration.documents import Document, Source, read_toml

_PULLS = ("all", "digest-only", "tag-only")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Location:
    """A place that holds a registry's repositories: a host with perhaps a path, as in m.example:5000/hub."""

    location: str
    source: Source
    is_insecure: bool = False
    # What may be pulled from it.
    pulls: str = "all"


@dataclass(frozen=True, slots=True)
class Registry:
    """What is said about the references that begin with `prefix`."""

    prefix: str
    origin: Location
    mirrors: tuple[Location, ...]
    is_blocked: bool
    source: Source

    def match(self, name: str) -> int:
        """Return how much of a host and path the prefix covers, 0 for none of it."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0]
            return len(host) if host.partition(":")[0].endswith(self.prefix[1:]) else 0
        if name == self.prefix or name.startswith((f"{self.prefix}/", f"{self.prefix}:", f"{self.prefix}@")):
            return len(self.prefix)
        return 0

    def rewrite(self, location: Location, name: str) -> str:
        """Return the host and path under which a location has what `name` is called elsewhere."""
        if not location.location:
            return name  # a wildcard's own host
        return location.location + name[self.match(name) :]


@dataclass(frozen=True, slots=True)
class RegistriesConf:
    registries: tuple[Registry, ...] = ()
    search: tuple[str, ...] = ()
    search_source: Source | None = None
    short_name_mode: str = "permissive"
    aliases: dict[str, tuple[str, Source]] = field(default_factory=dict)

    def find(self, name: str) -> Registry | None:
        """Return what is said about a host and path: the longest prefix counts."""
        matching = [each for each in self.registries if each.match(name)]
        return max(matching, key=lambda each: (each.match(name), each.prefix), default=None)


def read(paths: Iterable[Path]) -> RegistriesConf:
    """Read the main file and what is added to it; later files win, a registry or alias at a time.

    Raises ConfigurationInvalid.
    """
    registries: dict[str, Registry] = {}
    search: tuple[str, ...] = ()
    search_source, mode, aliases = None, "permissive", {}
    for path in paths:
        document = read_toml(path)
        if document is None:
            continue
        if isinstance(document.members.get("registries"), dict):
            log.warning("registries.conf of version 1 is not read", extra={"path": str(path)})
            continue
        for index in range(document.tables("registry")):
            registry = _registry(document, index)
            registries[registry.prefix] = registry
        if "unqualified-search-registries" in document.members:
            search = document.texts("unqualified-search-registries")
            search_source = document.source("unqualified-search-registries")
        mode = document.text("short-name-mode", default=mode)
        for alias in document.table("aliases"):
            aliases[alias] = (document.text("aliases", alias), document.source("aliases", alias))
    return RegistriesConf(tuple(registries.values()), search, search_source, mode, aliases)


def _registry(document: Document, index: int) -> Registry:
    place = ("registry", index)
    location = document.text(*place, "location").rstrip("/")
    prefix = document.text(*place, "prefix", default=location).rstrip("/")
    if not location and not prefix.startswith("*."):
        location = prefix
    if not prefix:
        raise document.error("a registry has neither location nor prefix", *place)
    digests_only = document.flag(*place, "mirror-by-digest-only")
    mirrors = tuple(
        _mirror(document, (*place, "mirror", number), "digest-only" if digests_only else "all")
        for number in range(document.tables(*place, "mirror"))
    )
    source = document.source(*place)
    is_insecure = document.flag(*place, "insecure")
    origin = Location(location, document.source(*place, "location"), is_insecure)
    return Registry(prefix.lower(), origin, mirrors, document.flag(*place, "blocked"), source)


def _mirror(document: Document, place: tuple[str | int, ...], default: str) -> Location:
    location = document.text(*place, "location").rstrip("/")
    if not location:
        raise document.error("a mirror has no location", *place)
    pulls = document.text(*place, "pull-from-mirror", default=default)
    if pulls not in _PULLS:
        raise document.error(
            f"pull-from-mirror is not one of {', '.join(_PULLS)}", *place, "pull-from-mirror"
        )
    return Location(location, document.source(*place), document.flag(*place, "insecure"), pulls)
