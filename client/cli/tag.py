"""`cargohold tag`: another name for an image."""

import click

from client.cli.context import Context, local
from client.cli.references import REFERENCE


@click.command()
@click.argument("source", metavar="IMAGE")
@click.argument("target", type=REFERENCE, metavar="NAME")
@local
def tag(context: Context, source: str, target: str) -> None:
    """Give an image of the local store another name, which moves if another image has it."""
    from storage.oci.names import ImageReference

    name = ImageReference.parse(target)
    if name.digest is not None:
        raise click.UsageError("a new name has a tag and no digest")
    with context.store.directory.shared():
        context.store.tag(context.store.find(source), name)
    context.print(str(name))
