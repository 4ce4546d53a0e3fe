"""Secrets are compared in constant time, everywhere in the server."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REGISTRY = Path(__file__).parent.parent.parent.parent / "registry"
_is_secret = re.compile(r"(?:.*_)?(?:token|secret|sig|signature|password|mac|hmac|mark)(?:_hash)?").fullmatch


def name_of(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=called):
            return name_of(called)
        case ast.Subscript(value=value):
            return name_of(value)
    return ""


def comparisons(source: str) -> Iterator[int]:
    """Yield lines that compare a secret with == or !=, but with a constant."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare) or not any(
            isinstance(each, ast.Eq | ast.NotEq) for each in node.ops
        ):
            continue
        sides = [node.left, *node.comparators]
        is_constant = any(isinstance(side, ast.Constant) for side in sides)
        if not is_constant and any(_is_secret(name_of(side)) for side in sides):
            yield node.lineno


@pytest.mark.parametrize(
    "source", ["a.token == b", "x != session_secret", "_mac(x) == y", "password[1] == y"]
)
def test_the_lint_sees(source: str) -> None:
    assert list(comparisons(source)) == [1]


@pytest.mark.parametrize("source", ["token == ''", "a.token.kind == b", "token is None"])
def test_the_lint_lets_pass(source: str) -> None:
    assert list(comparisons(source)) == []


def test_AUTH_26_no_secret_is_compared_with_an_operator() -> None:
    found = [
        f"{file.relative_to(REGISTRY.parent)}:{line}"
        for file in sorted(REGISTRY.rglob("*.py"))
        for line in comparisons(file.read_text())
    ]

    assert found == []
