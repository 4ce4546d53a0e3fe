"""The one program: `cargohold serve` and, beside it, the client's commands."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from client.cli.group import Section, Verb
from client.cli.program import Program
from client.cli.verbs import SECTIONS
from registry.admin.verbs import SECTION as ADMINISTRATION

if TYPE_CHECKING:  # `--help` does not wait for pydantic
    from registry.settings import Settings, Source

SERVER = Section("Server", (Verb("serve", "registry.cli:serve", "Run the registry until SIGTERM"),))

main = Program(
    "cargohold", (*SECTIONS, ADMINISTRATION, SERVER), help="An OCI registry, mirror and image client."
)


class Misconfigured(click.ClickException):
    """Settings that cannot be used: the message names the place, and help about flags would not help."""

    exit_code = 2


@click.command()
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file of settings."
)
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Directory of blobs and database. [data]"
)
@click.option("--host", help="Address to listen on. [127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one. [5000]")
@click.option("--unix-socket", type=click.Path(path_type=Path), help="Listen on a unix socket instead.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that share port and store. [1]")
@click.option("--path-prefix", help="Path under which a reverse proxy shows the registry.")
@click.option(
    "--tls-certificate", type=click.Path(dir_okay=False, path_type=Path), help="Speak TLS: certificate, PEM."
)
@click.option("--tls-key", type=click.Path(dir_okay=False, path_type=Path), help="Its private key, PEM.")
@click.option(
    "--tls-self-signed", is_flag=True, default=None, help="Speak TLS with a certificate made for a first try."
)
@click.option("--allow-plain-http", is_flag=True, default=None, help="Speak plain HTTP beyond this machine.")
@click.option("--metrics-listen", metavar="HOST:PORT", help="Second listener for /metrics and health.")
@click.option(
    "--allow-anonymous-push", is_flag=True, default=None, help="Let anyone beyond this machine push."
)
@click.option("--read-only", is_flag=True, default=None, help="Refuse every push and delete.")
@click.option("--no-delete", is_flag=True, default=None, help="Refuse every delete.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[info]")
def serve(config: Path | None, no_delete: bool | None, **flags: Any) -> None:
    """Run the registry until SIGTERM.

    \b
    cargohold serve                           a registry on 127.0.0.1:5000, data in ./data
    cargohold serve --config cargohold.toml   every setting: docs/configuration.md
    CARGOHOLD_WORKERS=2 cargohold serve       environment variables have the settings' names
    """
    from registry.settings import Source

    given = {key: value for key, value in flags.items() if value is not None}
    if no_delete:
        given["delete_enabled"] = False
    source = Source(config, given)
    sys.exit(_serve(load(source), source))


def load(source: "Source") -> "Settings":
    """Read the settings. Raises Misconfigured."""
    from pydantic import ValidationError

    from registry.settings import SettingsUnreadable

    try:
        return source.load()
    except ValidationError as error:
        raise Misconfigured("; ".join(_explain(item) for item in error.errors())) from error
    except SettingsUnreadable as error:
        raise Misconfigured(" ".join(str(error).split())) from error


def _serve(settings: Any, source: Any) -> int:
    from registry import self_signed, self_test
    from registry.logs import configure
    from registry.server import serve as serve_until_stopped

    configure(settings.log_level)
    problems = self_test.problems(settings)
    if not problems and settings.tls_self_signed and (how_to_trust := self_signed.ensure(settings)):
        print(how_to_trust, file=sys.stderr)
    problems = problems or self_test.certificate_problems(settings)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        return 1
    return serve_until_stopped(settings, source)


def _explain(error: Any) -> str:
    # Lists are counted from one, as people do.
    where = ".".join(str(part + 1 if isinstance(part, int) else part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


if __name__ == "__main__":
    main()
