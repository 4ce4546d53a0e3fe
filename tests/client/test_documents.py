"""On which line a value of a JSON or TOML file stands."""

from pathlib import Path

import pytest

from client.configuration.documents import parse_json, read_toml
from client.errors import ConfigurationInvalid
from tests.client.machines import Machine


def test_finds_the_lines_of_json() -> None:
    document = parse_json("f", '{"a": {"b\\"c": 1,\n"d": [1,\n{"e": "{"},\n2]}}')

    assert str(document.source("a", 'b"c')) == "f:1"
    assert str(document.source("a", "d", 1, "e")) == "f:3"
    assert str(document.source("a", "d", 2)) == "f:4"
    assert str(document.source("a", "d", 9)) == "f:2"
    assert str(document.source("zzz")) == "f"


def test_finds_the_lines_of_toml(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text('x = 5\n\n[[a]] # comment\nb.c = 1\n[[a]]\n [a.d."e.f"]\n  g = [\n 1]\n')

    document = read_toml(path)

    assert document is not None
    assert document.source("a", 0, "b", "c").line == 4
    assert document.source("a", 1, "d", "e.f", "g", 0).line == 7
    assert document.source("x").line == 1


def test_refuses_a_file_beyond_all_measure(machine: Machine) -> None:
    path = machine.docker(" " * (4 * 1024 * 1024 + 1))

    with pytest.raises(ConfigurationInvalid, match=str(path)):
        machine.route("ubuntu")
