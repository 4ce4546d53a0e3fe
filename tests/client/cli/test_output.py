"""Tables, templates and JSON for lists; sizes and ages in docker's words; what a terminal would obey."""

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from client.cli import text
from client.cli.output import Column, Style, listing, print_list, short_digest

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
ROWS: list[dict[str, Any]] = [
    {"Repository": "app", "ID": DIGEST, "Size": 1_234_567},
    {"Repository": "much/longer", "ID": DIGEST, "Size": 0},
]
COLUMNS = (
    Column("REPOSITORY", "Repository"),
    Column("IMAGE ID", "ID", short=short_digest),
    Column("SIZE", "Size", text.size),
)


@click.command()
@listing
def images(style: Style) -> None:
    print_list(COLUMNS, ROWS, style)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        pytest.param(
            [],
            [
                "REPOSITORY    IMAGE ID       SIZE",
                "app           0123456789ab   1.23MB",
                "much/longer   0123456789ab   0B",
            ],
            id="table",
        ),
        pytest.param(["-q"], ["0123456789ab"] * 2, id="quiet"),
        pytest.param(["-q", "--no-trunc"], [DIGEST] * 2, id="quiet-whole"),
        pytest.param(
            ["--format", "{{.Repository}}\\t{{.Size}}"], ["app\t1.23MB", "much/longer\t0B"], id="template"
        ),
        pytest.param(
            ["--format", "table {{.Size}}\\t{{.Repository}}"],
            ["SIZE     REPOSITORY", "1.23MB   app", "0B       much/longer"],
            id="table-template",
        ),
    ],
)
def test_prints_lists(arguments: list[str], lines: list[str]) -> None:
    result = CliRunner().invoke(images, arguments)

    assert (result.exit_code, result.stdout.splitlines()) == (0, lines)


def test_prints_json_as_docker_does_and_with_exact_values() -> None:
    shown, exact = (
        [json.loads(line) for line in CliRunner().invoke(images, [*arguments]).stdout.splitlines()]
        for arguments in (["--format", "json"], ["--json"])
    )

    assert shown[0] == {"Repository": "app", "ID": "0123456789ab", "Size": "1.23MB"}
    assert exact == ROWS


def test_refuses_a_field_that_rows_do_not_have() -> None:
    result = CliRunner().invoke(images, ["--format", "{{.Sise}}"])

    assert result.exit_code == 2
    assert "no field 'Sise'; there are Repository, ID, Size" in result.stderr


# Source: docker/go-units, size_test.go and duration_test.go.
@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1024, "1.02kB"),
        (999_499, "999kB"),
        (999_999, "1MB"),
        (1_234_567, "1.23MB"),
        (12_345_678, "12.3MB"),
        (123_456_789, "123MB"),
        (1_100_000_000, "1.1GB"),
        (5 * 10**18, "5EB"),
        (5 * 10**21, "5000EB"),
    ],
)
def test_writes_sizes_as_docker_does(count: int, words: str) -> None:
    assert text.size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.45, "Less than a second"),
        (1, "1 second"),
        (45, "45 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (180, "3 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (35 * 3600, "35 hours"),
        (3 * 86400, "3 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (61 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (1100 * 86400, "3 years"),
    ],
)
def test_writes_ages_as_docker_does(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words
    assert text.age(seconds) == f"{words} ago"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        pytest.param("plain ünï", "plain ünï", id="text"),
        pytest.param("\x1b[31m", "\\x1b[31m", id="escape"),
        pytest.param("a\nb\tc\r", "a\\nb\\tc\\r", id="lines"),
        pytest.param("\x9b31m\x7f", "\\x9b31m\\x7f", id="c1"),
        pytest.param("\u202eevil\u2028", "\\u202eevil\\u2028", id="directions"),
        pytest.param("\udc80", "\\udc80", id="bad-utf-8"),
        pytest.param("back\\slash\x00", "back\\slash\\x00", id="backslash"),
    ],
)
def test_tar_10_escapes_what_a_terminal_would_obey(said: str, shown: str) -> None:
    assert text.printable(said) == shown
