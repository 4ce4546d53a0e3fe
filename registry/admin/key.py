"""`cargohold key`: what access tokens are signed with."""

from functools import partial

import click

from client.cli import output
from client.cli.output import Column, Style
from registry.admin.columns import at, time_of
from registry.admin.machine import Machine, changing, reading

_COLUMNS = (
    Column("KEY", "ID"),
    Column("ALGORITHM", "Algorithm"),
    at("CREATED", "Created"),
    at("RETIRES", "Retires"),
)


@click.command()
@changing
def rotate(machine: Machine) -> None:
    """Sign with a new key from now on, and print its name; what the old ones signed stays good to its end."""
    from registry.admin import changes

    settings = machine.settings
    unit = partial(
        changes.rotate_key, algorithm=settings.token_algorithm, token_seconds=settings.token_seconds
    )
    kid = machine.commit("key.rotate", unit)
    machine.print(kid, {"kid": kid})


# One name in 64 begins with a dash.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("kid", metavar="KEY")
@changing
def retire(machine: Machine, kid: str) -> None:
    """End a key at once, and all that it signed: for a key that got away."""
    from registry.admin import changes

    machine.commit("key.retire", partial(changes.retire_key, kid=kid), kid=kid)
    machine.print(kid, {"kid": kid})


@click.command()
@output.listing
@reading
def ls(machine: Machine, style: Style) -> None:
    """List the keys that are not retired, the one that signs first."""
    from registry.metadata import signing_keys

    rows = [
        {
            "ID": key.kid,
            "Algorithm": key.algorithm,
            "Created": time_of(key.created_at),
            "Retires": time_of(key.retires_at),
        }
        for key in machine.read(signing_keys.live)
    ]
    output.print_list(_COLUMNS, rows, style)
