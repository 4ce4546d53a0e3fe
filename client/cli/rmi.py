"""`cargohold rmi`: names, and images with their last one."""

import click

from client.cli import text
from client.cli.context import Context, local


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--force", is_flag=True, help="Remove an image with all its names.")
@local
def rmi(context: Context, images: tuple[str, ...], force: bool) -> None:
    """Remove names, and with its last name an image from the local store."""
    from client.remove import remove, sweep

    for image in images:
        removed = remove(context.store, image, force=force)
        for name in removed.names:
            context.print(f"Untagged: {name}")
        if removed.digest is not None:
            context.print(f"Deleted: {removed.digest}")
    garbage = sweep(context.store)
    if garbage is None:
        context.warn("others are at work in the store: `cargohold prune` frees the space later")
    elif garbage.bytes:
        context.note(f"freed {text.size(garbage.bytes)}")
