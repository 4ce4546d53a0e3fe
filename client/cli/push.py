"""`cargohold push`: an image of the local store to a registry."""

from typing import TYPE_CHECKING

import click

from client.cli.context import Context, connected
from client.cli.references import PLATFORM, REFERENCE

if TYPE_CHECKING:
    from storage.oci.platform import Platform


@click.command()
@click.argument("source", metavar="IMAGE")
@click.argument("target", required=False, type=REFERENCE, metavar="[TARGET]")
@click.option("--platform", type=PLATFORM, metavar="OS/ARCH", help="Push this image of an index alone.")
@click.option("--no-referrers", is_flag=True, help="Leave signatures and the like behind.")
@connected
def push(
    context: Context, source: str, target: str | None, platform: "Platform | None", no_referrers: bool
) -> None:
    """Push an image to the registry that its name says, or to TARGET.

    Of an index that is here for some platforms only, this machine's image is pushed alone.

    \b
    cargohold push registry.example/team/app:1.4
    cargohold push alpine registry.example/mirror/alpine:3
    """
    from storage.oci.names import ImageReference

    with context.about(ImageReference.parse(target or source)):
        pushed = context.client.push(source, target, platform=platform, referrers=not no_referrers)
    if pushed.left_out:
        context.warn(f"{pushed.left_out} images of the index are not here: one was pushed alone")
    context.print(str(pushed.result.digest))
