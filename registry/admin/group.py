"""`cargohold group`: users under one name, for rules."""

from functools import partial

import click

from client.cli import output
from client.cli.output import Column, Style
from registry.admin.columns import ALL, words
from registry.admin.machine import Machine, changing, reading

_COLUMNS = (Column("NAME", "Name"), words("MEMBERS", "Members"))


@click.command()
@click.argument("name")
@changing
def add(machine: Machine, name: str) -> None:
    """Make a group."""
    from registry.auth import accounts

    machine.commit("group.add", partial(accounts.create_group, name=name), name=name)
    machine.print(name, {"name": name})


@click.command()
@click.argument("name")
@changing
def rm(machine: Machine, name: str) -> None:
    """Delete a group; its members lose what it gave them."""
    from registry.auth import accounts

    machine.commit("group.delete", partial(accounts.delete_group, name=name), name=name)
    machine.print(name, {"name": name})


@click.command()
@click.argument("group")
@click.argument("users", nargs=-1, required=True)
@changing
def join(machine: Machine, group: str, users: tuple[str, ...]) -> None:
    """Put users into a group."""
    from registry.auth import accounts

    for user in users:
        unit = partial(accounts.add_member, group=group, user=user)
        machine.commit("group.join", unit, name=group, member=user)
        machine.print(user, {"group": group, "user": user})


@click.command()
@click.argument("group")
@click.argument("users", nargs=-1, required=True)
@changing
def leave(machine: Machine, group: str, users: tuple[str, ...]) -> None:
    """Take users out of a group."""
    from registry.auth import accounts

    for user in users:
        unit = partial(accounts.remove_member, group=group, user=user)
        machine.commit("group.leave", unit, name=group, member=user)
        machine.print(user, {"group": group, "user": user})


@click.command()
@output.listing
@reading
def ls(machine: Machine, style: Style) -> None:
    """List groups and who is in them."""
    from registry.metadata import groups

    rows = machine.read(
        lambda db: [
            {"Name": name, "Members": groups.members(db, name)} for name in groups.listing(db, limit=ALL)
        ]
    )
    output.print_list(_COLUMNS, rows, style, key="Name")
