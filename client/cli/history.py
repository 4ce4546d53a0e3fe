"""`cargohold history`: how an image came to be."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from client.cli import output, text
from client.cli.context import Context, local
from client.cli.output import Column, Style, listing
from client.cli.references import one_platform

if TYPE_CHECKING:
    from client.store.image import Image
    from client.store.store import Store
    from storage.oci.platform import Platform

_COMMAND_LENGTH = 45


def _short(command: str) -> str:
    return command if len(command) <= _COMMAND_LENGTH else f"{command[: _COMMAND_LENGTH - 1]}…"


_COLUMNS = (
    Column("LAYER", "ID", short=lambda digest: output.short_digest(digest) or "<empty>"),
    Column("CREATED", "CreatedSince", show=text.since),
    Column("CREATED BY", "CreatedBy", short=_short),
    Column("SIZE", "Size", show=lambda size: "damaged" if size is None else text.size(size)),
    Column("COMMENT", "Comment"),
)


@click.command()
@click.argument("image")
@one_platform
@listing
@local
def history(context: Context, image: str, platform: "Platform | None", style: Style) -> None:
    """Show how an image was built, newest step first."""
    found = context.store.image(image, platform)
    output.print_list(_COLUMNS, list(_rows(context.store, found))[::-1], style)


def _rows(store: "Store", image: "Image") -> Iterator[dict[str, Any]]:
    """Describe each step, oldest first; layers that no step tells of come last."""
    from storage.oci.image_config import HistoryEntry

    layers = list(zip(image.manifest.layers, image.chain, strict=False))
    steps = image.config.history if image.config else ()
    told = sum(not step.is_empty for step in steps)
    untold = [HistoryEntry()] * max(len(layers) - told, 0)
    for step in (*steps, *untold):
        has_layer = not step.is_empty and bool(layers)
        blob, chain_id = layers.pop(0) if has_layer else (None, None)
        yield {
            "ID": str(blob.digest) if blob else "",
            "CreatedSince": step.created or "",
            "CreatedBy": step.created_by or "",
            "Size": store.layers.content(chain_id) if chain_id else 0,
            "Comment": step.comment or "",
        }
