"""Which credential a registry gets (CLI-09)."""

import base64
import json
import logging

import pytest

from client.configuration.auth_file import HUB_KEY, normalized
from client.configuration.credentials import login
from client.credentials import Credential
from client.errors import CredentialsUnusable
from tests.client.homes import ME, NOT_FOUND, Home, auths, entry, helper_says


@pytest.mark.parametrize(
    ("document", "found"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param(auths(**{"r.example": entry()}), ME, id="auth"),
        pytest.param(auths(**{"r.example": {"username": "me", "password": "secret"}}), ME, id="plain"),
        pytest.param(auths(**{"https://r.example/v1/": entry()}), ME, id="url"),
        pytest.param(auths(**{"https://R.Example": entry()}), ME, id="upper-case"),
        pytest.param(auths(**{"r.example/v2": entry()}), ME, id="api-path"),
        pytest.param(auths(**{"r.example:5000": entry()}), None, id="other-port"),
        pytest.param(auths(example=entry()), None, id="other-host"),
        pytest.param(auths(**{"r.example": {}}), None, id="empty"),
        pytest.param(
            auths(**{"r.example": {**entry(), "identitytoken": "t"}}),
            Credential("me", "secret", identity_token="t"),
            id="identity-token",
        ),
        pytest.param(
            auths(**{"r.example": {"registrytoken": "t"}}),
            Credential(registry_token="t"),
            id="registry-token",
        ),
        pytest.param(
            auths(**{"r.example": {"auth": base64.b64encode(b"me:secret\0\0").decode()}}), ME, id="nul"
        ),
        pytest.param(
            auths(**{"r.example": entry("low"), "r.example/team": entry(), "r.example/te": entry("no")}),
            ME,
            id="namespace",
        ),
        pytest.param(
            auths(**{"r.example/team": entry("low"), "r.example/team/app": entry()}), ME, id="repository"
        ),
        pytest.param(auths(**{"r.example/team/app/x": entry()}), None, id="deeper"),
    ],
)
def test_finds_in_a_file(home: Home, document: object, found: Credential | None) -> None:
    home.write_docker(document)

    assert home.find("r.example") == found


@pytest.mark.parametrize("key", [HUB_KEY, "docker.io", "index.docker.io", "https://registry-1.docker.io"])
def test_knows_the_names_of_docker_hub(home: Home, key: str) -> None:
    home.write_docker(auths(**{key: entry()}))

    assert home.find("docker.io") == ME


def test_says_where_a_credential_was_found(home: Home) -> None:
    path = home.write_docker('{\n "auths": {\n  "r.example": {"username": "me", "password": "secret"}\n }\n}')

    found = home.find("r.example")

    assert found is not None
    assert found.source == f"{path}:3"


def test_asks_the_files_in_their_order(home: Home) -> None:
    """An earlier file wins, also with less."""
    places = {
        "five": ".dockercfg",
        "four": ".config/containers/auth.json",
        "three": "run/containers/auth.json",
        "two": ".docker/config.json",
        "zero": "chosen.json",
    }
    seen = []
    for name, place in places.items():
        document = entry(name) if place == ".dockercfg" else None
        home.write(place, {"r.example": document} if document else auths(**{"r.example": entry(name)}))
        if name == "zero":
            home.environment["DOCKER_AUTH_CONFIG"] = json.dumps(auths(**{"r.example": entry("one")}))
            seen.append(home.find("r.example", None))
            home.environment["REGISTRY_AUTH_FILE"] = str(home.directory / place)
            del home.environment["DOCKER_AUTH_CONFIG"]
        seen.append(home.find("r.example", None))

    assert [each and each.username for each in seen] == ["five", "four", "three", "two", "one", "zero"]


def test_respects_docker_config(home: Home) -> None:
    home.environment["DOCKER_CONFIG"] = str(home.directory / "elsewhere")
    home.write("elsewhere/config.json", auths(**{"r.example": entry()}))

    assert home.find("r.example") == ME


# Helpers


@pytest.mark.parametrize("member", ["credHelpers", "credsStore"])
def test_asks_a_helper(home: Home, member: str) -> None:
    log = home.add_helper("test", helper_says("me", "secret"))
    home.write_docker({member: {"r.example": "test"} if member == "credHelpers" else "test"})

    found = home.find("r.example")

    assert found == ME
    assert "docker-credential-test" in found.source
    assert f"{home.docker}:" in found.source
    assert log.read_text() == "get r.example\n"


def test_asks_a_helper_for_the_hub_by_its_old_name(home: Home) -> None:
    log = home.add_helper("test", helper_says("<token>", "refresh"))
    home.write_docker({"credHelpers": {"docker.io": "test"}})

    assert home.find("docker.io") == Credential(identity_token="refresh")
    assert log.read_text() == f"get {HUB_KEY}\n"


def test_the_helper_of_a_registry_comes_before_that_of_all(home: Home) -> None:
    home.add_helper("one", helper_says("me", "secret"))
    home.add_helper("all", helper_says("other", "x"))
    home.write_docker({"credHelpers": {"r.example": "one"}, "credsStore": "all"})

    assert home.find("r.example") == ME


def test_goes_on_when_a_helper_has_nothing(home: Home) -> None:
    home.add_helper("test", NOT_FOUND)
    home.write_docker({"credsStore": "test", **auths(**{"r.example": entry()})})

    assert home.find("r.example") == ME
    assert home.find("other.example") is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("exit 1", id="fails"),
        pytest.param("echo 'no session bus' ; exit 1", id="fails-with-words"),
        pytest.param("echo rubbish", id="rubbish"),
        pytest.param("echo '[]'", id="no-object"),
        pytest.param("kill -9 $$", id="dies"),
        pytest.param(None, id="is-missing"),
    ],
)
def test_cli_09_stops_when_a_helper(home: Home, body: str | None) -> None:
    """Neither the file's other entries nor no credentials are used in its place (CVE-2021-41092)."""
    if body is not None:
        home.add_helper("test", body)
    home.write_docker({"credHelpers": {"r.example": "test"}, **auths(**{"r.example": entry()})})
    home.write(".config/containers/auth.json", auths(**{"r.example": entry()}))

    with pytest.raises(CredentialsUnusable, match="docker-credential-test"):
        home.find("r.example")


@pytest.mark.parametrize("name", ["../evil", "a/b", "-x", "", "a b"])
def test_cli_09_runs_no_program_by_another_path(home: Home, name: str) -> None:
    home.write_docker({"credHelpers": {"r.example": name}})

    with pytest.raises(CredentialsUnusable):
        home.find("r.example")


def test_cli_09_gives_no_secret_to_other_programs(home: Home) -> None:
    """Not in the arguments and not in the environment: both show in /proc."""
    log = home.helpers / "seen"
    home.add_helper("test", f'echo "$@" > {log}; env >> {log}')
    home.write_docker({"credsStore": "test"})

    login(home.paths, "r.example", Credential("me", "pa55phrase"))

    assert "pa55phrase" not in log.read_text()


# Files that are not to be trusted


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("{", id="no-json"),
        pytest.param("[]", id="no-object"),
        pytest.param('{"auths": []}', id="auths-is-no-object"),
        pytest.param(auths(**{"r.example": "x"}), id="entry-is-no-object"),
        pytest.param(auths(**{"r.example": {"auth": 5}}), id="auth-is-no-string"),
        pytest.param(auths(**{"r.example": {"auth": "%%%"}}), id="no-base64"),
        pytest.param(auths(**{"r.example": {"auth": base64.b64encode(b"me").decode()}}), id="no-colon"),
    ],
)
def test_cli_09_stops_at_a_file_it_cannot_read(home: Home, document: object) -> None:
    path = home.write_docker(document)
    home.write(".config/containers/auth.json", auths(**{"r.example": entry()}))

    with pytest.raises(CredentialsUnusable, match=str(path)):
        home.find("r.example")


def test_cli_09_stops_at_a_file_that_others_can_write(home: Home) -> None:
    home.write_docker(auths(**{"r.example": entry()}), 0o666)

    with pytest.raises(CredentialsUnusable, match="other users can write"):
        home.find("r.example")


def test_cli_09_warns_of_a_file_that_others_can_read(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.write_docker(auths(**{"r.example": entry()}), 0o644)

    with caplog.at_level(logging.WARNING):
        assert home.find("r.example") == ME

    assert "can be read by other users" in caplog.text
    assert "secret" not in caplog.text


def test_cli_09_reads_through_a_link(home: Home) -> None:
    """Kubernetes mounts secrets so."""
    real = home.write("data/config.json", auths(**{"r.example": entry()}))
    home.docker.parent.mkdir()
    home.docker.symlink_to(real)

    assert home.find("r.example") == ME


@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("Registry.Example:5000", "registry.example:5000"),
        ("http://r.example/some/path", "r.example"),
        ("r.example/ns/repo", "r.example/ns/repo"),
        ("r.example/", "r.example"),
    ],
)
def test_reads_the_keys_of_all_times(key: str, meaning: str) -> None:
    assert normalized(key) == meaning
