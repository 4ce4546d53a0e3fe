"""`cargohold mount` and `umount`: an image's files without unpacking them once more."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.cli.context import Context, connected, local
from client.cli.references import one_platform

if TYPE_CHECKING:
    from storage.oci.platform import Platform

_directory = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("image")
@click.argument("directory", type=_directory)
@one_platform
@click.option("--suid", is_flag=True, help="Honour set-id programs and file capabilities.")
@click.option("--dev", is_flag=True, help="Let device nodes open devices.")
@connected
def mount(
    context: Context, image: str, directory: Path, platform: "Platform | None", suid: bool, dev: bool
) -> None:
    """Mount an image, read-only, at an empty DIRECTORY; one that is not here is pulled first.

    It stays in the store until `cargohold umount`. Root only, or inside `unshare -Urm`.
    """
    from client.cli.presence import ensure
    from client.mounts import MountOptions

    ensure(context, image, platform)
    context.client.mount(image, directory, MountOptions(set_id=suid, devices=dev), platform)
    context.print(str(directory))


@click.command()
@click.argument("directories", nargs=-1, required=True, type=_directory, metavar="DIRECTORY...")
@click.option("--lazy", is_flag=True, help="At once, although somebody still uses it.")
@local
def umount(context: Context, directories: tuple[Path, ...], lazy: bool) -> None:
    """End mounts of images."""
    for directory in directories:
        context.client.unmount(directory, lazy=lazy)
        context.print(str(directory))
