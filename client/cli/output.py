"""Results on stdout: tables with docker's columns, JSON, templates."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, TypeVar

import click

from client.cli import text
from client.cli.template.functions import to_json

T = TypeVar("T")
Row = Mapping[str, Any]

_GAP = "   "


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, the field it shows, and how; `short` is how without --no-trunc."""

    title: str
    field: str
    show: Callable[[Any], str] = _as_text
    short: Callable[[Any], str] | None = None

    def cell(self, row: Row, *, truncates: bool) -> str:
        show = self.short if truncates and self.short is not None else self.show
        return show(row[self.field])


@dataclass(frozen=True, slots=True)
class Style:
    """How the user wants a list."""

    template: str | None = None
    json: bool = False
    truncates: bool = True
    quiet: bool = False


def short_digest(value: Any) -> str:
    """Write the first twelve digits of a digest, as docker does."""
    return str(value).partition(":")[2][:12]


def listing(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options of a list, as its Style in `style`."""

    def styled(*given: Any, **values: Any) -> T:
        style = Style(
            values.pop("format"), values.pop("json"), not values.pop("no_trunc"), values.pop("quiet", False)
        )
        return command(*given, style=style, **values)

    decorated: Any = update_wrapper(styled, command)
    decorated.__click_params__ = [*reversed(_LISTING), *getattr(command, "__click_params__", ())]
    listed: Callable[..., T] = decorated
    return listed


_LISTING = (
    click.Option(
        ["--format"], metavar="TEMPLATE", help="'json', 'table ...' or a Go template, for each row."
    ),
    click.Option(["--json"], is_flag=True, help="Print a JSON object a line, with exact values."),
    click.Option(["--no-trunc"], is_flag=True, help="Do not shorten digests and commands."),
    click.Option(["-q", "--quiet"], is_flag=True, help="Print the ids alone."),
)


def print_list(columns: Sequence[Column], rows: Iterable[Row], style: Style, key: str = "ID") -> None:
    """Print a list in its style; `key` is the field that --quiet shows."""
    if style.json:
        for row in rows:
            write(to_json(row, default=str))
        return
    shown = [{each.field: each.cell(row, truncates=style.truncates) for each in columns} for row in rows]
    if style.quiet:
        for row in shown:
            write(row[key])
    elif style.template is None:
        _print_table([each.title for each in columns], [list(row.values()) for row in shown])
    elif style.template == "json":
        for row in shown:
            write(to_json(row))
    else:
        _print_template(columns, shown, style.template)


def _print_template(columns: Sequence[Column], shown: Sequence[Row], template: str) -> None:
    is_table = template.startswith("table ")
    source = template.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    if not is_table:
        for row in shown:
            write(render(source, row))
        return
    # A tab of the content is no column.
    lines = [render(source, {name: text.printable(cell) for name, cell in row.items()}) for row in shown]
    heads = render(source, {each.field: each.title for each in columns})
    _print_table(heads.split("\t"), [line.split("\t") for line in lines])


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [titles, *([text.printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines if index < len(line)) for index in range(len(titles))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=False))
        write(_GAP.join(padded).rstrip())


def render(template: str, data: Any) -> str:
    """Fill a template of the command line; what is wrong with it was misused."""
    from client.cli.template import Template, TemplateFailed

    try:
        return Template.parse(template).render(data)
    except TemplateFailed as error:
        raise click.UsageError(f"--format: {error}") from error


def pretty(document: Any) -> str:
    """Write JSON for people, and for programs."""
    return to_json(document, indent=4)


def write(line: str) -> None:
    """Write a result; on a terminal nothing in it acts."""
    print(text.printable(line, keep="\n\t") if sys.stdout.isatty() else line)


def write_bytes(content: bytes) -> None:
    """Write exact bytes."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
