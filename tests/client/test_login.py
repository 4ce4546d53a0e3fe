"""How a credential is kept and forgotten (CLI-09)."""

import json
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from client.configuration.auth_file import HUB_KEY
from client.configuration.credentials import login, logout
from client.credentials import Credential
from client.errors import CredentialsUnusable
from tests.client.homes import ME, Home, auths, entry


def load(path: Path) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(path.read_text())
    return document


def test_cli_09_keeps_a_credential_where_nobody_else_reads_it(home: Home) -> None:
    assert login(home.paths, "r.example", ME) == str(home.docker)

    assert stat.S_IMODE(home.docker.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.docker.parent.stat().st_mode) == 0o700
    assert home.find("r.example") == ME
    assert os.listdir(home.docker.parent) == ["config.json"]


def test_cli_09_closes_a_file_that_was_open(home: Home) -> None:
    home.write_docker({}, 0o644)

    login(home.paths, "r.example", ME)

    assert stat.S_IMODE(home.docker.stat().st_mode) == 0o600


def test_cli_09_writes_through_a_link(home: Home) -> None:
    real = home.write("data/config.json", {})
    home.docker.parent.mkdir()
    home.docker.symlink_to(real)

    login(home.paths, "r.example", ME)

    assert home.docker.is_symlink()
    assert "r.example" in load(real)["auths"]


def test_keeps_what_else_is_in_the_file(home: Home) -> None:
    home.write_docker({"HttpHeaders": {"X": "ü"}, **auths(**{"other.example": entry()}), "detachKeys": "x"})

    login(home.paths, "r.example", ME)

    document = load(home.docker)
    assert list(document) == ["HttpHeaders", "auths", "detachKeys"]
    assert list(document["auths"]) == ["other.example", "r.example"]


def test_keeps_a_refresh_token_as_docker_does(home: Home) -> None:
    login(home.paths, "docker.io", Credential("me", identity_token="refresh"))

    assert load(home.docker) == auths(**{HUB_KEY: {**entry(password=""), "identitytoken": "refresh"}})
    assert home.find("docker.io") == Credential("me", identity_token="refresh")


@pytest.mark.parametrize("member", ["credHelpers", "credsStore"])
def test_gives_a_credential_to_the_helper(home: Home, member: str) -> None:
    log = home.add_helper("test", "")
    home.write_docker({member: {"r.example": "test"} if member == "credHelpers" else "test"})

    where = login(home.paths, "r.example", Credential("me", identity_token="refresh"))

    assert where == str(home.helpers / "docker-credential-test")
    verb, _, given = log.read_text().partition(" ")
    assert (verb, json.loads(given)) == (
        "store",
        {"ServerURL": "r.example", "Username": "<token>", "Secret": "refresh"},
    )
    assert load(home.docker)["auths"] == {"r.example": {}}


def test_cli_09_writes_no_secret_to_the_file_when_the_helper_fails(home: Home) -> None:
    home.add_helper("test", "exit 1")
    path = home.write_docker({"credsStore": "test"})
    before = path.read_bytes()

    with pytest.raises(CredentialsUnusable):
        login(home.paths, "r.example", ME)

    assert path.read_bytes() == before


def test_forgets_every_spelling_of_a_registry(home: Home) -> None:
    keys = ("r.example", "https://r.example/v2/", "other.example", "r.example/team")
    home.write_docker(auths(**{key: entry() for key in keys}))

    assert logout(home.paths, "r.example") is True
    assert list(load(home.docker)["auths"]) == ["other.example", "r.example/team"]
    assert logout(home.paths, "r.example") is False


def test_forgets_what_a_helper_has(home: Home) -> None:
    log = home.add_helper("test", "")
    home.write_docker({"credsStore": "test", **auths(**{HUB_KEY: {}})})

    assert logout(home.paths, "docker.io") is True
    assert log.read_text() == f"erase {HUB_KEY}\n"


def test_two_logins_at_once_keep_both(home: Home) -> None:
    threads = [
        threading.Thread(target=login, args=(home.paths, f"r{number}.example", ME)) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(load(home.docker)["auths"]) == 8


def test_says_that_a_file_cannot_be_written(home: Home) -> None:
    home.write(".docker", "a file where the directory should be")

    with pytest.raises(CredentialsUnusable, match="cannot be written"):
        login(home.paths, "r.example", ME)
