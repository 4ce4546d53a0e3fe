"""Pieces to a tree. Source: Go's text/template, "Actions", "Arguments", "Pipelines"."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from client.cli.template.lex import Action, TemplateFailed, Token, pieces

_OPENING = ("if", "with", "range")


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Chain:
    """Fields of something: of the dot, of a variable, of a pipeline in parentheses."""

    base: "Literal | Pipeline | None"
    variable: str | None
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments, the last of which may come through a pipe."""

    function: str
    arguments: "tuple[Operand, ...]"


@dataclass(frozen=True, slots=True)
class Pipeline:
    commands: "tuple[Operand, ...]"
    # Variables that take its value; `range` has up to two.
    variables: tuple[str, ...] = ()
    declares: bool = True


Operand = Literal | Chain | Call | Pipeline


@dataclass(frozen=True, slots=True)
class Block:
    """`if`, `with` or `range`: what is rendered, and what otherwise."""

    kind: str
    pipeline: Pipeline
    body: "tuple[Node, ...]"
    otherwise: "tuple[Node, ...]" = ()


Node = str | Pipeline | Block


def parse(template: str, functions: Callable[[str], bool]) -> tuple[Node, ...]:
    """Read a template that may call only what `functions` knows. Raises TemplateFailed."""
    reader = _Reader(pieces(template), functions)
    nodes, end = reader.nodes()
    if end:
        raise TemplateFailed(f"{{{{{end}}}}} has no beginning")
    return nodes


class _Reader:
    def __init__(self, found: Iterator[str | Action], functions: Callable[[str], bool]) -> None:
        self._pieces = found
        self._functions = functions

    def nodes(self) -> tuple[tuple[Node, ...], str]:
        """Read up to an `end` or `else`, which is returned beside the nodes."""
        nodes: list[Node] = []
        for piece in self._pieces:
            if isinstance(piece, str):
                nodes.append(piece)
                continue
            first = piece.tokens[0].text if piece.tokens else ""
            if first in ("end", "else"):
                return tuple(nodes), piece.source
            nodes.append(self._action(piece, first))
        return tuple(nodes), ""

    def _action(self, action: Action, first: str) -> Node:
        if first in _OPENING:
            return self._block(first, Action(action.source, action.tokens[1:]))
        pipeline = _Tokens(action, self._functions).pipeline()
        if len(pipeline.variables) > 1:
            raise TemplateFailed(f"only range has two variables: {action.source}")
        return pipeline

    def _block(self, kind: str, action: Action) -> Block:
        pipeline = _Tokens(action, self._functions).pipeline()
        if len(pipeline.variables) > (2 if kind == "range" else 1):
            raise TemplateFailed(f"too many variables: {action.source}")
        body, end = self.nodes()
        otherwise: tuple[Node, ...] = ()
        words = end.split(None, 2)
        if words == ["else"]:
            otherwise, end = self.nodes()
        elif words[:2] == ["else", "if"]:
            chosen = next(iter(pieces("{{" + end.removeprefix("else").strip() + "}}")))
            assert isinstance(chosen, Action)
            # The `end` of the inner one is ours too.
            return Block(kind, pipeline, body, (self._block("if", Action(end, chosen.tokens[1:])),))
        if end != "end":
            raise TemplateFailed(f"no {end!r} here" if end else f"{{{{{action.source}}}}} has no end")
        return Block(kind, pipeline, body, otherwise)


class _Tokens:
    """Reads the tokens of one action."""

    def __init__(self, action: Action, functions: Callable[[str], bool]) -> None:
        self._source = action.source
        self._left = list(reversed(action.tokens))
        self._functions = functions

    def pipeline(self) -> Pipeline:
        variables, declares = self._variables()
        commands = self._commands()
        if self._left:
            raise self._unexpected(self._left[-1])
        return Pipeline(commands, variables, declares)

    def _variables(self) -> tuple[tuple[str, ...], bool]:
        """Take `$x :=`, `$x =` or `$i, $x :=` from the front, if that is what is there."""
        ahead = [token.text for token in reversed(self._left[-4:])]
        count = 3 if ahead[1:2] == [","] else 1
        if len(ahead) <= count or ahead[count] not in (":=", "="):
            return (), True
        taken = [self._left.pop() for _ in range(count + 1)]
        names = taken[0:count:2]
        if any(name.kind != "variable" or name.text == "$" for name in names):
            raise self._unexpected(taken[0])
        return tuple(name.text for name in names), ahead[count] == ":="

    def _commands(self) -> tuple[Operand, ...]:
        commands = [self._command(is_first=True)]
        while self._next_is("|"):
            self._left.pop()
            commands.append(self._command(is_first=False))
        return tuple(commands)

    def _command(self, *, is_first: bool) -> Operand:
        if self._left and self._left[-1].kind == "word" and self._left[-1].text not in _CONSTANTS:
            return self._call()
        operand = self._operand()
        if not is_first:
            raise TemplateFailed(f"what follows a | is a function: {self._source}")
        return operand

    def _call(self) -> Call:
        name = self._left.pop().text
        if not self._functions(name):
            raise TemplateFailed(f"no function {name!r}")
        arguments = []
        while self._left and self._left[-1].text not in ("|", ")"):
            arguments.append(self._operand())
        return Call(name, tuple(arguments))

    def _operand(self) -> Operand:
        if not self._left:
            raise TemplateFailed(f"a value is missing: {{{{{self._source}}}}}")
        token = self._left.pop()
        match token.kind:
            case "string" | "number":
                return Literal(token.value)
            case "word" if token.text in _CONSTANTS:
                return Literal(_CONSTANTS[token.text])
            case "word" if self._functions(token.text):
                return Call(token.text, ())
            case "dot":
                return Chain(None, None, ())
            case "field":
                return Chain(None, None, (token.text[1:], *self._fields()))
            case "variable":
                return Chain(None, token.text, self._fields())
            case "mark" if token.text == "(":
                inner = Pipeline(self._commands())
                if not self._next_is(")"):
                    raise TemplateFailed(f"a parenthesis is not closed: {self._source}")
                self._left.pop()
                return Chain(inner, None, self._fields())
        raise self._unexpected(token)

    def _fields(self) -> tuple[str, ...]:
        """Take the fields that follow without a space."""
        fields = []
        while self._left and self._left[-1].kind == "field" and self._left[-1].glued:
            fields.append(self._left.pop().text[1:])
        return tuple(fields)

    def _next_is(self, text: str) -> bool:
        return bool(self._left) and self._left[-1].kind == "mark" and self._left[-1].text == text

    def _unexpected(self, token: Token) -> TemplateFailed:
        return TemplateFailed(f"{token.text!r} is not expected in {{{{{self._source}}}}}")


_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "nil": None}
