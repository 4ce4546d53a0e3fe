"""`cargohold robot`: accounts of machines."""

from functools import partial

import click

from client.cli import output
from client.cli.output import Column, Style
from registry.admin.columns import ALL, at, time_of, yes
from registry.admin.machine import Machine, changing, reading
from registry.admin.token import issue, token_options

_COLUMNS = (
    Column("NAME", "Name"),
    Column("DESCRIPTION", "Description"),
    Column("MADE BY", "CreatedBy"),
    at("CREATED", "Created"),
    yes("DISABLED", "Disabled"),
)


@click.command()
@click.argument("name")
@click.option("--description", default="", help="What it is for.")
@changing
def add(machine: Machine, name: str, description: str) -> None:
    """Make a robot. It logs in as robot$NAME with a secret of `cargohold robot token NAME`."""
    from registry.auth import accounts

    unit = partial(accounts.create_robot, name=name, description=description, created_by=machine.me)
    machine.commit("robot.add", unit, name=name)
    machine.print(name, {"name": name})


@click.command()
@click.argument("name")
@changing
def rm(machine: Machine, name: str) -> None:
    """Delete a robot with its secrets."""
    from registry.auth import accounts

    machine.commit("robot.delete", partial(accounts.delete_robot, name=name), name=name)
    machine.print(name, {"name": name})


@click.command()
@click.argument("name")
@changing
def disable(machine: Machine, name: str) -> None:
    """Stop a robot, at its next call."""
    _set_disabled(machine, "robot.disable", name, is_disabled=True)


@click.command()
@click.argument("name")
@changing
def enable(machine: Machine, name: str) -> None:
    """Let a robot work again."""
    _set_disabled(machine, "robot.enable", name, is_disabled=False)


def _set_disabled(machine: Machine, action: str, name: str, *, is_disabled: bool) -> None:
    from registry.auth import accounts

    unit = partial(accounts.set_robot_disabled, name=name, is_disabled=is_disabled)
    machine.commit(action, unit, name=name)
    machine.print(name, {"name": name})


@click.command()
@click.argument("name")
@token_options
@changing
def token(machine: Machine, name: str, description: str, limits: tuple[str, ...], days: float | None) -> None:
    """Make a secret of a robot and print it, this once."""
    issue(machine, ("robot", name), description, limits, days)


@click.command()
@output.listing
@reading
def ls(machine: Machine, style: Style) -> None:
    """List robots."""
    from registry.metadata import robots

    rows = [
        {
            "Name": robot.name,
            "Description": robot.description,
            "CreatedBy": robot.created_by,
            "Created": time_of(robot.created_at),
            "Disabled": robot.is_disabled,
        }
        for robot in machine.read(lambda db: robots.listing(db, limit=ALL))
    ]
    output.print_list(_COLUMNS, rows, style, key="Name")
