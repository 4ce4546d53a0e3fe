"""A template as pieces: text, and actions of tokens. Source: Go's text/template, "Text and spaces"."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

_SPACES = " \t\r\n"

_token = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
      | (?P<number>[+-]?\d+(?:\.\d+)?(?![\w.]))
      | (?P<variable>\$\w*)
      | (?P<field>\.[^\W\d]\w*)
      | (?P<dot>\.(?!\w))
      | (?P<word>[^\W\d]\w*)
      | (?P<mark>:=|[|(),=])
    )""",
    re.VERBOSE,
)


class TemplateFailed(Exception):
    """A template that is no part of what we know, or that does not fit its data."""


class Token(NamedTuple):
    """`glued` tells whether it follows the one before without a space, as a field follows what it is of."""

    kind: str
    text: str
    glued: bool

    @property
    def value(self) -> Any:
        """The value of a literal."""
        if self.kind == "number":
            return float(self.text) if "." in self.text else int(self.text)
        if self.text.startswith("`"):
            return self.text[1:-1]
        try:
            return json.loads(self.text, strict=False)
        except ValueError as error:
            raise TemplateFailed(f"cannot read the string {self.text}") from error


@dataclass(frozen=True, slots=True)
class Action:
    """What stands between {{ and }}."""

    source: str
    tokens: tuple[Token, ...]


def pieces(template: str) -> Iterator[str | Action]:
    """Yield text and actions; `{{-` and `-}}` have taken the spaces beside them away."""
    position, trims = 0, False
    while (start := template.find("{{", position)) >= 0:
        text = template[position:start]
        stop = _end(template, start)
        inner = template[start + 2 : stop]
        trims_before = inner.startswith("-") and inner[1:2] in tuple(_SPACES)
        trims_after = len(inner) > 1 and inner.endswith("-") and inner[-2] in _SPACES
        text = text.lstrip(_SPACES) if trims else text
        if text := text.rstrip(_SPACES) if trims_before else text:
            yield text
        inner = inner[trims_before : len(inner) - trims_after].strip()
        if not (inner.startswith("/*") and inner.endswith("*/")):
            yield Action(inner, tuple(_tokens(inner)))
        position, trims = stop + 2, trims_after
    rest = template[position:]
    if rest := rest.lstrip(_SPACES) if trims else rest:
        yield rest


def _end(template: str, start: int) -> int:
    """Find the }} of an action, which may have some in its strings."""
    inside = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|/\*.*?\*/|\}\}|.', re.DOTALL)
    for found in inside.finditer(template, start + 2):
        if found[0] == "}}":
            return found.start()
    raise TemplateFailed(f"an action is not closed: {template[start : start + 40]}")


def _tokens(action: str) -> Iterator[Token]:
    position = 0
    while position < len(action):
        found = _token.match(action, position)
        if found is None:
            raise TemplateFailed(f"cannot read {action[position:].strip()[:40]!r}")
        kind = str(found.lastgroup)
        yield Token(kind, found[kind], found.start(kind) == position and position > 0)
        position = found.end()
