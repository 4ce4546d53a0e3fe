"""`cargohold pull`: an image into the local store."""

import json
from typing import TYPE_CHECKING

import click

from client.cli import text
from client.cli.context import Context, connected
from client.cli.references import PLATFORM, REFERENCE

if TYPE_CHECKING:
    from client.pull import PullPlan
    from storage.oci.platform import Platform


@click.command()
@click.argument("references", nargs=-1, required=True, type=REFERENCE, metavar="REF...")
@click.option(
    "--platform",
    "platforms",
    type=PLATFORM,
    multiple=True,
    metavar="OS/ARCH",
    help="Which images of an index. [this machine's]",
)
@click.option("--all-platforms", is_flag=True, help="All images of an index.")
@click.option("--plan", is_flag=True, help="Say what would be moved, and move nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --plan: as JSON.")
@click.option("--no-unpack", is_flag=True, help="Keep the blobs alone, to push or save them.")
@click.option("--foreign", is_flag=True, help="Fetch also layers that their owner gives out elsewhere.")
@connected
def pull(
    context: Context,
    references: tuple[str, ...],
    platforms: "tuple[Platform, ...]",
    all_platforms: bool,
    plan: bool,
    as_json: bool,
    no_unpack: bool,
    foreign: bool,
) -> None:
    """Pull images: verified, unpacked, and resumed where an earlier pull broke off.

    \b
    cargohold pull alpine
    cargohold pull --platform linux/arm64 registry.example/team/app:1.4
    cargohold pull --plan alpine
    """
    from client.pull import PullOptions
    from storage.oci.names import ImageReference

    options = PullOptions(
        platforms=platforms, all_platforms=all_platforms, unpack=not no_unpack, foreign=foreign
    )
    for reference in references:
        with context.about(ImageReference.parse(reference)):
            if plan:
                _print_plan(context, context.client.plan_pull(reference, options), as_json=as_json)
                continue
            pulled = context.client.pull(reference, options)
        context.print(pulled.name)


def _print_plan(context: Context, plan: "PullPlan", *, as_json: bool) -> None:
    if as_json:
        context.print(json.dumps(plan.to_json()))
        return
    present = sum(blob.size for blob in plan.present)
    context.print(f"digest    {plan.digest}")
    context.print(f"platforms {', '.join(plan.platforms) or 'none: no image'}")
    context.print(f"present   {text.plural(len(plan.present), 'blob')}, {text.size(present)}")
    context.print(f"to fetch  {text.plural(len(plan.to_fetch), 'blob')}, {text.size(plan.bytes)}")
    context.print(f"to unpack {text.plural(len(plan.to_unpack), 'layer')}")
