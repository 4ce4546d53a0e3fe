"""`cargohold quota`: how much a repository may hold."""

import re
from functools import partial

import click

from client.cli import output, text
from client.cli.output import Column, Style
from registry.admin.columns import limit
from registry.admin.machine import Machine, changing, reading

_COLUMNS = (
    Column("REPOSITORY", "Repository"),
    limit("BYTES", "Bytes", text.size),
    limit("TAGS", "Tags"),
    Column("FROM", "From"),
)
_UNITS = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "t": 1000**4,
    "ki": 1024,
    "mi": 1024**2,
    "gi": 1024**3,
    "ti": 1024**4,
}
_size_parts = re.compile(r"([0-9]{1,18})([kmgt]i?)?b?", re.IGNORECASE | re.ASCII).fullmatch
_MOST = 2**63 - 1


class Size(click.ParamType[int]):
    """A number of bytes: 500, 10GB, 10GiB."""

    name = "SIZE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        parts = _size_parts(str(value))
        if parts is None:
            self.fail(f"{value!r} is no size; it is a number with a unit, as 10GB or 10GiB", param, ctx)
        count = int(parts[1]) * _UNITS[(parts[2] or "").lower()]
        if count > _MOST:
            self.fail(f"{value!r} is more than there can be", param, ctx)
        return count


@click.command("set")
@click.argument("repository")
@click.option("--bytes", "bytes_", type=Size(), help="Of manifests, blobs and open uploads, as 10GB.")
@click.option("--tags", type=click.IntRange(0, _MOST), help="How many tags.")
@changing
def put(machine: Machine, repository: str, bytes_: int | None, tags: int | None) -> None:
    """Limit each of the repositories of a pattern."""
    from registry.admin import changes

    unit = partial(changes.put_quota, repository=repository, bytes_=bytes_, tags=tags)
    machine.commit("quota.set", unit, repository=repository, bytes=bytes_, tags=tags)
    machine.print(repository, {"repository": repository, "bytes": bytes_, "tags": tags})


@click.command()
@click.argument("repository")
@changing
def rm(machine: Machine, repository: str) -> None:
    """Remove the quota of a pattern."""
    from registry.admin import changes

    machine.commit(
        "quota.remove", partial(changes.remove_quota, repository=repository), repository=repository
    )
    machine.print(repository, {"repository": repository})


@click.command()
@output.listing
@reading
def ls(machine: Machine, style: Style) -> None:
    """List the quotas of the database and of the configuration."""
    from registry.metadata import quotas

    found = [("database", quota) for quota in machine.read(quotas.listing)]
    found += [("config", quota) for quota in machine.settings.limits.quotas]
    rows = [
        {"Repository": quota.repository.text, "Bytes": quota.bytes, "Tags": quota.tags, "From": origin}
        for origin, quota in found
    ]
    output.print_list(_COLUMNS, rows, style, key="Repository")
