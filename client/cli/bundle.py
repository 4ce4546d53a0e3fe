"""`cargohold bundle`: an OCI runtime bundle that runc starts."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.cli.context import Context, connected
from client.cli.references import one_platform

if TYPE_CHECKING:
    from client.bundle.options import Bind, BundleOptions
    from storage.oci.platform import Platform


@click.command()
@click.argument("image")
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("command", nargs=-1, metavar="[-- COMMAND...]")
@one_platform
@click.option("--entrypoint", metavar="PROGRAM", help="Instead of the image's.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Run as, instead of the image's user.")
@click.option("-w", "--workdir", metavar="PATH", help="Start here, instead of the image's directory.")
@click.option(
    "-v", "--volume", "binds", multiple=True, metavar="SOURCE:PATH[:ro]", help="Show a directory of the host."
)
@click.option(
    "--volumes",
    type=click.Choice(["directories", "tmpfs", "ignore"]),
    default="directories",
    help="What the image's own volumes become. [directories]",
)
@click.option("--read-only", is_flag=True, help="Let nobody write to the root file system.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("--network", type=click.Choice(["none", "host"]), help="[none; host without root]")
@connected
def bundle(
    context: Context, image: str, directory: Path, platform: "Platform | None", **flags: object
) -> None:
    """Make an OCI runtime bundle of an image, which is pulled first if it is not here.

    \b
    cargohold bundle alpine ./box -- echo hello
    runc run --bundle ./box box
    """
    from client.cli.presence import ensure
    from client.unpack.stats import left_out

    options = _options(**flags)  # type: ignore[arg-type]  # click gives what their types say
    ensure(context, image, platform)
    for what, count in left_out(context.client.bundle(image, directory, options, platform)).items():
        context.warn(f"{count} x {what}")
    context.print(str(directory))


def _options(
    *,
    command: tuple[str, ...],
    entrypoint: str | None,
    env: tuple[str, ...],
    user: str | None,
    workdir: str | None,
    binds: tuple[str, ...],
    volumes: str,
    read_only: bool,
    tty: bool,
    network: str | None,
) -> "BundleOptions":
    from client.bundle.options import BundleOptions, Network, Volumes

    return BundleOptions(
        command=command or None,
        entrypoint=(entrypoint,) if entrypoint else None,
        env=env,
        user=user,
        working_dir=workdir,
        binds=tuple(map(_bind, binds)),
        volumes=Volumes(volumes),
        read_only_root=read_only,
        terminal=tty,
        network=Network(network) if network else None,
    )


def _bind(text: str) -> "Bind":
    from client.bundle.options import Bind

    source, colon, rest = text.partition(":")
    destination, _, mode = rest.partition(":")
    if not colon or not source or mode not in ("", "ro", "rw"):
        raise click.UsageError(f"--volume: not SOURCE:PATH[:ro]: {text!r}")
    return Bind(Path(source).absolute(), destination, read_only=mode == "ro")
