"""`cargohold cat`, `ls` and `diff`: what is in an image, read from its layers where they lie."""

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from client.cli import output
from client.cli.context import Context, connected
from client.cli.references import one_platform

if TYPE_CHECKING:
    from storage.oci.platform import Platform

_BLOCK = 1024 * 1024


@click.command()
@click.argument("image")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@one_platform
@connected
def cat(context: Context, image: str, paths: tuple[str, ...], platform: "Platform | None") -> None:
    """Write files of an image to stdout, which were verified when it was pulled."""
    from client.cli.presence import ensure

    ensure(context, image, platform)
    with context.client.view(image, platform) as view:
        context.progress.close()
        for path in paths:
            with view.open_file(os.fsencode(path)) as file:
                while data := file.read(_BLOCK):
                    sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@click.command()
@click.argument("image")
@click.argument("path", default="/")
@click.option("-l", "--long", "is_long", is_flag=True, help="With modes, owners, sizes and times.")
@click.option("-R", "--recursive", is_flag=True, help="All below it too.")
@one_platform
@connected
def ls(
    context: Context, image: str, path: str, is_long: bool, recursive: bool, platform: "Platform | None"
) -> None:
    """List a directory of an image, bytewise; control characters in names are escaped."""
    from client.cli.presence import ensure
    from client.view import listing

    ensure(context, image, platform)
    with context.client.view(image, platform) as view:
        context.progress.close()
        top = view.find(os.fsencode(path)).path
        entries = listing.entries(view, os.fsencode(path), recursive=recursive)
        if is_long:
            for line in listing.long_lines(list(entries), top):
                output.write(line)
            return
        for entry in entries:
            output.write(listing.text(listing.relative(entry, top)))


@click.command()
@click.argument("old", metavar="IMAGE")
@click.argument("new", metavar="IMAGE")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, with what changed.")
@one_platform
@connected
def diff(context: Context, old: str, new: str, as_json: bool, platform: "Platform | None") -> int:
    """Say which files differ between two images: A added, C changed, D deleted.

    Ends with 1 where any does, as diff does; times alone are no difference.
    """
    from client.cli.presence import ensure
    from client.view import differences, listing

    for image in (old, new):
        ensure(context, image, platform)
    with context.client.view(old, platform) as before, context.client.view(new, platform) as after:
        context.progress.close()
        changes = differences.diff(before, after)
    for change in changes:
        path = f"/{listing.text(change.path)}"
        if as_json:
            facts = sorted(fact.value for fact in change.facts)
            output.write(json.dumps({"path": path, "action": change.action.value, "changed": facts}))
        else:
            output.write(f"{change.action.value} {path}")
    return 1 if changes else 0
