"""login and logout, at a real registry that asks for a password (CLI-09)."""

import json
import stat
from pathlib import Path

import pytest

from tests.client.cli.program import Cargohold
from tests.client.homes import auths, entry, helper_says
from tests.client.lying import lying, reply, reply_json


def test_cli_09_keeps_what_the_registry_accepts(cargohold: Cargohold, closed_registry: str) -> None:
    done = cargohold.run("login", "-u", "me", "--password-stdin", closed_registry, given="secret\n")

    assert (done.code, done.out) == (0, "Login Succeeded\n")
    assert done.err == f"the credential for {closed_registry} is kept in {cargohold.home.docker}\n"
    assert stat.S_IMODE(cargohold.home.docker.stat().st_mode) == 0o600
    assert json.loads(cargohold.home.docker.read_text())["auths"][closed_registry] == entry()
    # Without the credential this asks to log in.
    assert cargohold.run("inspect", "--remote", f"{closed_registry}/no/such").code == 3


def test_cli_09_keeps_nothing_that_is_refused(cargohold: Cargohold, closed_registry: str) -> None:
    done = cargohold.run("login", "-u", "me", "--password-stdin", closed_registry, given="s3cr3t")

    assert (done.code, done.out) == (4, "")
    assert done.errors[0].startswith(
        "error: UNAUTHORIZED: the registry refused the credentials of me from the command line"
    )
    assert "s3cr3t" not in done.err
    assert not cargohold.home.docker.exists()


def test_cli_09_warns_of_a_password_that_others_see(cargohold: Cargohold, closed_registry: str) -> None:
    done = cargohold.run("login", "-u", "me", "-p", "secret", closed_registry)

    assert done.code == 0
    assert done.errors[0].startswith("warning: other users of this machine can see")
    assert "secret" not in done.out + done.err


def test_asks_on_a_terminal(cargohold: Cargohold, closed_registry: str) -> None:
    terminal = cargohold.terminal("login", closed_registry)
    terminal.wait_for("Username: ")
    terminal.type("me\n")
    terminal.wait_for("Password: ")
    terminal.type("secret\n")

    assert terminal.end() == 0
    assert "Login Succeeded" in terminal.shown
    assert "secret" not in terminal.shown


def test_can_be_left_while_it_asks(cargohold: Cargohold, closed_registry: str) -> None:
    terminal = cargohold.terminal("login", closed_registry)
    terminal.wait_for("Username: ")
    terminal.interrupt()

    assert terminal.end() == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "--username is missing", id="no-user"),
        pytest.param(["--password-stdin"], "--username is missing", id="no-user-with-stdin"),
        pytest.param(["-u", "me"], "use --password-stdin", id="no-password"),
        pytest.param(["-u", "me", "--password-stdin"], "the password is empty", id="empty"),
        pytest.param(["-u", "me", "-p", "x", "--password-stdin"], "exclude each other", id="both"),
        pytest.param(["-u", "m:e", "-p", "x"], "a username has no colon", id="colon"),
    ],
)
def test_does_not_ask_where_nobody_answers(cargohold: Cargohold, arguments: list[str], message: str) -> None:
    done = cargohold.run("login", *arguments, "r.example")

    assert done.code == 2
    assert message in done.err


def test_keeps_a_refresh_token_in_the_place_of_a_password(cargohold: Cargohold) -> None:
    with lying(
        lambda received: (
            reply_json(200, {"token": "t", "refresh_token": "refresh"})
            if received.path == "/token"
            else reply(200)
            if received.authorization == "Bearer t"
            else reply(401, WWW_Authenticate=f'Bearer realm="http://{received.headers["host"]}/token"')
        )
    ) as server:
        assert cargohold.run("login", "-u", "me", "--password-stdin", server.address, given="x").code == 0
    kept = json.loads(cargohold.home.docker.read_text())["auths"][server.address]
    assert kept == {**entry("me", ""), "identitytoken": "refresh"}


def test_uses_a_helper_that_is_configured(cargohold: Cargohold, closed_registry: str) -> None:
    log = cargohold.home.add_helper("test", helper_says("me", "secret"))
    cargohold.home.write_docker({"credsStore": "test"})

    done = cargohold.run("login", "-u", "me", "--password-stdin", closed_registry, given="secret")

    assert done.code == 0
    assert done.err.endswith("docker-credential-test\n")
    assert log.read_text().startswith("store ")
    assert "secret" not in cargohold.home.docker.read_text()


def test_fails_when_a_helper_does(cargohold: Cargohold, closed_registry: str) -> None:
    cargohold.home.add_helper("test", "echo 'keyring \x1b[31mlocked'; exit 1")
    cargohold.home.write_docker({"credsStore": "test"})

    done = cargohold.run("login", "-u", "me", "--password-stdin", closed_registry, given="secret")

    assert done.code == 4
    assert "keyring" in done.err
    assert "\x1b" not in done.err


@pytest.mark.parametrize(
    "spelled", ["r.example", "https://r.example/", "R.example", "http://r.example/v2/"], ids=str
)
def test_forgets_a_registry_however_it_is_spelled(cargohold: Cargohold, spelled: str) -> None:
    cargohold.home.write_docker(auths(**{"r.example": entry()}))

    done = cargohold.run("logout", spelled)

    assert (done.code, done.out, done.err) == (0, "Removing login credentials for r.example\n", "")
    assert json.loads(cargohold.home.docker.read_text()) == {"auths": {}}
    assert cargohold.run("logout", spelled).out == "Not logged in to r.example\n"


def test_says_that_another_file_has_a_credential(cargohold: Cargohold) -> None:
    other = cargohold.home.write("run/containers/auth.json", auths(**{"r.example": entry()}))

    done = cargohold.run("logout", "r.example")

    assert done.code == 0
    assert done.err == f"warning: there is still one in {other}:3, which podman or somebody else keeps\n"


def test_warns_of_a_file_that_others_read(cargohold: Cargohold) -> None:
    path = cargohold.home.write_docker(auths(**{"r.example": entry()}), 0o644)

    done = cargohold.run("logout", "r.example")

    assert done.errors[0] == f"warning: credentials can be read by other users: path={path}"


def test_says_where_a_file_cannot_be_written(cargohold: Cargohold, closed_registry: str) -> None:
    cargohold.home.write(".docker", "a file where the directory should be")

    done = cargohold.run("login", "-u", "me", "--password-stdin", closed_registry, given="secret")

    assert done.code == 4
    assert str(Path(".docker") / "config.json") in done.errors[0]
