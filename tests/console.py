"""The console blocks of a document, run as a reader would, one after the other in one directory.

A line that starts with `$ ` is a command; those after it are all that it prints, and `...` alone on a line is
any lines. What differs from run to run is compared as if it were the same: digests, ids, ages, megabytes, and
how many spaces part columns; a document may have more of that, which is `varying`.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_VARYING = re.compile(
    r"\b[0-9a-f]{12}\b|\b[0-9a-f]{64}\b|\b\d+ (?:month|year|day|week|hour)s? ago|\b[\d.]+MB"
)
_SPACES = re.compile(r" +")
_NOTHING = re.compile("(?!)")


@dataclass(frozen=True, slots=True)
class Example:
    command: str
    output: str

    def matches(self, printed: str, varying: "re.Pattern[str]" = _NOTHING) -> bool:
        expected, found = (_plain(varying.sub("*", text)) for text in (self.output, printed))
        pattern = re.escape(expected).replace(re.escape("...\n"), "(?:.*\n)*?")
        return re.fullmatch(pattern, found) is not None


def _plain(text: str) -> str:
    return _SPACES.sub(" ", _VARYING.sub("*", text))


def examples(document: Path) -> Iterator[Example]:
    """Yield the examples of a document in their order."""
    for language, text in blocks(document):
        if language == "console":
            yield from examples_of(text)


def blocks(document: Path) -> list[tuple[str, str]]:
    """Return the fenced blocks of a document: language and text."""
    return _BLOCK.findall(document.read_text())


def examples_of(block: str) -> Iterator[Example]:
    """Yield the examples of one console block."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Example(command, output)


def run(example: Example, directory: Path, environment: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Run a command and return all that it printed; `names` are the document's for what there is here."""
    command = example.command
    for written, real in names.items():
        command = command.replace(written, real)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=directory,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        timeout=60,
    )
    # What ends without a newline stands before the next prompt all the same.
    printed = done.stdout if done.stdout[-1:] in ("", "\n") else f"{done.stdout}\n"
    for written, real in names.items():
        printed = printed.replace(real, written)
    return printed
