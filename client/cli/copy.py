"""`cargohold copy`: from registry to registry, to and from layouts and archives."""

import json
from typing import TYPE_CHECKING

import click

from client.cli import text
from client.cli.context import Context, connected
from client.cli.references import PLATFORM

if TYPE_CHECKING:
    from client.copy_plan import Plan
    from storage.oci.platform import Platform


@click.command()
@click.argument("source")
@click.argument("target")
@click.option(
    "--platform",
    "platforms",
    type=PLATFORM,
    multiple=True,
    metavar="OS/ARCH",
    help="Copy these images of an index alone, and the whole index.",
)
@click.option("--no-referrers", is_flag=True, help="Leave signatures and the like behind.")
@click.option("--foreign", is_flag=True, help="Copy also layers that their owner gives out elsewhere.")
@click.option("--plan", is_flag=True, help="Say what would be moved, and move nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --plan: as JSON.")
@connected
def copy(
    context: Context,
    source: str,
    target: str,
    platforms: "tuple[Platform, ...]",
    no_referrers: bool,
    foreign: bool,
    plan: bool,
    as_json: bool,
) -> None:
    """Copy an image byte for byte: the whole index, with what refers to it. Prints the digest.

    SOURCE and TARGET are images at registries, or oci:DIR[:TAG], oci-archive:FILE[:TAG],
    docker-archive:FILE[:NAME].

    \b
    cargohold copy alpine registry.example/mirror/alpine:3
    cargohold copy registry.example/team/app:1.4 oci:./layout:1.4
    """
    from client.copy import Options
    from client.places.place import Moving

    moving = Moving(context.progress, deadline=context.deadline)
    options = Options(platforms=platforms, referrers=not no_referrers, foreign=foreign, moving=moving)
    if plan:
        _print_plan(context, context.client.plan_copy(source, target, options), as_json=as_json)
        return
    context.print(str(context.client.copy(source, target, options).digest))


def _print_plan(context: Context, plan: "Plan", *, as_json: bool) -> None:
    from client.places.place import Standing

    if as_json:
        context.print(json.dumps(plan.to_json()))
        return
    context.print(f"digest    {plan.root.digest}")
    for standing in Standing:
        blobs = plan.blobs_that_are(standing)
        size = text.size(plan.bytes_that_are(standing))
        context.print(f"{standing.value:9} {text.plural(len(blobs), 'blob')}, {size}")
    context.print(f"manifests {len(plan.to_put)} of {len(plan.steps)} to put")
    context.print(f"requests  {plan.requests} at least")
