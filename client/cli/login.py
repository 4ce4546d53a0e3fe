"""`cargohold login`: a credential, checked and kept."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from client.cli.context import Context, connected
from client.cli.references import REGISTRY
from client.cli.secrets import read_secret
from client.cli.text import printable

if TYPE_CHECKING:
    from storage.oci.names import ImageReference


@click.command()
@click.argument("registry", type=REGISTRY, default="docker.io")
@click.option("-u", "--username", help="Who to log in as.")
@click.option("-p", "--password", help="Do not: other users see it. Use --password-stdin.")
@click.option("--password-stdin", is_flag=True, help="Read the password, or token, from stdin.")
@connected
def login(
    context: Context, registry: str, username: str | None, password: str | None, password_stdin: bool
) -> None:
    """Log in to a registry, Docker Hub unless it is named.

    The credential is tried, and then kept where docker keeps its own.
    """
    from client.configuration.credentials import login as keep
    from client.credentials import Credential

    if password is not None and password_stdin:
        raise click.UsageError("--password and --password-stdin exclude each other")
    if password is not None:
        context.warn("other users of this machine can see a --password; use --password-stdin")
    username = username or _ask_username(password_stdin)
    if password is None:
        password = read_secret() if password_stdin else _ask_password()
    if not password:
        raise click.UsageError("the password is empty")
    if ":" in username:
        raise click.UsageError("a username has no colon: with one, nobody knows where the password begins")
    reference = any_of(registry)
    with context.about(reference):
        origin = context.hosts.route(reference).origin
        session = context.sessions.to(origin)
        credential = session.login(Credential(username, password, source="the command line"))
    # By the name under which it is looked up, which configuration may have changed.
    place = keep(context.paths, origin.host.name, replace(credential, source=""))
    print(printable(f"the credential for {origin.host.name} is kept in {place}"), file=sys.stderr)
    context.print("Login Succeeded")


def any_of(registry: str) -> "ImageReference":
    """Return a reference that stands for all of a registry."""
    from storage.oci.names import ImageReference, RepositoryName

    return ImageReference(registry, RepositoryName("library/any"))


def _ask_username(password_stdin: bool) -> str:
    if password_stdin or not sys.stdin.isatty():
        raise click.UsageError("--username is missing, and stdin is no terminal to ask for it")
    name: str = click.prompt("Username", err=True)
    return name


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("stdin is no terminal to ask for the password: use --password-stdin")
    secret: str = click.prompt("Password", hide_input=True, err=True)
    return secret
