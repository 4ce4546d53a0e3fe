"""`cargohold save`: images of the local store into an archive."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.cli.context import Context, progressing
from client.cli.references import PLATFORM

if TYPE_CHECKING:
    from storage.oci.platform import Platform


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", type=click.Path(path_type=Path), default="-", metavar="FILE", help="[stdout]")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["docker-archive", "oci-archive", "oci"]),
    default="docker-archive",
    help="[docker-archive, which is an OCI layout too]",
)
@click.option("--platform", type=PLATFORM, metavar="OS/ARCH", help="Save this image of an index alone.")
@progressing
def save(
    context: Context, images: tuple[str, ...], output: Path, kind: str, platform: "Platform | None"
) -> None:
    """Write images with their names and digests into one archive, which docker, podman and we can load.

    \b
    cargohold save -o app.tar registry.example/team/app:1.4
    cargohold save alpine | ssh host docker load
    """
    import sys

    from client.places.names import Kind, Location

    if str(output) == "-" and (sys.stdout.isatty() or kind == "oci"):
        raise click.UsageError(
            "an archive does not go to a terminal, nor a layout to stdout: name it with -o"
        )
    context.client.save(images, Location(Kind(kind), output), platform)
    context.progress.close()
