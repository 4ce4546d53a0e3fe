"""`cargohold logout`."""

import click

from client.cli.context import Context, local
from client.cli.references import REGISTRY


@click.command()
@click.argument("registry", type=REGISTRY, default="docker.io")
@local
def logout(context: Context, registry: str) -> None:
    """Forget the credential for a registry, Docker Hub's unless it is named."""
    from client.configuration.credentials import logout as forget

    known = forget(context.paths, registry)
    context.print(f"Removing login credentials for {registry}" if known else f"Not logged in to {registry}")
    if left := context.credentials.find(registry, None):
        context.warn(f"there is still one in {left.source}, which podman or somebody else keeps")
