"""The one program: its global options, and the end of every error."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from client.cli.group import LazyGroup, Section
from client.cli.guard import PastClick, guarded
from client.cli.run import Run


class Program(LazyGroup):
    """A group whose errors end in one line and an exit code of the documented table."""

    def __init__(self, name: str, sections: Sequence[Section], **settings: Any) -> None:
        super().__init__(name, sections, callback=_fill, **settings)
        self.params.extend(_options())

    def main(  # type: ignore[override]  # click's overloads tell apart what is the same here
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **settings: Any
    ) -> NoReturn:
        settings |= {"standalone_mode": False, "obj": Run()}
        command = partial(super().main, args, prog_name or self.name, **settings)
        sys.exit(guarded(command, settings["obj"]))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise PastClick(error) from error


@click.pass_obj
def _fill(run: Run, store: Path | None, verbose: bool) -> None:
    run.store = store
    run.verbose = verbose


def _options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--store"],
            type=click.Path(file_okay=False, path_type=Path),
            envvar="CARGOHOLD_STORE",
            metavar="DIR",
            help="Directory of the local store. [CARGOHOLD_STORE]",
        ),
        click.Option(["-v", "--verbose"], is_flag=True, help="Say more; show tracebacks."),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version and exit.",
        ),
    ]


def _print_version(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Look the version up only when it is asked for: that takes as long as all the rest."""
    if wanted:
        from importlib.metadata import version

        print(f"cargohold {version('cargohold')}")
        ctx.exit()
