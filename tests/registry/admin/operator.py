"""Somebody on the registry's machine, and what they see."""

import json
from pathlib import Path

from click.testing import CliRunner

from registry.cli import main
from tests.client.cli.program import Cargohold, Ended
from tests.client.homes import Home


class Operator(Cargohold):
    """Somebody on the registry's machine."""

    def __init__(self, home: Home, data: Path) -> None:
        super().__init__(home)
        self.data = data
        self.environment["CARGOHOLD_DATA"] = str(data)

    def run_here(self, *arguments: str, given: str = "") -> Ended:
        """Run it in this process, for tables: starting a program takes longer than all that it does."""
        done = CliRunner().invoke(main, arguments, input=given, env=self.environment)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return Ended(done.exit_code, done.stdout, done.stderr)


def rows(done: Ended) -> list[dict[str, object]]:
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.lines]


def result(done: Ended) -> str:
    """Return the one line that a program printed, and nothing else."""
    assert (done.code, done.err) == (0, "")
    (line,) = done.lines
    return line
