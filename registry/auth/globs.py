"""Patterns of repository names and of tags: anchored, case-sensitive, matched in linear time.

`*` stands for any characters of one path component, `**` for components: `library/**` is all below library,
`**/debug` is debug anywhere. `{user}` is the component that the caller is named after.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Self

from storage.oci.digest import ALGORITHMS
from storage.oci.names import RepositoryName, Tag

USER = "{user}"

_LIMIT = 255
_is_component = re.compile(r"[a-z0-9._*-]+").fullmatch
_is_tag_pattern = re.compile(r"[A-Za-z0-9._*-]{1,128}").fullmatch
# Source: distribution-spec spec.md, "Referrers Tag Schema"; the endings are cosign's.
_is_fallback = re.compile(rf"(?:{'|'.join(ALGORITHMS)})-[a-f0-9]{{64}}(?:\.(?:sig|att|sbom))?").fullmatch


class GlobInvalid(ValueError):
    """A pattern outside the grammar; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class RepositoryGlob:
    """A pattern of repository names."""

    text: str
    _compiled: "re.Pattern[str]" = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pattern, as in `team/**`. Raises GlobInvalid."""
        return cls(text, _compile(text))

    @property
    def names_user(self) -> bool:
        return USER in self.text

    def matches(self, name: RepositoryName, user: str = "") -> bool:
        """Say whether the pattern means a repository; `user` is who asks, empty when it is no user."""
        found = self._compiled.match(name.value)
        if found is None:
            return False
        return not self.names_user or (user != "" and found["user"] == user)

    @property
    def literal_length(self) -> int:
        """Count the characters that are no wildcards: of two patterns the longer is the more exact."""
        return len(self.text.replace("*", ""))

    def __str__(self) -> str:
        return self.text


def without_user(glob: RepositoryGlob) -> RepositoryGlob:
    """Return a pattern that means the same whoever asks. Raises GlobInvalid for one with `{user}`."""
    if glob.names_user:
        raise GlobInvalid(f"{USER} has no meaning here: {glob.text!r} is the same for everybody")
    return glob


@dataclass(frozen=True, slots=True)
class TagGlob:
    """A pattern of tags, with `*` only."""

    text: str
    _compiled: "re.Pattern[str]" = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pattern, as in `v*`. Raises GlobInvalid."""
        if not _is_tag_pattern(text):
            raise GlobInvalid(f"not a pattern of tags: {text[:150]!r}; it has letters, digits, . _ - and *")
        return cls(text, re.compile(_component(text, ".") + r"\Z"))

    def matches(self, tag: Tag) -> bool:
        return self._compiled.match(tag.value) is not None

    def __str__(self) -> str:
        return self.text


def is_referrers_fallback(tag: Tag) -> bool:
    """Say whether a tag is a client's own list of referrers, rewritten with each of them."""
    return _is_fallback(tag.value) is not None


@lru_cache(maxsize=1024)
def _compile(text: str) -> "re.Pattern[str]":
    """Translate a pattern whose parts can never be tried twice in different ways.

    Between two wildcards the first place that fits is as good as any later one, so everything up to it is an
    atomic group: matching never goes back more than one wildcard, whatever the pattern (no ReDoS).
    """
    components = text.split("/")
    _check(text, components)
    runs: list[list[str]] = [[]]
    for component in components:
        if component == "**":
            runs.append([])
        else:
            runs[-1].append(_part(component))
    return re.compile("".join(_path(runs)) + r"\Z")


def _path(runs: list[list[str]]) -> Iterable[str]:
    """Join runs of components: what lies between two of them is `**`."""
    first, *middle = runs
    if not middle:
        yield "/".join(first)
        return
    yield "".join(f"{part}/" for part in first)
    *inner, last = middle
    for run in inner:
        yield rf"(?>(?:[^/]+/)*?{'/'.join(run)}/)"
    # Behind the last `**` stands the end; a pattern that ends with it wants something there.
    yield rf"(?:[^/]+/)*{'/'.join(last)}" if last else ".+"


def _part(component: str) -> str:
    return "(?P<user>[^/]+)" if component == USER else _component(component, "[^/]")


def _component(text: str, any_character: str) -> str:
    first, *rest = (re.escape(chunk) for chunk in re.sub(r"\*+", "*", text).split("*"))
    if not rest:
        return first
    *inner, last = rest
    return first + "".join(f"(?>{any_character}*?{chunk})" for chunk in inner) + f"{any_character}*{last}"


def _check(text: str, components: list[str]) -> None:
    if len(text) > _LIMIT:
        raise GlobInvalid(f"a pattern may have {_LIMIT} characters")
    if text != text.lower():
        raise GlobInvalid(f"no repository matches {text!r}: names have no upper case")
    if not all(map(_is_part, components)):
        raise GlobInvalid(
            f"not a pattern of repositories: {text!r}; between slashes are names, *, ** or {USER}"
        )
    if ("**", "**") in pairwise(components):
        raise GlobInvalid(f"two ** in a row say no more than one: {text!r}")
    if USER in components and USER in components[_end_of_fixed(components) :]:
        raise GlobInvalid(f"{USER} may stand once, before any **: {text!r}")


def _is_part(component: str) -> bool:
    return component in ("**", USER) or ("**" not in component and _is_component(component) is not None)


def _end_of_fixed(components: list[str]) -> int:
    """Return how many components have a fixed place and may be the user's name."""
    return min(
        components.index(stop) + offset for stop, offset in (("**", 0), (USER, 1)) if stop in components
    )
