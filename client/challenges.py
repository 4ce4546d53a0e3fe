"""WWW-Authenticate: which authentication a registry asks for.

Source: RFC 9110, 11.6.1; distribution's docs/spec/auth/token.md.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_scheme = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?=[ \t,]|\Z)")
_token68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|\Z)")
_parameter = re.compile(
    r"""([A-Za-z0-9!#$%&'*+.^_`|~-]+)[ \t]*=[ \t]*
        (?:"((?:[^"\\]|\\.)*)"|([A-Za-z0-9!#$%&'*+.^_`|~:/?=@-]+))[ \t]*""",
    re.VERBOSE | re.DOTALL,
)
_separators = re.compile(r"[ \t,]*")
_escape = re.compile(r"\\(.)", re.DOTALL)

BEARER = "bearer"
BASIC = "basic"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate; scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse(lines: Iterable[str]) -> tuple[Challenge, ...]:
    """Read the challenges of all WWW-Authenticate lines, several a line too, in their order.

    Never raises: what cannot be read ends its line, and what came before it stands.
    """
    return tuple(challenge for line in lines for challenge in _of_line(line))


def _of_line(line: str) -> Iterator[Challenge]:
    position = 0
    while scheme := _scheme.match(line, _skip_separators(line, position)):
        position, parameters = _read_parameters(line, scheme.end())
        yield Challenge(scheme[0].lower(), parameters)


def _read_parameters(line: str, position: int) -> tuple[int, dict[str, str]]:
    """Read `name=value` pairs up to the next scheme; of a name that comes twice, the first stands."""
    parameters: dict[str, str] = {}
    start = position
    while line[position : position + 1] in (" ", "\t"):
        position += 1
    if position > start and (opaque := _token68.match(line, position)):
        return opaque.end(), parameters
    while pair := _parameter.match(line, position):
        name, quoted, plain = pair.groups()
        value = plain if quoted is None else _escape.sub(r"\1", quoted)
        parameters.setdefault(name.lower(), value)
        position = pair.end()
        if line[position : position + 1] != ",":
            break
        position = _skip_separators(line, position)
    return position, parameters


def _skip_separators(line: str, position: int) -> int:
    match = _separators.match(line, position)
    return match.end() if match else position
