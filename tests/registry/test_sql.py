"""OPS-07: statements are put together from constants alone; every value is bound."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXECUTES = ("execute", "executemany", "executescript")
# It runs the statements that others give it, the migrations', and its own pragmas.
DOOR = ROOT / "storage/database.py"
MODULES = sorted(
    path
    for package in ("registry", "client", "storage")
    for path in (ROOT / package).rglob("*.py")
    if path != DOOR and any(f".{name}(" in path.read_text() for name in EXECUTES)
)


@dataclass
class Module:
    """A module's source, and whether an expression of it can be anything but text that stands in it."""

    tree: ast.Module

    def loose(self) -> Iterator[str]:
        """Yield the statements that something else could get into."""
        for function in self.functions:
            for call in _calls(function):
                runs = isinstance(call.func, ast.Attribute) and call.func.attr in EXECUTES and call.args
                if runs and not self.is_fixed(call.args[0], function):
                    yield f"line {call.lineno}: {ast.unparse(call.args[0])}"

    @cached_property
    def functions(self) -> list[ast.FunctionDef]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]

    def is_fixed(self, node: ast.expr, function: ast.FunctionDef | None) -> bool:
        match node:
            case ast.Constant():
                return True
            case ast.JoinedStr(values=values):
                return all(self.is_fixed(value, function) for value in values)
            case ast.FormattedValue(value=value):
                return self.is_fixed(value, function)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.is_fixed(left, function) and self.is_fixed(right, function)
            case ast.BinOp(left=left, op=ast.Mult()):  # "?" * how many
                return self.is_fixed(left, function)
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_fixed(body, function) and self.is_fixed(orelse, function)
            case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[joined]):
                return self.is_fixed(joined, function)
            case ast.Attribute(value=ast.Attribute(attr="dialect")):
                return True
            case ast.Name(id=name):
                return self._is_fixed_name(name, function)
            case _:
                return False

    def _is_fixed_name(self, name: str, function: ast.FunctionDef | None) -> bool:
        if function is not None and name in _parameters(function):
            return self._is_called_with_fixed(function, name)
        given = list(_assigned(function or self.tree, name)) or list(_assigned(self.tree, name))
        return bool(given) and all(self.is_fixed(value, function) for value in given)

    def _is_called_with_fixed(self, function: ast.FunctionDef, parameter: str) -> bool:
        """Say whether a private function is only ever given text of this module."""
        position = _parameters(function).index(parameter)
        given = [
            (caller, _argument(call, position, parameter))
            for caller in self.functions
            for call in _calls(caller)
            if isinstance(call.func, ast.Name) and call.func.id == function.name
        ]
        return (
            function.name.startswith("_")
            and bool(given)
            and all(value is not None and self.is_fixed(value, caller) for caller, value in given)
        )


def _calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def _parameters(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in function.args.args]


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[position] if position < len(call.args) else None


def _assigned(scope: ast.AST, name: str) -> Iterator[ast.expr]:
    """Yield what a name is given in a scope, out of tuples too."""
    for node in ast.walk(scope):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            elif isinstance(target, ast.Tuple):
                yield from _unpacked(target, node.value, name)


def _unpacked(target: ast.Tuple, value: ast.expr, name: str) -> Iterator[ast.expr]:
    for branch in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
        for item, given in zip(target.elts, getattr(branch, "elts", ()), strict=False):
            if isinstance(item, ast.Name) and item.id == name:
                yield given


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_ops_07_no_statement_can_hold_what_came_from_outside(path: Path) -> None:
    assert list(Module(ast.parse(path.read_text())).loose()) == []


@pytest.mark.parametrize(
    "body",
    [
        'db.execute(f"SELECT 1 FROM tag WHERE name = {name}")',
        'db.execute("SELECT 1 FROM tag WHERE name = " + name)',
        'db.execute("SELECT 1 FROM tag WHERE name = %s" % name)',
        'db.execute("SELECT 1 FROM tag WHERE name = {}".format(name))',
        'order = name or "name"\n    db.execute("SELECT 1 FROM tag ORDER BY " + order)',
        "db.execute(name)",
        'db.executemany(" ".join(names), [])',
    ],
)
def test_ops_07_the_lint_finds_what_it_looks_for(body: str) -> None:
    assert list(Module(ast.parse(f"def find(db, name, names):\n    {body}\n")).loose())


def test_ops_07_the_lint_knows_every_module_with_statements() -> None:
    assert {path.parent.name for path in MODULES} >= {"metadata", "store"}
