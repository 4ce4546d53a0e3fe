"""`cargohold store check`: is all there, and as it should be."""

import click

from client.cli.context import Context, connected

_DAMAGED = 6


@click.command()
@click.option("--repair", is_flag=True, help="Fetch and unpack again what is lost or damaged.")
@click.option("--quick", is_flag=True, help="Look at names and sizes only.")
@connected
def check(context: Context, repair: bool, quick: bool) -> int:
    """Check the local store: hash each blob, and unpack each layer once more to compare it.

    Ends with 6 where something is wrong, and stays so.
    """
    problems = context.client.check(quick=quick)
    for problem in problems:
        context.print(str(problem))
    if not problems:
        context.note("nothing is wrong")
        return 0
    if not repair:
        context.note(f"{len(problems)} problems: `cargohold store check --repair` heals what it can")
        return _DAMAGED
    for failure in context.client.repair(problems):
        context.warn(failure.message)
    left = context.client.check(quick=quick)
    context.note(f"{len(problems) - len(left)} of {len(problems)} problems are healed")
    return _DAMAGED if left else 0
