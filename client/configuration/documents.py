"""JSON and TOML files that remember on which line each of their values stands."""

import json
import logging
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.errors import ConfigurationInvalid

FILE_LIMIT = 4 * 1024 * 1024

Place = tuple[str | int, ...]

_json_token = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
_toml_key = re.compile(
    r"""\s*((?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*="""
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Where something is said: a file and a line, or in words."""

    place: str
    line: int | None = None

    def __str__(self) -> str:
        return self.place if self.line is None else f"{self.place}:{self.line}"


@dataclass(frozen=True, slots=True)
class Document:
    """The object that a file holds, and where its values stand."""

    name: str
    members: Mapping[str, Any]
    lines: Mapping[Place, int] = field(repr=False)

    def source(self, *place: str | int) -> Source:
        """Say where a value stands, or the nearest thing around it whose line is known."""
        for size in range(len(place), 0, -1):
            if place[:size] in self.lines:
                return Source(self.name, self.lines[place[:size]])
        return Source(self.name)

    def error(self, message: str, *place: str | int) -> ConfigurationInvalid:
        return ConfigurationInvalid(f"{self.source(*place)}: {message}")

    def text(self, *place: str | int, default: str = "") -> str:
        """Return a string. Raises ConfigurationInvalid when it is something else."""
        return str(self._typed(str, default, place))

    def flag(self, *place: str | int, default: bool = False) -> bool:
        return bool(self._typed(bool, default, place))

    def table(self, *place: str | int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._typed(dict, {}, place)
        return found

    def tables(self, *place: str | int) -> int:
        """Return how many tables an array has. Raises ConfigurationInvalid unless it has tables alone."""
        found = self._typed(list, [], place)
        if not all(isinstance(each, dict) for each in found):
            raise self.error(f"{place[-1]} is not an array of tables", *place)
        return len(found)

    def texts(self, *place: str | int) -> tuple[str, ...]:
        """Return a list of strings; one string stands for a list of one."""
        found = self._value(place)
        if isinstance(found, str):
            return (found,)
        if found is None:
            return ()
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise self.error(f"{place[-1]} is not a list of strings", *place)
        return tuple(found)

    def _typed(self, kind: type, default: Any, place: Place) -> Any:
        found = self._value(place)
        if found is None:
            return default
        if not isinstance(found, kind):
            raise self.error(f"{place[-1]} is not a {_KINDS[kind]}", *place)
        return found

    def _value(self, place: Place) -> Any:
        value: Any = self.members
        for step in place:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value


_KINDS = {str: "string", bool: "boolean", dict: "table", list: "list"}


def read_json(path: Path) -> Document | None:
    """Read a JSON object from a file, None when there is no such file. Raises ConfigurationInvalid."""
    text = _read(path)
    return None if text is None else parse_json(str(path), text)


def read_toml(path: Path) -> Document | None:
    """Read a TOML file, None when there is no such file. Raises ConfigurationInvalid."""
    text = _read(path)
    if text is None:
        return None
    members = _parsed(str(path), text, tomllib.loads)
    return Document(str(path), members, dict(_toml_lines(text)))


def parse_json(name: str, text: str) -> Document:
    """Read a JSON object; `name` is what messages call its file."""
    members = _parsed(name, text, json.loads)
    if not isinstance(members, dict):
        raise ConfigurationInvalid(f"{name}: not a JSON object")
    return Document(name, members, dict(_json_lines(text)))


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
        if len(data) > FILE_LIMIT:
            raise ConfigurationInvalid(f"{path}: larger than {FILE_LIMIT} bytes")
        return data.decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        # The system's files may be closed to ordinary users, whose programs go on without them.
        log.warning("configuration cannot be read", extra={"path": str(path)})
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error}") from error


def _parsed(name: str, text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except json.JSONDecodeError as error:
        raise ConfigurationInvalid(f"{name}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationInvalid(f"{name}: {error}") from error


def _json_lines(text: str) -> Iterator[tuple[Place, int]]:
    """Yield the line of every value of a valid JSON text: of its name, or of itself in an array."""
    # What encloses the next value: a name in an object (None before it comes), or an index in an array.
    stack: list[str | int | None] = []
    line, position, expects_name = 1, 0, False
    for token in _json_token.finditer(text):
        line += text.count("\n", position, token.start())
        position = token.start()
        mark = token[0]
        if mark in "{[":
            yield from _here(stack, line)
            stack.append(None if mark == "{" else 0)
            expects_name = mark == "{"
        elif mark in "}]":
            stack.pop()
            expects_name = False
        elif mark == ",":
            top = stack[-1]
            stack[-1] = top + 1 if isinstance(top, int) else None
            expects_name = not isinstance(top, int)
        elif mark != ":":
            if expects_name:
                stack[-1] = str(json.loads(mark))
                expects_name = False
                yield from _here(stack, line)
            elif stack and isinstance(stack[-1], int):
                yield from _here(stack, line)


def _here(stack: list[str | int | None], line: int) -> Iterator[tuple[Place, int]]:
    place = tuple(step for step in stack if step is not None)
    if place:
        yield place, line


def _toml_lines(text: str) -> Iterator[tuple[Place, int]]:
    """Yield the line of every table and key as far as they begin a line, which is how people write them."""
    table: Place = ()
    counts: dict[Place, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            header = _toml_path(line.strip())
            if header is None:
                continue
            is_array = line.lstrip().startswith("[[")
            table = _with_indexes(header, counts, is_array)
            yield table, number
        elif match := _toml_key.match(line):
            key = _toml_path(f"{match[1]} = 0")
            if key is not None:
                yield (*table, *key), number


def _toml_path(line: str) -> tuple[str, ...] | None:
    """Return the names that one header or key spells."""
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None  # inside of a value that has several lines
    path = []
    while value:
        if isinstance(value, list):
            value = value[0]
            continue
        if not isinstance(value, dict):
            break
        ((name, value),) = value.items()
        path.append(name)
    return tuple(path)


def _with_indexes(header: tuple[str, ...], counts: dict[Place, int], is_array: bool) -> Place:
    """Put in which element of each array of tables a header belongs to."""
    place: Place = ()
    for position, name in enumerate(header):
        place = (*place, name)
        if is_array and position == len(header) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place
