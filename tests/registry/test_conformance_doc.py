"""docs/conformance.md: each requirement is on a line, is met, and names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent
LEVELS = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"}


class Requirement(NamedTuple):
    section: str
    text: str
    level: str
    status: str
    shown_by: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", self.shown_by)


def requirements() -> list[Requirement]:
    section, found = "", []
    for line in (ROOT / "docs/conformance.md").read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith("| requirement"):
            found.append(Requirement(section, *(cell.strip() for cell in line.strip("|").split("|"))))
    return found


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


REQUIREMENTS = requirements()


def test_the_document_has_every_section_of_the_specification() -> None:
    assert len(REQUIREMENTS) > 120
    assert len({each.section for each in REQUIREMENTS}) == 15


@pytest.mark.parametrize("each", REQUIREMENTS, ids=[f"{each.section}: {each.text}" for each in REQUIREMENTS])
def test_a_requirement_is_met_and_shown(each: Requirement) -> None:
    assert each.level in LEVELS
    assert each.text.endswith(".")
    if each.level == "MAY":
        assert each.status in ("used", "not used")
    else:
        assert each.status in ("held", "no case"), "nothing is open"
    assert each.tests or each.status in ("not used", "no case")
    for path, function in each.tests:
        assert function in functions(path), f"{path} has no {function}"
