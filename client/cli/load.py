"""`cargohold load`: images of an archive into the local store."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.cli.context import Context, progressing
from client.cli.references import PLATFORM

if TYPE_CHECKING:
    from storage.oci.platform import Platform


@click.command()
@click.option(
    "-i",
    "--input",
    "path",
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    default="-",
    metavar="FILE",
    help="[stdin]",
)
@click.option(
    "--platform", "platforms", type=PLATFORM, multiple=True, metavar="OS/ARCH", help="Of indexes. [all there]"
)
@progressing
def load(context: Context, path: Path, platforms: "tuple[Platform, ...]") -> None:
    """Load all images of an archive, of docker save or an OCI layout in a tar, or of a layout directory.

    \b
    cargohold load -i app.tar
    docker save app | cargohold load
    """
    from client.pull import PullOptions

    for loaded in context.client.load(path, PullOptions(platforms=platforms)):
        if loaded.name is not None:
            context.print(f"Loaded image: {loaded.name}")
        else:
            context.print(f"Loaded image ID: {loaded.pulled.digest}")
