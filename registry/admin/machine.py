"""What the verbs of administration work with: the registry's own database, on the registry's own machine.

No server is needed, and one that runs learns of every change within a second or two. Who can write the
database needs no other right.
"""

import getpass
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from client.cli import output
from client.cli.secrets import read_secret
from client.cli.template.functions import to_json

if TYPE_CHECKING:  # `--help` waits for neither pydantic nor SQLite
    from registry.audit import Audit
    from registry.auth.passwords import Passwords
    from registry.settings import Settings
    from storage.database import Database, Unit

T = TypeVar("T")


class Failed(click.ClickException):
    """Something that cannot be done; help about options would not help."""


class Absent(click.ClickException):
    """A name that nothing has."""

    exit_code = 3


class Machine:
    """One run of a verb."""

    def __init__(self, settings: "Settings", database: "Database", audit: "Audit", *, json: bool) -> None:
        self.settings = settings
        self.database = database
        self._audit = audit
        self._json = json

    @property
    def me(self) -> str:
        """Who is working here; no user of the registry has such a name."""
        return f"local:{getpass.getuser()}"

    def read(self, unit: "Unit[T]") -> T:
        return self.database.read(unit)

    def change(self, action: str, work: Callable[[], T], **facts: object) -> T:
        """Do something and tell the audit log what came of it; `facts` have no secret in them."""
        from registry.audit import Event, Outcome
        from storage.oci.errors import RegistryError

        try:
            done = work()
        except RegistryError as error:
            reason = {"code": error.code, "reason": error.message[:300]}
            self._audit.record(Event(action, Outcome.FAILED, self.me, "local", {**facts, **reason}))
            raise
        self._audit.record(Event(action, Outcome.DONE, self.me, "local", facts))
        return done

    def commit(self, action: str, unit: "Unit[T]", **facts: object) -> T:
        """Change the database, and tell the audit log."""
        return self.change(action, lambda: self.database.transaction(unit), **facts)

    @contextmanager
    def passwords(self) -> Iterator["Passwords"]:
        """Give what hashes passwords."""
        from registry.auth.passwords import Passwords

        hashing = Passwords(threads=1)
        try:
            yield hashing
        finally:
            hashing.close()

    def print(self, line: str, row: Mapping[str, object]) -> None:
        """Write a result: a line, or with --json all that is known."""
        output.write(to_json(row) if self._json else line)

    def note(self, line: str) -> None:
        """Write to stderr what is good to know and no result."""
        click.echo(line, err=True)


def reading(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command its Machine, and the options that say where it is."""
    return _with_machine(command, _WHERE)


def changing(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command its Machine, and --json besides."""
    return _with_machine(command, (*_WHERE, _JSON))


def _with_machine(command: Callable[..., T], options: tuple[click.Option, ...]) -> Callable[..., T]:
    def invoke(*, data: Path | None, config: Path | None, as_json: bool = False, **values: Any) -> T:
        with _opened(data, config, json=as_json) as machine, _told():
            return command(machine, **values)

    decorated: Any = update_wrapper(invoke, command)
    decorated.__click_params__ = [*reversed(options), *getattr(command, "__click_params__", ())]
    shared: Callable[..., T] = decorated
    return shared


_WHERE = (
    click.Option(
        ["--data"],
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="The registry's directory. [data]",
    ),
    click.Option(
        ["--config"],
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="The registry's configuration.",
    ),
)
_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print a JSON object.")


@contextmanager
def _opened(data: Path | None, config: Path | None, *, json: bool) -> Iterator[Machine]:
    from registry.audit import Off, open_audit
    from registry.cli import load
    from registry.migrations import MIGRATIONS
    from registry.settings import Source
    from storage.database import SchemaNewer, connect

    settings = load(Source(config, {} if data is None else {"data": data}))
    file = settings.data / "cargohold.db"
    if not file.exists():
        raise Failed(f"there is no registry in {settings.data}: say --data, or start `cargohold serve` once")
    try:
        database = connect(f"sqlite:{file}", MIGRATIONS)
    except SchemaNewer as error:
        raise Failed(str(error)) from error
    # Standard output is the results'; the server's own is out of reach.
    audit = Off() if settings.audit_log in ("stdout", "off") else open_audit(settings.audit_log)
    try:
        yield Machine(settings, database, audit, json=json)
    finally:
        database.close()
        audit.close()


@contextmanager
def _told() -> Iterator[None]:
    """Say what is wrong with a name or value in the words of the command line."""
    from storage.oci.errors import NameInvalid, NameUnknown, RequestInvalid

    try:
        yield
    except NameUnknown as error:
        raise Absent(error.message) from error
    except (RequestInvalid, NameInvalid) as error:
        raise click.UsageError(error.message, click.get_current_context()) from error


def password_option(command: Callable[..., T]) -> Callable[..., T]:
    """Add the ways to give a password; the command line, which other users see, is none of them."""
    command = click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")(command)
    return click.option("--generate", is_flag=True, help="Make a password up and print it.")(command)


def choose_password(*, generate: bool, password_stdin: bool) -> tuple[str, bool]:
    """Return a new password, and whether it was made up here."""
    from registry.auth.passwords import random_password

    if generate and password_stdin:
        raise click.UsageError("--generate and --password-stdin exclude each other")
    if generate:
        return random_password(), True
    if password_stdin:
        return read_secret(), False
    if not sys.stdin.isatty():
        raise click.UsageError(
            "stdin is no terminal to ask for the password: --password-stdin, or --generate"
        )
    typed: str = click.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True)
    return typed, False
