"""`cargohold token`: personal tokens of users, secrets of robots, and logins that clients keep."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from client.cli import output
from client.cli.output import Column, Style
from registry.admin.columns import at, time_of
from registry.admin.machine import Failed, Machine, changing, reading

if TYPE_CHECKING:
    from registry.auth.limits import RepositoryLimit
    from registry.metadata.api_tokens import ApiToken, OwnerKind, StoredLimit
    from registry.metadata.refresh_tokens import RefreshToken
    from storage.database import Connection

T = TypeVar("T")

_DAY = 86400.0


def _limits_cell(limits: Any) -> str:
    if limits is None:
        return ""
    return " ".join(f"{limit['Repository']}:{','.join(limit['Actions'])}" for limit in limits)


_COLUMNS = (
    Column("ID", "ID"),
    Column("OWNER", "Owner"),
    Column("KIND", "Kind"),
    Column("DESCRIPTION", "Description"),
    Column("LIMITS", "Limits", show=_limits_cell),
    at("EXPIRES", "Expires"),
    at("LAST USED", "LastUsed"),
)


def token_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add what is said of a new token."""
    for option in (
        click.option("--days", type=click.FloatRange(min=0, min_open=True), help="It expires after so long."),
        click.option(
            "--limit",
            "limits",
            multiple=True,
            metavar="PATTERN:ACTIONS",
            help="What it is good for, as team/**:pull,push; may be repeated. [all its owner may do]",
        ),
        click.option("--description", default="", help="What it is for."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("user")
@token_options
@changing
def add(machine: Machine, user: str, description: str, limits: tuple[str, ...], days: float | None) -> None:
    """Make a personal token of a user and print it, this once."""
    issue(machine, ("user", user), description, limits, days)


def issue(
    machine: Machine,
    owner: "tuple[OwnerKind, str]",
    description: str,
    limits: Iterable[str],
    days: float | None,
) -> None:
    """Make a token and print its text."""
    from registry.auth import accounts

    parsed = [_parse_limit(text) for text in limits]
    seconds = None if days is None else days * _DAY

    def unit(db: "Connection") -> accounts.IssuedSecret:
        if owner[0] == "user":
            _check_user(db, machine, owner[1])
        return accounts.issue_secret(db, owner, description, parsed or None, seconds)

    action = "token.add" if owner[0] == "user" else "robot.token"
    issued = machine.commit(action, unit, name=owner[1])
    machine.print(
        issued.text,
        {"id": issued.token.id, "secret": issued.text, "expires": time_of(issued.token.expires_at)},
    )


def _check_user(db: "Connection", machine: Machine, name: str) -> None:
    """Raise EntryUnknown unless there is such a user, in the database or in the htpasswd file."""
    from registry.admin import changes
    from registry.auth import htpasswd

    file = machine.settings.htpasswd
    try:
        is_in_file = file is not None and name in htpasswd.read(file)
    except htpasswd.HtpasswdInvalid as error:
        raise Failed(f"{file}: {error}") from error
    if not is_in_file:
        changes.user(db, name)


def _parse_limit(text: str) -> "RepositoryLimit":
    from registry.auth.limits import RepositoryLimit

    repository, colon, actions = text.rpartition(":")
    if not colon:
        raise click.UsageError(f"--limit is PATTERN:ACTIONS, as team/**:pull,push; not {text!r}")
    return RepositoryLimit.parse(repository, actions.split(","))


@click.command()
@click.argument("ids", nargs=-1, required=True)
@changing
def revoke(machine: Machine, ids: tuple[str, ...]) -> None:
    """End tokens, secrets and logins by their ids."""
    for token_id in ids:
        machine.commit("token.revoke", _revoking(token_id), token=token_id)
        machine.print(token_id, {"id": token_id})


def _revoking(token_id: str) -> "Callable[[Connection], None]":
    from registry.admin import changes
    from registry.auth import accounts
    from registry.metadata import api_tokens

    def unit(db: "Connection") -> None:
        if api_tokens.find(db, token_id) is not None:
            accounts.revoke_secret(db, token_id)
        else:
            changes.revoke_login(db, token_id)

    return unit


@click.command()
@click.option("--user", help="Only those of this user.")
@click.option("--robot", help="Only those of this robot.")
@output.listing
@reading
def ls(machine: Machine, user: str | None, robot: str | None, style: Style) -> None:
    """List tokens of users, secrets of robots, and logins that clients keep."""
    from registry.metadata import api_tokens, refresh_tokens
    from registry.metadata.robots import principal_of

    if user is not None and robot is not None:
        raise click.UsageError("--user and --robot exclude each other")
    whose = user if robot is None else principal_of(robot)
    tokens, logins = machine.read(lambda db: (api_tokens.listing(db), refresh_tokens.listing(db)))
    rows = [*map(_token_row, tokens), *map(_login_row, logins)]
    output.print_list(_COLUMNS, [row for row in rows if whose in (None, row["Owner"])], style)


def _token_row(token: "ApiToken") -> dict[str, Any]:
    from registry.metadata.robots import principal_of

    is_robots = token.owner_kind == "robot"
    return {
        "ID": token.id,
        "Owner": principal_of(token.owner_name) if is_robots else token.owner_name,
        "Kind": "robot" if is_robots else "personal",
        "Description": token.description,
        "Limits": None if token.limits is None else [_limit_row(limit) for limit in token.limits],
        "Created": time_of(token.created_at),
        "Expires": time_of(token.expires_at),
        "LastUsed": time_of(token.last_used_at),
    }


def _limit_row(limit: "StoredLimit") -> dict[str, Any]:
    return {"Repository": limit.repository, "Actions": limit.actions}


def _login_row(token: "RefreshToken") -> dict[str, Any]:
    return {
        "ID": token.id,
        "Owner": token.principal,
        "Kind": "login",
        "Description": token.client_id,
        "Limits": None,
        "Created": time_of(token.created_at),
        "Expires": time_of(token.expires_at),
        "LastUsed": time_of(token.last_used_at),
    }
