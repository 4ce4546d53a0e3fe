"""Secrets are compared in constant time (AUTH-26)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import client
import registry

MODULES = sorted(
    file for package in (client, registry) for path in package.__path__ for file in Path(path).rglob("*.py")
)
_is_secret = re.compile(r"(?i).*(token|secret|signature|password|passwd|hmac|api_?key)s?").fullmatch


def _secret_comparisons(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops):
            continue
        for side in (node.left, *node.comparators):
            if any(_is_secret(name) for name in _names(side)):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def _names(node: ast.expr) -> Iterator[str]:
    """Name a compared value: a variable, an attribute, what a call returns, the key of a subscript."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Call):
        yield from _names(node.func)
    elif isinstance(node, ast.Subscript):
        yield from _names(node.value)
        if isinstance(node.slice, ast.Constant):
            yield str(node.slice.value)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: "/".join(module.parts[-3:]))
def test_auth_26_compares_no_secret_with_equals(module: Path) -> None:
    assert list(_secret_comparisons(ast.parse(module.read_text()))) == []


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("given == self.token", True),
        ("row['secret'] != given", True),
        ("make_signature(x) == given", True),
        ("api_key == 'x'", True),
        ("hmac.compare_digest(token, given)", False),
        ("len(token) == 3", False),
        ("token is None", False),
        ("tokens_kept == 3", False),
    ],
)
def test_finds_a_comparison(source: str, is_found: bool) -> None:
    assert bool(list(_secret_comparisons(ast.parse(source)))) is is_found
