"""Groups of commands that are imported when they run: `--help` needs none of them."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from click.shell_completion import CompletionItem

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True, slots=True)
class Verb:
    """A row of the table: a command by module and attribute, or a group of more verbs."""

    name: str
    target: str
    help: str
    # What it is called elsewhere: found, but not listed.
    aliases: tuple[str, ...] = ()
    # A group has these in place of a target.
    verbs: tuple["Verb", ...] = field(default=(), kw_only=True)

    def load(self) -> click.Command:
        """Import the command."""
        if self.verbs:
            return LazyGroup(self.name, (Section("Commands", self.verbs),), help=f"{self.help}.")
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@dataclass(frozen=True, slots=True)
class Section:
    """Verbs that people look for in one place."""

    title: str
    verbs: tuple[Verb, ...]


class LazyGroup(click.Group):
    """Knows its commands by their rows until one of them is asked for."""

    def __init__(self, name: str, sections: Sequence[Section], **settings: Any) -> None:
        super().__init__(name, context_settings=CONTEXT_SETTINGS, **settings)
        self._sections = sections

    @property
    def _verbs(self) -> Iterator[Verb]:
        for section in self._sections:
            yield from section.verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb.name for verb in self._verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for verb in self._verbs:
            if cmd_name == verb.name or cmd_name in verb.aliases:
                return verb.load()
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = [word for verb in self._verbs for word in (verb.name, *verb.aliases)]
            raise click.NoSuchCommand(args[0], possibilities=known, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections without blank lines between them, so that all fits a screen."""
        width = max(len(name) for name in self.list_commands(ctx)) + 2
        formatter.write("\n")
        for section in self._sections:
            formatter.write(f"{section.title}:\n")
            for verb in section.verbs:
                formatter.write(f"  {verb.name.ljust(width)}{verb.help}\n")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the rows, and the options, which come first nowhere else."""
        offered = [
            CompletionItem(verb.name, help=verb.help)
            for verb in self._verbs
            if verb.name.startswith(incomplete)
        ]
        return offered + click.Command.shell_complete(self, ctx, incomplete)
