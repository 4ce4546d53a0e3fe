"""The frame of all verbs: what it imports and when, its help, completion, verbs that are misspelled."""

import os
import resource
import subprocess
import sys

import pytest
from click.testing import CliRunner

from client.cli.group import LazyGroup, Section, Verb
from registry.cli import main
from tests.client.cli.program import PROGRAM, Cargohold, Terminal

HEAVY = ("httpx", "uvicorn", "starlette", "pydantic", "rich", "ssl", "importlib.metadata", "sqlite3")
# Nobody waits for more.
_HELP_SECONDS = 0.15

_TRACE = """\
import sys
from registry.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""


# What measures coverage imports and takes more than all the rest.
UNMEASURED = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--help"], id="help"),
        pytest.param(["serve", "--help"], id="serve-help"),
        pytest.param(["inspect", "--help"], id="verb-help"),
        pytest.param(["completion", "zsh"], id="completion"),
    ],
)
def test_imports_nothing_that_help_does_not_need(arguments: list[str]) -> None:
    command = [sys.executable, "-c", _TRACE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=UNMEASURED)

    modules = done.stderr.split()
    assert "click" in modules
    assert not set(HEAVY) & set(modules)


def test_shows_help_before_anybody_waits() -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([PROGRAM, "--help"], capture_output=True, check=True, env=UNMEASURED)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert min(seconds) < _HELP_SECONDS


def test_fits_its_help_on_a_screen(cargohold: Cargohold) -> None:
    done = cargohold.run("--help")

    assert done.code == 0
    assert done.err == ""
    assert len(done.lines) <= 50
    assert max(map(len, done.lines)) <= 80


@pytest.mark.parametrize("verb", LazyGroup.list_commands(main, None))  # type: ignore[arg-type]  # needs none
def test_has_a_command_behind_every_row(verb: str) -> None:
    result = CliRunner().invoke(main, [verb, "--help"])

    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: cargohold {verb}")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        pytest.param(["inspct"], "error: no such command 'inspct'. Did you mean 'inspect'?", id="near"),
        pytest.param(["zzz"], "error: no such command 'zzz'", id="far"),
        pytest.param(
            ["login", "--usrname", "x"],
            "error: no such option '--usrname'. Did you mean '--username'?",
            id="option",
        ),
        pytest.param(["\x1b[31m"], r"error: no such command '\x1b[31m'", id="control-characters"),
    ],
)
def test_names_the_nearest_of_what_is_misspelled(
    cargohold: Cargohold, arguments: list[str], line: str
) -> None:
    done = cargohold.run(*arguments)

    assert done.code == 2
    assert done.out == ""
    assert done.errors[0].startswith(line)
    assert done.errors[1].startswith("try: cargohold")
    assert "\x1b" not in done.err


def test_says_its_version(cargohold: Cargohold) -> None:
    assert cargohold.run("--version").out.startswith("cargohold 0.")


def test_finds_verbs_in_groups_and_by_other_names() -> None:
    target = "client.cli.completion:completion"
    inner = Verb("check", target, "Check it", aliases=("verify",))
    group = LazyGroup("top", (Section("All", (Verb("store", "", "Work on it", verbs=(inner,)),)),))

    assert "  check  Check it\n" in CliRunner().invoke(group, ["store", "--help"]).output
    for name in ("check", "verify"):
        result = CliRunner().invoke(group, ["store", name, "bash"])
        assert "_CARGOHOLD_COMPLETE" in result.output or "_TOP_COMPLETE" in result.output
    assert "Did you mean 'check'" in CliRunner().invoke(group, ["store", "chekc"]).output


def test_lets_bash_complete_a_verb(cargohold: Cargohold) -> None:
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"], cargohold.environment)
    terminal.type('eval "$(cargohold completion bash)"; PS1="ready"; echo set-"up"\n')
    terminal.wait_for("set-up\r\n")

    terminal.type("cargohold logo\t --help\n")

    terminal.wait_for("Usage: cargohold logout")
    terminal.type("exit\n")
    terminal.end()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_prints_completion_for_other_shells(cargohold: Cargohold, shell: str) -> None:
    done = cargohold.run("completion", shell)

    assert done.code == 0
    assert f"_CARGOHOLD_COMPLETE={shell}_complete" in done.out


def test_completes_verbs_without_loading_them(cargohold: Cargohold) -> None:
    done = cargohold.run(_CARGOHOLD_COMPLETE="bash_complete", COMP_WORDS="cargohold log", COMP_CWORD="1")

    assert [line.partition(",")[2] for line in done.lines] == ["login", "logout"]
