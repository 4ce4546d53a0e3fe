"""`cargohold unpack`: an image's files in a directory."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.cli.context import Context, connected
from client.cli.references import one_platform

if TYPE_CHECKING:
    from storage.oci.platform import Platform


@click.command()
@click.argument("image")
@click.argument("directory", type=click.Path(path_type=Path))
@one_platform
@click.option("--path", "inside", metavar="PATH", help="Only this file or directory of the image.")
@connected
def unpack(
    context: Context, image: str, directory: Path, platform: "Platform | None", inside: str | None
) -> None:
    """Unpack an image into a new or empty DIRECTORY; one that is not here is pulled first.

    As root files get their owners, and the directory is closed to others, for set-id programs may be inside.

    \b
    cargohold unpack alpine ./root
    cargohold unpack alpine ./etc --path /etc
    """
    from client.cli.presence import ensure
    from client.unpack.stats import left_out

    ensure(context, image, platform)
    if inside is not None:
        notices = context.client.extract(image, inside, directory, platform)
    else:
        notices = left_out(context.client.unpack(image, directory, platform))
    for what, count in notices.items():
        context.warn(f"{count} x {what}")
    context.print(str(directory))
