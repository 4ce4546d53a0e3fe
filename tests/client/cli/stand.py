"""A program of the same frame, whose verbs do what a test needs: python -m tests.client.cli.stand."""

import threading
from pathlib import Path

import click

from client.cli.context import Context, connected, local
from client.cli.group import Section, Verb
from client.cli.program import Program
from client.download import PACE
from client.partial import PartialFiles
from client.transfer import Transfer
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.media_types import OCTET_STREAM
from storage.oci.names import ImageReference


@click.command()
@click.argument("reference")
@click.argument("blob")
@click.argument("size", type=int)
@connected
def fetch(context: Context, reference: str, blob: str, size: int) -> None:
    """Fetch one blob below the store."""
    parsed = ImageReference.parse(reference)
    sources = context.sessions.sources(context.hosts.route(parsed).for_digests())
    sinks = PartialFiles(context.store_path / "partial", context.store_path / "blobs")
    wanted = Descriptor(OCTET_STREAM, Digest.parse(blob), size)
    with context.about(parsed):
        Transfer(sinks, context.progress, PACE, context.deadline).fetch([wanted], sources)
    context.print(blob)


@click.command()
@local
def fail(context: Context) -> None:
    """Raise what nobody knows."""
    raise ValueError("of \x1b[31mours")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@local
def read(context: Context, path: Path) -> None:
    """Raise what the system says."""
    context.print(path.read_text())


@click.command()
@local
def differ(context: Context) -> int:
    """Fail without an error."""
    context.warn("not \x1b[31mthe same")
    return 1


@click.command()
@local
def hang(context: Context) -> None:
    """Wait for a stop, and then for ever."""
    stopped = context.stop.event
    click.echo("waiting", err=True)
    stopped.wait()
    click.echo("stopping", err=True)
    threading.Event().wait()


_MODULE = "tests.client.cli.stand"
main = Program(
    "stand",
    (
        Section(
            "All",
            tuple(
                Verb(each, f"{_MODULE}:{each}", each) for each in ("fetch", "fail", "read", "differ", "hang")
            ),
        ),
    ),
)

if __name__ == "__main__":
    main()
