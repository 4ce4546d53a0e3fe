"""`cargohold policy`: who may do what where, and which tags stay what they are."""

from functools import partial

import click

from client.cli import output
from client.cli.output import Column, Style
from registry.admin.columns import words
from registry.admin.machine import Machine, changing, reading

_COLUMNS = (
    Column("ID", "ID"),
    Column("WHO", "Who"),
    Column("REPOSITORY", "Repository"),
    words("ACTIONS", "Actions"),
    Column("MADE BY", "CreatedBy"),
)
_IMMUTABLE_COLUMNS = (Column("ID", "ID"), Column("REPOSITORY", "Repository"), Column("TAGS", "Tags"))
# Where the configuration's stand in a list: they are changed there.
_CONFIGURED = "config"
# What `explain` returns for what is denied.
_DENIED = 1


@click.command()
@click.argument("who")
@click.argument("repository")
@click.argument("actions", nargs=-1, required=True)
@changing
def add(machine: Machine, who: str, repository: str, actions: tuple[str, ...]) -> None:
    """Let WHO do ACTIONS in the repositories of a pattern, and print the rule's id.

    \b
    cargohold policy add anonymous 'public/**' pull
    cargohold policy add group:team 'team/**' pull push delete
    cargohold policy add robot:ci 'team/*' pull tag-create
    """
    from registry.admin import changes

    unit = partial(changes.add_rule, who=who, repository=repository, actions=actions, created_by=machine.me)
    number = machine.commit("policy.add", unit, who=who, repository=repository, actions=actions)
    machine.print(str(number), {"id": number})


@click.command()
@click.argument("numbers", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1, 2**63 - 1))
@changing
def rm(machine: Machine, numbers: tuple[int, ...]) -> None:
    """Remove rules by their ids."""
    from registry.admin import changes

    for number in numbers:
        machine.commit("policy.remove", partial(changes.remove_rule, number=number), id=number)
        machine.print(str(number), {"id": number})


@click.command()
@output.listing
@reading
def ls(machine: Machine, style: Style) -> None:
    """List the rules of the configuration and of the database."""
    from registry.auth.policy import configured
    from registry.metadata import rules

    rows = [
        {
            "ID": _CONFIGURED,
            "Who": rule.who.text,
            "Repository": rule.repository.text,
            "Actions": sorted(action.value for action in rule.actions),
            "CreatedBy": rule.origin,
        }
        for rule in configured(machine.settings)
    ]
    rows += [
        {
            "ID": str(rule.id),
            "Who": rule.who,
            "Repository": rule.repository,
            "Actions": list(rule.actions),
            "CreatedBy": rule.created_by,
        }
        for rule in machine.read(rules.listing)
    ]
    output.print_list(_COLUMNS, rows, style)


@click.command()
@click.argument("user")
@click.argument("action")
@click.argument("repository")
@changing
def explain(machine: Machine, user: str, action: str, repository: str) -> int:
    """Say whether USER may do ACTION in REPOSITORY, and by which rule; exit code 1 if not.

    \b
    cargohold policy explain alice push team/app
    cargohold policy explain 'oidc:github repository_id=1' push team/app
    """
    from registry.admin import changes
    from registry.auth.policy import RulePolicy
    from storage.oci.names import RepositoryName

    name = RepositoryName.parse(repository)
    principal = machine.read(partial(changes.read_principal, text=user))
    policy = RulePolicy(machine.settings, machine.database)
    explanation = changes.explain(policy, principal, action, name)
    machine.print(
        f"{'allowed' if explanation.allowed else 'denied'}: {explanation.text}",
        {"allowed": explanation.allowed, "text": explanation.text},
    )
    return 0 if explanation.allowed else _DENIED


@click.command("add")
@click.argument("repository")
@click.argument("tags")
@changing
def add_immutable(machine: Machine, repository: str, tags: str) -> None:
    """Let tags of a pattern name one image for ever, in the repositories of a pattern."""
    from registry.admin import changes

    unit = partial(changes.add_immutable, repository=repository, tags=tags)
    number = machine.commit("immutable.add", unit, repository=repository, tags=tags)
    machine.print(str(number), {"id": number})


@click.command("rm")
@click.argument("number", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@changing
def rm_immutable(machine: Machine, number: int) -> None:
    """Remove a rule of immutable tags by its id."""
    from registry.admin import changes

    machine.commit("immutable.remove", partial(changes.remove_immutable, number=number), id=number)
    machine.print(str(number), {"id": number})


@click.command("ls")
@output.listing
@reading
def ls_immutable(machine: Machine, style: Style) -> None:
    """List rules of immutable tags."""
    from registry.metadata import immutable

    rows = [
        {"ID": _CONFIGURED, "Repository": each.repository.text, "Tags": each.tags.text}
        for each in machine.settings.limits.immutable
    ]
    rows += [
        {"ID": str(row.id), "Repository": row.pattern.repository.text, "Tags": row.pattern.tags.text}
        for row in machine.read(immutable.listing)
    ]
    output.print_list(_IMMUTABLE_COLUMNS, rows, style)
