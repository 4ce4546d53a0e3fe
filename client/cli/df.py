"""`cargohold df`: what the local store takes of the disk."""

import json
from typing import TYPE_CHECKING, Any

import click

from client.cli import output, text
from client.cli.context import Context, local
from client.cli.output import Column, Style

if TYPE_CHECKING:
    from client.store.usage import Usage

_COLUMNS = (
    Column("TYPE", "Type"),
    Column("COUNT", "Count"),
    Column("SIZE", "Size", show=text.size),
    Column("RECLAIMABLE", "Reclaimable", show=text.size),
)
_IMAGE_COLUMNS = (
    Column("IMAGE", "Name"),
    Column("IMAGE ID", "ID", short=output.short_digest),
    Column("SIZE", "Size", show=text.size),
    Column("UNIQUE", "Unique", show=text.size),
)


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="For each image too, and what it shares with none.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with exact bytes.")
@local
def df(context: Context, verbose: bool, as_json: bool) -> None:
    """Measure what the store takes of the disk, and what `prune` would give back."""
    from client.store import collection
    from client.store.usage import usage

    store = context.store
    measured = usage(store)
    garbage = collection.plan(store, collection.unwanted(store), partial_seconds=0)
    freed = dict.fromkeys(("blob", "layer", "partial"), 0)
    for piece in garbage.pieces:
        freed[piece.kind] += piece.bytes
    rows = [
        _row("Blobs", len(list(store.directory.blobs.glob("*/*"))), measured.blobs, freed["blob"]),
        _row("Layers", len(store.layers.all()), measured.layers, freed["layer"]),
        _row(
            "Partial", len(list(store.directory.partial.glob("*.part"))), measured.partial, freed["partial"]
        ),
    ]
    if as_json:
        context.print(json.dumps({"total": measured.total, "types": rows, "images": _images(measured)}))
        return
    output.print_list(_COLUMNS, rows, Style())
    if verbose:
        context.print("")
        output.print_list(_IMAGE_COLUMNS, _images(measured), Style())


def _row(kind: str, count: int, size: int, reclaimable: int) -> dict[str, Any]:
    return {"Type": kind, "Count": count, "Size": size, "Reclaimable": reclaimable}


def _images(measured: "Usage") -> list[dict[str, Any]]:
    return [
        {
            "Name": each.image.names[0] if each.image.names else "<none>",
            "ID": str(each.image.id),
            "Size": each.bytes,
            "Unique": each.unique,
        }
        for each in measured.images
    ]
