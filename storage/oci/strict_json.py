"""JSON as only one reader could read it: hardened loading, and typed access to members."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from storage.oci.errors import ManifestInvalid

DEPTH_LIMIT = 64
NODE_LIMIT = 200_000
INTEGER_LIMIT = 2**63

_NUMBER_LENGTH_LIMIT = 64
# Possessive, and a match for every opening quote, so that no body makes it search twice.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACES_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def loads(body: bytes) -> Any:
    """Read one JSON text that every careful reader understands alike.

    Raises ManifestInvalid for anything but UTF-8 without a byte order mark, more than 64 levels or 200,000
    values, integers outside 64 bits, what is no number (NaN, 1e400), a member named twice, a lone surrogate.
    Source: RFC 8259; RFC 7493 (I-JSON) for the limits of what is interoperable.
    """
    _check_shape(body)
    try:
        text = body.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate has no UTF-8
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"not JSON in UTF-8: {error}") from error
    return value


def _check_shape(body: bytes) -> None:
    """Bound depth and number of values before anything is built from them."""
    openings = body.count(b"[") + body.count(b"{")
    if openings <= DEPTH_LIMIT and openings + body.count(b",") < NODE_LIMIT:
        return  # few enough even with those that stand in strings
    structure = _STRING.sub(b"", body)
    # Every value but the first follows an opening bracket or a comma (an empty array counts twice).
    if structure.count(b"[") + structure.count(b"{") + structure.count(b",") >= NODE_LIMIT:
        raise ManifestInvalid(f"JSON has more than {NODE_LIMIT} values")
    brackets = structure.translate(_BRACES_AS_BRACKETS, _ALL_BUT_BRACKETS)
    for _ in range(DEPTH_LIMIT):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")  # takes the innermost level away
    if brackets:
        raise ManifestInvalid(
            f"JSON is nested deeper than {DEPTH_LIMIT} levels, or its brackets do not match"
        )


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ManifestInvalid("a JSON object names a member twice")
    return members


def _bounded_integer(text: str) -> int:
    # The length comes first: reading thousands of digits takes quadratic time.
    if len(text) > _NUMBER_LENGTH_LIMIT or not -INTEGER_LIMIT <= (number := int(text)) < INTEGER_LIMIT:
        raise ManifestInvalid("a JSON integer does not fit into 64 bits")
    return number


def _finite_number(text: str) -> float:
    if len(text) > _NUMBER_LENGTH_LIMIT or not math.isfinite(number := float(text)):
        raise ManifestInvalid("a JSON number is out of range")
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise ManifestInvalid(f"{text} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_members,
    parse_int=_bounded_integer,
    parse_float=_finite_number,
    parse_constant=_refuse_constant,
)


def members(value: object, known: frozenset[str], where: str) -> Mapping[str, Any]:
    """Take `value` as an object whose member names nobody can confuse with the `known` ones.

    Go programs match member names in any case: to them `Digest`, beside or instead of `digest`, is the
    digest. Raises ManifestInvalid for such a name, and for a value that is no object.
    """
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where} is not an object")
    names = value.keys()
    if names <= known:
        return value
    folded = {name.casefold(): name for name in names}
    if len(folded) != len(names):
        raise ManifestInvalid(f"{where} has two members whose names differ only by case")
    for name in known:
        spelled = folded.get(name.casefold(), name)
        if spelled != name:
            raise ManifestInvalid(
                f"{where} has a member {spelled[:50]!r}, which some readers take for {name!r}"
            )
    return value


def string(container: Mapping[str, Any], name: str, where: str) -> str | None:
    """Read an optional text; absent, null and empty are None, as Go programs write all three."""
    value = container.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise ManifestInvalid(f"{where}.{name} is not a string")


def array(container: Mapping[str, Any], name: str, where: str) -> list[Any]:
    """Read an optional array; null is an empty one, as Go programs write it."""
    value = container.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ManifestInvalid(f"{where}.{name} is not an array")
    return value


def strings(container: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """Read an optional array of texts."""
    values = array(container, name, where)
    if not all(isinstance(value, str) for value in values):
        raise ManifestInvalid(f"{where}.{name} is not an array of strings")
    return tuple(values)


def string_map(container: Mapping[str, Any], name: str, where: str) -> dict[str, str]:
    """Read an optional object of texts. Source: image-spec annotations.md, "Rules"."""
    value = container.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ManifestInvalid(f"{where}.{name} is not an object of strings")
    return value
