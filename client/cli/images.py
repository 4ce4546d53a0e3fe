"""`cargohold images`: what is in the local store."""

import sys
from typing import TYPE_CHECKING, Any

import click

from client.cli import output, text
from client.cli.context import Context, local
from client.cli.output import Column, Style, listing, short_digest

if TYPE_CHECKING:
    from client.store.image import Image
    from storage.oci.names import ImageReference

NONE = "<none>"
_COLUMNS = (
    Column("REPOSITORY", "Repository"),
    Column("TAG", "Tag"),
    Column("DIGEST", "Digest"),
    Column("IMAGE ID", "ID", short=short_digest),
    Column("CREATED", "CreatedSince", show=lambda created: text.since(created)),
    Column("SIZE", "Size", show=lambda size: "damaged" if size is None else text.size(size)),
    Column("PLATFORM", "Platform"),
    Column("CREATED AT", "CreatedAt"),
)
_SHOWN = ("Repository", "Tag", "ID", "CreatedSince", "Size", "Platform")


@click.command()
@click.argument("name", required=False)
@click.option("-a", "--all", "shows_all", is_flag=True, help="Show those without a name too.")
@click.option("--digests", is_flag=True, help="Show digests.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="dangling, label, reference, before, since or until.",
)
@listing
@local
def images(
    context: Context, name: str | None, shows_all: bool, digests: bool, filters: tuple[str, ...], style: Style
) -> None:
    """List the images in the local store, newest first.

    \b
    cargohold images
    cargohold images --filter 'reference=*/app:*' --format '{{.Repository}}:{{.Tag}} {{.Size}}'
    """
    from client.cli.image_filters import Filters

    wanted = Filters.parse(filters, context.store, name)
    found, problems = context.store.all()
    accepted = [image for image in found if wanted.accepts(image)]
    hides = not shows_all and not wanted.wants_dangling
    shown = [image for image in accepted if image.names or not hides]
    fields = {column.field for column in _COLUMNS} if style.template else {*_SHOWN, *(["Digest"] * digests)}
    columns = [column for column in _COLUMNS if column.field in fields]
    output.print_list(columns, [row for image in shown for row in rows(image, wanted.names(image))], style)
    for problem in problems:
        context.warn(problem.message)
    if len(shown) < len(accepted):
        count = len(accepted) - len(shown)
        print(f"{count} without a name {'is' if count == 1 else 'are'} hidden: show with -a", file=sys.stderr)


def rows(image: "Image", names: "list[ImageReference]") -> list[dict[str, Any]]:
    """Describe an image under each of these names."""
    return [_row(image, name) for name in names] or [_row(image, None)]


def _row(image: "Image", name: "ImageReference | None") -> dict[str, Any]:
    from storage.oci.names import ImageReference

    created = (image.config.created if image.config else None) or ""
    return {
        "Repository": ImageReference(name.host, name.repository).familiar() if name else NONE,
        "Tag": str(name.tag) if name and name.tag else NONE,
        "Digest": str(image.root),
        "ID": str(image.id),
        "CreatedSince": created,
        "Size": image.content,
        "Platform": str(image.platform) if image.platform else NONE,
        "CreatedAt": created,
    }
