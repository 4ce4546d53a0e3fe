"""`cargohold user`: who can log in."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.cli import output
from client.cli.output import Column, Style
from registry.admin.columns import ALL, at, time_of, yes
from registry.admin.machine import Machine, changing, choose_password, password_option, reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.database import Connection

_COLUMNS = (
    Column("NAME", "Name"),
    yes("ADMIN", "Admin"),
    yes("DISABLED", "Disabled"),
    at("CREATED", "Created"),
    at("LAST LOGIN", "LastLogin"),
)


@click.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="An administrator.")
@password_option
@changing
def add(machine: Machine, name: str, admin: bool, generate: bool, password_stdin: bool) -> None:
    """Make a user. The password is asked for."""
    from registry.auth import accounts

    password, is_made_up = choose_password(generate=generate, password_stdin=password_stdin)
    with machine.passwords() as passwords:
        stored = passwords.hash_now(password)
    machine.commit(
        "user.add",
        lambda db: accounts.create_user(db, name, stored, is_admin=admin),
        name=name,
        is_admin=admin,
    )
    _print(machine, name, password if is_made_up else None)


@click.command()
@click.argument("name")
@password_option
@changing
def passwd(machine: Machine, name: str, generate: bool, password_stdin: bool) -> None:
    """Give a user another password, which ends what clients keep of the old one."""
    from registry.auth import accounts

    password, is_made_up = choose_password(generate=generate, password_stdin=password_stdin)
    with machine.passwords() as passwords:
        stored = passwords.hash_now(password)
    machine.commit("user.password", lambda db: accounts.set_password(db, name, stored), name=name)
    _print(machine, name, password if is_made_up else None)


@click.command()
@click.argument("name", default="admin")
@changing
def reset(machine: Machine, name: str) -> None:
    """Let a user in again with a new password, which is printed: the way back.

    Who is not there is made, and is an administrator if nobody else is. Without a NAME it is admin.
    """
    from registry.auth import accounts

    with machine.passwords() as passwords:
        password = machine.change(
            "user.reset", lambda: accounts.reset(machine.database, passwords, name), name=name
        )
    _print(machine, name, password)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@changing
def import_file(machine: Machine, file: Path) -> None:
    """Make the users of an htpasswd FILE (bcrypt); who is there already stays as they are."""
    from registry.auth import accounts, htpasswd

    try:
        hashes = htpasswd.read(file)
    except htpasswd.HtpasswdInvalid as error:
        raise click.UsageError(f"{file}: {error}") from error
    made, known = machine.commit("user.import", lambda db: accounts.import_users(db, hashes), file=str(file))
    for name in made:
        machine.print(name, {"name": name})
    if known:
        machine.note(f"these were there already: {', '.join(known)}")


@click.command()
@click.argument("names", nargs=-1, required=True)
@changing
def disable(machine: Machine, names: tuple[str, ...]) -> None:
    """Shut users out, at their next call."""
    from registry.auth import accounts

    _each(machine, "user.disable", names, accounts.disable_user)


@click.command()
@click.argument("names", nargs=-1, required=True)
@changing
def enable(machine: Machine, names: tuple[str, ...]) -> None:
    """Let users in again."""
    from registry.auth import accounts

    _each(machine, "user.enable", names, accounts.enable_user)


@click.command()
@click.argument("names", nargs=-1, required=True)
@changing
def promote(machine: Machine, names: tuple[str, ...]) -> None:
    """Make users administrators."""
    from registry.auth import accounts

    _each(machine, "user.promote", names, accounts.make_admin)


@click.command()
@click.argument("names", nargs=-1, required=True)
@changing
def demote(machine: Machine, names: tuple[str, ...]) -> None:
    """Make administrators ordinary users."""
    from registry.auth import accounts

    _each(machine, "user.demote", names, accounts.make_ordinary)


@click.command()
@click.argument("names", nargs=-1, required=True)
@changing
def rm(machine: Machine, names: tuple[str, ...]) -> None:
    """Delete users, with their tokens and memberships."""
    from registry.auth import accounts

    _each(machine, "user.delete", names, accounts.delete_user)


@click.command()
@output.listing
@reading
def ls(machine: Machine, style: Style) -> None:
    """List users."""
    from registry.metadata import users

    rows = [
        {
            "Name": account.name,
            "Admin": account.is_admin,
            "Disabled": account.is_disabled,
            "Created": time_of(account.created_at),
            "PasswordChanged": time_of(account.password_changed_at),
            "LastLogin": time_of(account.last_login_at),
        }
        for account in machine.read(lambda db: users.listing(db, limit=ALL))
    ]
    output.print_list(_COLUMNS, rows, style, key="Name")


def _each(
    machine: Machine, action: str, names: tuple[str, ...], change: "Callable[[Connection, str], None]"
) -> None:
    for name in names:
        machine.commit(action, lambda db, name=name: change(db, name), name=name)  # type: ignore[misc]
        machine.print(name, {"name": name})


def _print(machine: Machine, name: str, password: str | None) -> None:
    """Print a password that was made up, the only time that it is seen; else whose it is."""
    row = {"name": name} if password is None else {"name": name, "password": password}
    machine.print(password or name, row)
