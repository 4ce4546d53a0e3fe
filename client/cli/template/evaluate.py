"""A tree and data to text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from client.cli.template.functions import FUNCTIONS, LAZY, Open, shown, truth
from client.cli.template.lex import TemplateFailed
from client.cli.template.parse import Block, Call, Chain, Literal, Node, Operand, Pipeline, parse

__all__ = ["Open", "Template", "TemplateFailed"]


@dataclass(frozen=True, slots=True)
class Template:
    nodes: tuple[Node, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a template. Raises TemplateFailed for what is not Go's, or more than the part we know."""
        return cls(parse(text, lambda name: name in FUNCTIONS or name in LAZY))

    def render(self, data: Any) -> str:
        """Raises TemplateFailed where the data does not have what the template asks for."""
        return "".join(_render(self.nodes, _Scope(data, {"$": data})))


@dataclass(frozen=True, slots=True)
class _Scope:
    """The dot, and the variables; those of an outer block are seen and can be set."""

    dot: Any
    variables: dict[str, Any] = field(default_factory=dict)
    outer: "_Scope | None" = None

    def inner(self, dot: Any) -> "_Scope":
        return _Scope(dot, {}, self)

    def get(self, name: str) -> Any:
        return self._holder(name).variables[name]

    def set(self, name: str, value: Any, *, declares: bool) -> None:
        holder = self if declares else self._holder(name)
        holder.variables[name] = value

    def _holder(self, name: str) -> "_Scope":
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.variables:
                return scope
            scope = scope.outer
        raise TemplateFailed(f"no variable {name}")


def _render(nodes: Sequence[Node], scope: _Scope) -> Iterator[str]:
    for node in nodes:
        match node:
            case str():
                yield node
            case Pipeline():
                value = _value(node, scope)
                if node.variables:
                    scope.set(node.variables[0], value, declares=node.declares)
                else:
                    yield shown(value)
            case Block("range"):
                yield from _range(node, scope)
            case Block():
                yield from _branch(node, scope)


def _branch(block: Block, scope: _Scope) -> Iterator[str]:
    """Render an `if` or a `with`, whose value is its dot."""
    value = _value(block.pipeline, scope)
    chosen = truth(value)
    inner = scope.inner(value if chosen and block.kind == "with" else scope.dot)
    for name in block.pipeline.variables:
        inner.set(name, value, declares=block.pipeline.declares)
    yield from _render(block.body if chosen else block.otherwise, inner)


def _range(block: Block, scope: _Scope) -> Iterator[str]:
    items = list(_items(_value(block.pipeline, scope)))
    if not items:
        yield from _render(block.otherwise, scope.inner(scope.dot))
    for key, value in items:
        inner = scope.inner(value)
        names = block.pipeline.variables
        for name, taken in zip(names, (key, value) if len(names) == 2 else (value,), strict=False):
            inner.set(name, taken, declares=block.pipeline.declares)
        yield from _render(block.body, inner)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    match value:
        case Mapping():
            yield from ((key, value[key]) for key in sorted(value))
        case list() | tuple():
            yield from enumerate(value)
        case None:
            return
        case _:
            raise TemplateFailed(f"range: {shown(value)[:40]!r} is no list and no map")


def _value(operand: Operand, scope: _Scope, *piped: Any) -> Any:
    match operand:
        case Literal(value):
            return value
        case Pipeline(commands):
            value = _value(commands[0], scope)
            for command in commands[1:]:
                value = _value(command, scope, value)
            return value
        case Chain(base, variable, fields):
            value = scope.dot if variable is None else scope.get(variable)
            if base is not None:
                value = _value(base, scope)
            for name in fields:
                value = _field(value, name)
            return value
        case Call(name, arguments):
            return _call(name, arguments, scope, piped)


def _call(name: str, arguments: Sequence[Operand], scope: _Scope, piped: Sequence[Any]) -> Any:
    if name in LAZY:
        return _lazy(name, arguments, scope, piped)
    values = [*(_value(each, scope) for each in arguments), *piped]
    try:
        return FUNCTIONS[name](*values)
    except TypeError as error:
        raise TemplateFailed(f"{name}: wrong number of arguments") from error


def _lazy(name: str, arguments: Sequence[Operand], scope: _Scope, piped: Sequence[Any]) -> Any:
    value: Any = None
    operands = [*arguments, *map(Literal, piped)]
    if not operands:
        raise TemplateFailed(f"{name}: wrong number of arguments")
    for operand in operands:
        value = _value(operand, scope)
        if truth(value) == (name == "or"):
            break
    return value


def _field(value: Any, name: str) -> Any:
    match value:
        case Open():
            return value.get(name)
        case Mapping() if name in value:
            return value[name]
        case Mapping():
            raise TemplateFailed(f"no field {name!r}; there are {', '.join(map(str, value))}")
        case None:
            raise TemplateFailed(f"no field {name!r} of nothing")
    raise TemplateFailed(f"no field {name!r} of {shown(value)[:40]!r}")
