"""`cargohold prune`: free the space of what nobody needs."""

import functools

import click

from client.cli import text
from client.cli.context import Context, local


@click.command()
@click.option("-a", "--all", "all_images", is_flag=True, help="All images that nothing uses, named or not.")
@click.option("--until", metavar="TIME", help="Only images that came before, as 24h or 2026-01-31.")
@click.option("--partial", is_flag=True, help="What broken pulls left too, which else waits a week.")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@click.option("--wait", is_flag=True, help="Wait for others that are at work in the store.")
@local
def prune(
    context: Context, all_images: bool, until: str | None, partial: bool, dry_run: bool, wait: bool
) -> None:
    """Remove images without a name from the local store, and all that no image needs.

    What is mounted stays. Nothing is removed while a pull is at work: --wait waits for its end.

    \b
    cargohold prune --dry-run
    cargohold prune --all --until 30d
    """
    from client.cli.image_filters import moment
    from client.store import collection

    try:
        before = moment(until) if until else None
    except ValueError as error:
        raise click.UsageError(f"--until: {error}") from error
    store = context.store
    choose = functools.partial(collection.unwanted, all_images=all_images, before=before)
    seconds = 0.0 if partial else collection.PARTIAL_SECONDS
    if dry_run:
        garbage = collection.plan(store, choose(store), partial_seconds=seconds)
    else:
        garbage = collection.collect(store, choose=choose, wait=wait, partial_seconds=seconds)
    for digest in garbage.images:
        context.print(f"image {digest}")
    for piece in garbage.pieces:
        context.print(f"{piece.kind} {piece.name} {text.size(piece.bytes)}")
    context.note(f"{'would free' if dry_run else 'freed'} {text.size(garbage.bytes)}")
