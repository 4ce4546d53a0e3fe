"""The functions of templates: Go's own, and those that docker and regctl add.

Source: Go's text/template, "Functions"; docker/cli's templates package.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from client.cli.template.lex import TemplateFailed

NO_VALUE = "<no value>"

# What a terminal could obey, and what JSON need not escape.
_unsafe = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_verb = re.compile(r"%(?P<flags>[-+0# ]*)(?P<width>\d*)(?P<precision>\.\d+)?(?P<verb>.)", re.DOTALL)


class Open(dict[str, Any]):
    """A Go map: keys are data, not fields, and one that is absent is nothing."""


def truth(value: Any) -> bool:
    """Tell what `if` makes of a value: nothing, zero and empty are false."""
    return bool(value)


def shown(value: Any) -> str:
    """Write a value as Go's print does."""
    match value:
        case None:
            return NO_VALUE
        case bool():
            return "true" if value else "false"
        case Open():
            return f"map[{' '.join(f'{key}:{shown(value[key])}' for key in sorted(value))}]"
        case Mapping():
            return f"{{{' '.join(map(shown, value.values()))}}}"
        case list() | tuple():
            return f"[{' '.join(map(shown, value))}]"
        case float():
            return f"{value:.17g}" if value != int(value) else str(int(value))
    return str(value)


def to_json(value: Any, **layout: Any) -> str:
    """Write JSON as Go does: keys of a map sorted, those of a struct not, and no character that acts."""
    text = json.dumps(_sorted(value), ensure_ascii=False, **layout)
    return _unsafe.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        keys = sorted(value) if isinstance(value, Open) else list(value)
        return {key: _sorted(value[key]) for key in keys}
    return [_sorted(each) for each in value] if isinstance(value, list | tuple) else value


def _json(value: Any) -> str:
    return to_json(value, separators=(",", ":"))


def _json_pretty(value: Any) -> str:
    return to_json(value, indent=2)


def _index(container: Any, *keys: Any) -> Any:
    for key in keys:
        match container, key:
            case Mapping(), str() if key in container:
                container = container[key]
            case Open(), str():
                return ""  # the zero value of a map of strings
            case Mapping(), str():
                raise TemplateFailed(f"index: no {key!r} there")
            case list() | tuple(), int() if not isinstance(key, bool):
                if not 0 <= key < len(container):
                    raise TemplateFailed(f"index: {key} is out of range")
                container = container[key]
            case _:
                raise TemplateFailed(f"index: {shown(container)[:40]!r} has no {key!r}")
    return container


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping | list | tuple):
        return len(value)
    raise TemplateFailed(f"len: {shown(value)[:40]!r} has no length")


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateFailed("eq: there is nothing to compare with")
    return any(_is_equal(first, other) for other in others)


def _ne(first: Any, second: Any) -> bool:
    return not _is_equal(first, second)


def _is_equal(first: Any, second: Any) -> bool:
    kinds = {type(each) for each in (first, second) if each is not None}
    if len(kinds) > 1 or not kinds <= {str, int, float, bool}:
        raise TemplateFailed(f"eq: {shown(first)[:40]!r} and {shown(second)[:40]!r} cannot be compared")
    return bool(first == second)


def _printf(pattern: Any, *values: Any) -> str:
    if not isinstance(pattern, str):
        raise TemplateFailed("printf: the format is not a string")
    left = list(values)

    def written(found: re.Match[str]) -> str:
        if found["verb"] == "%":
            return "%"
        if not left:
            raise TemplateFailed(f"printf: no value for {found[0]}")
        return _formatted(found, left.pop(0))

    text = _verb.sub(written, pattern)
    if left:
        raise TemplateFailed(f"printf: {len(left)} values too many")
    return text


def _formatted(found: re.Match[str], value: Any) -> str:
    flags, width, precision, verb = found["flags"], found["width"], found["precision"] or "", found["verb"]
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    match verb:
        case "v":
            text = shown(value)
        case "s" if isinstance(value, str):
            text = value[: int(precision[1:])] if precision else value
        case "q" if isinstance(value, str):
            text = to_json(value)
        case "t" if isinstance(value, bool):
            text = shown(value)
        case "d" | "x" if is_integer:
            text = format(value, f"{'+' if '+' in flags else ''}{verb}")
        case "f" if isinstance(value, int | float):
            text = format(value, f"{precision or '.6'}f")
        case _:
            raise TemplateFailed(f"printf: {found[0]} does not fit {shown(value)[:40]!r}")
    if "-" in flags:
        return text.ljust(int(width or 0))
    return text.zfill(int(width or 0)) if "0" in flags else text.rjust(int(width or 0))


def _println(*values: Any) -> str:
    return " ".join(map(shown, values)) + "\n"


def _texts(name: str, *values: Any) -> None:
    for value in values:
        if not isinstance(value, str):
            raise TemplateFailed(f"{name}: {shown(value)[:40]!r} is not a string")


def _join(values: Any, separator: Any = "") -> str:
    if values is None:
        return ""
    if not isinstance(values, list | tuple):
        raise TemplateFailed(f"join: {shown(values)[:40]!r} is not a list")
    _texts("join", separator, *values)
    return str(separator).join(values)


def _split(value: Any, separator: Any) -> list[str]:
    _texts("split", value, separator)
    return str(value).split(separator) if separator else list(value)


def _lower(value: Any) -> str:
    _texts("lower", value)
    return str(value).lower()


def _upper(value: Any) -> str:
    _texts("upper", value)
    return str(value).upper()


def _trim_space(value: Any) -> str:
    _texts("trimSpace", value)
    return str(value).strip()


def _not(value: Any) -> bool:
    return not truth(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _eq,
    "index": _index,
    "join": _join,
    "json": _json,
    "jsonPretty": _json_pretty,
    "len": _len,
    "lower": _lower,
    "ne": _ne,
    "not": _not,
    "printf": _printf,
    "println": _println,
    "split": _split,
    "trimSpace": _trim_space,
    "upper": _upper,
}
# These look at their arguments one after the other, and stop where the answer is known.
LAZY = ("and", "or")
