"""Where a setting comes from, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from registry.cli import main
from registry.settings import Settings, Source
from tests.registry.conftest import serving
from tests.registry.pushing import Repository, error_code

ROOT = Path(__file__).parent.parent.parent


def serve(*flags: str, **environment: str) -> str:
    """Run `cargohold serve` with what it must refuse; return what it says."""
    result = CliRunner().invoke(main, ["serve", *flags], env=environment)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    return result.output


def test_a_flag_wins_over_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text('port = 1\nworkers = 2\nlog_level = "debug"\n')
    monkeypatch.setenv("CARGOHOLD_PORT", "3")
    monkeypatch.setenv("CARGOHOLD_WORKERS", "4")

    settings = Settings.load(config, {"port": 5})

    assert settings.port == 5, "the flag"
    assert settings.workers == 4, "the environment"
    assert settings.log_level == "debug", "the file"
    assert settings.host == "127.0.0.1", "the default"


VALUES: dict[str, tuple[str, Any]] = {
    "data": ("/srv/x", Path("/srv/x")),
    "host": ("::1", "::1"),
    "port": ("7000", 7000),
    "unix_socket": ("/run/x.sock", Path("/run/x.sock")),
    "workers": ("3", 3),
    "path_prefix": ("/r", "/r"),
    "allow_plain_http": ("1", True),
    "hsts_seconds": ("16", 16),
    "audit_log": ("/var/log/x", "/var/log/x"),
    "metrics_listen": ("[::1]:9090", "[::1]:9090"),
    "allow_anonymous_push": ("true", True),
    "auth": ("local", "local"),
    "external_url": ("https://registry.example/r", "https://registry.example/r"),
    "service": ("registry.example", "registry.example"),
    "token_seconds": ("60", 60),
    "refresh_seconds": ("14", 14.0),
    "token_algorithm": ("EdDSA", "EdDSA"),
    "token_kid": ("libtrust", "libtrust"),
    "htpasswd": ("/etc/users", Path("/etc/users")),
    "oidc_providers": ("/etc/oidc.toml", Path("/etc/oidc.toml")),
    "client_names": ("/etc/names.toml", Path("/etc/names.toml")),
    "issuer_realm": ("https://auth.example/token", "https://auth.example/token"),
    "issuer_name": ("auth.example", "auth.example"),
    "issuer_jwks": ("/etc/x.json", Path("/etc/x.json")),
    "issuer_certificates": ("/etc/x.pem", Path("/etc/x.pem")),
    "issuer_x5c": ("0", False),
    "issuer_token_seconds": ("15", 15),
    "anonymous_pull": ("off", False),
    "policy": ("[]", ()),
    "immutable": ("[]", ()),
    "quota": ("[]", ()),
    "delete_enabled": ("false", False),
    "sparse_index": ("1", True),
    "read_only": ("yes", True),
    "chunk_min_length": ("7", 7),
    "referrers_page": ("8", 8),
    "list_page": ("9", 9),
    "free_space_floor": ("0", 0),
    "lease_seconds": ("1.5", 1.5),
    "stray_seconds": ("7.5", 7.5),
    "upload_seconds": ("2", 2.0),
    "collect_every_seconds": ("0", 0.0),
    "header_seconds": ("3", 3.0),
    "idle_seconds": ("4", 4.0),
    "body_floor_bytes_per_second": ("5", 5),
    "body_floor_window_seconds": ("6", 6.0),
    "max_connections": ("10", 10),
    "max_connections_per_client": ("11", 11),
    "max_requests": ("12", 12),
    "shutdown_seconds": ("13", 13.0),
    "log_level": ("error", "error"),
    "access_log": ("off", False),
    "trusted_proxies": ('["10.0.0.0/8", "::1"]', ("10.0.0.0/8", "::1")),
}


# These are given with others alone: tests/registry/test_tls.py.
TOGETHER = {"tls_certificate", "tls_key", "tls_self_signed", "tls_client_ca", "tls_client_required"}


def test_the_table_has_every_setting() -> None:
    assert VALUES.keys() == Settings.model_fields.keys() - TOGETHER


@pytest.mark.parametrize(("name", "text", "value"), [(name, *pair) for name, pair in VALUES.items()])
def test_each_setting_can_come_from_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    config = tmp_path / "cargohold.toml"
    shown = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    config.write_text(f"{name} = {json.dumps(shown)}\n")
    assert getattr(Settings.load(config, {}), name) == value

    monkeypatch.setenv(f"CARGOHOLD_{name.upper()}", text)
    assert getattr(Settings.load(None, {}), name) == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"prot": 5000}, "prot", id="unknown-key"),
        pytest.param({"host": "0.0.0.0"}, "--allow-anonymous-push", id="open-to-all"),
        pytest.param({"host": "::"}, "--allow-anonymous-push", id="open-to-all-ipv6"),
        pytest.param({"host": "::ffff:0.0.0.0"}, "--allow-anonymous-push", id="open-to-all-mapped"),
        pytest.param({"host": ""}, "--allow-anonymous-push", id="open-to-all-empty"),
        pytest.param({"host": "192.0.2.1"}, "--allow-anonymous-push", id="an-address"),
        pytest.param({"host": "registry.example"}, "--allow-anonymous-push", id="a-name"),
        pytest.param({"host": "localhost.example"}, "--allow-anonymous-push", id="not-localhost"),
        pytest.param({"port": 70000}, "65535", id="port"),
        pytest.param({"port": -1}, "greater than or equal to 0", id="negative-port"),
        pytest.param({"external_url": "registry.example"}, "external_url is http", id="url-no-scheme"),
        pytest.param({"external_url": "https://r.example/"}, "external_url is http", id="url-slash"),
        pytest.param({"external_url": 'https://r.example/"'}, "external_url is http", id="url-quote"),
        pytest.param({"auth": "local", "host": "192.0.2.1"}, "needs external_url", id="local-no-url"),
        pytest.param({"auth": "local", "port": 0}, "needs external_url", id="local-any-port"),
        pytest.param({"auth": "external"}, "needs issuer_realm", id="external-no-realm"),
        pytest.param({"anonymous_pull": True}, "need auth = local", id="rules-that-nobody-asks"),
        pytest.param({"token_seconds": 59}, "greater than or equal to 60", id="token-too-short"),
        pytest.param({"path_prefix": "registry/"}, "starts with a slash", id="prefix"),
        pytest.param({"path_prefix": "/"}, "starts with a slash", id="prefix-root"),
        pytest.param({"workers": 0}, "greater than 0", id="workers"),
        pytest.param({"metrics_listen": "nine"}, "HOST:PORT", id="metrics"),
        pytest.param({"metrics_listen": "127.0.0.1:"}, "HOST:PORT", id="metrics-without-port"),
        pytest.param({"lease_seconds": -1}, "greater than or equal to 0", id="lease"),
        pytest.param({"lease_seconds": "NaN"}, "greater than or equal to 0", id="not-a-number"),
        pytest.param({"log_level": "loud"}, "log_level", id="log-level"),
    ],
)
def test_refuses_with_the_reason(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.load(None, values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("path_prefix", "/a\r\nX: y", id="prefix-with-a-line-break"),
        pytest.param("path_prefix", "/a b", id="prefix-with-a-space"),
        pytest.param("path_prefix", "/a?b", id="prefix-with-a-query"),
        pytest.param("path_prefix", "/a/../b", id="prefix-with-dots"),
        pytest.param("metrics_listen", "127.0.0.1:99999", id="metrics-port"),
        pytest.param("trusted_proxies", ["nonsense"], id="proxy-that-is-no-network"),
    ],
)
def test_refuses_what_could_never_work(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.load(None, {name: value})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.9", "::1", "localhost"])
def test_a_loopback_address_needs_no_permission(host: str) -> None:
    assert Settings.load(None, {"host": host}).host == host


@pytest.mark.parametrize(
    "permission",
    [
        {"allow_anonymous_push": True, "allow_plain_http": True},
        {"read_only": True, "tls_self_signed": True},
        {"unix_socket": "/run/x.sock"},
    ],
    ids=["allowed", "read-only", "unix-socket"],
)
def test_an_open_address_needs_one(permission: dict[str, object]) -> None:
    assert Settings.load(None, {"host": "0.0.0.0", **permission}).host == "0.0.0.0"


def test_an_open_address_is_refused_wherever_it_comes_from(tmp_path: Path) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text('host = "0.0.0.0"\n')

    for said in (
        serve("--config", str(config)),
        serve("--host", "0.0.0.0"),
        serve(CARGOHOLD_HOST="0.0.0.0"),
    ):
        assert "say --allow-anonymous-push or --read-only" in said


# What a person reads who got it wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("prot = 5000", "prot", id="unknown-key"),
        pytest.param("[server]\nport = 5000", "server", id="unknown-table"),
        pytest.param('port = "many"', "port: Input should be a valid integer", id="type"),
        pytest.param("port = 1\nport = 2", "cargohold.toml", id="twice"),
        pytest.param("port = [", "cargohold.toml", id="no-toml"),
        pytest.param("\xff\xfe", "cargohold.toml", id="no-utf-8"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text(text, encoding="latin-1")

    said = serve("--config", str(config), "--data", str(tmp_path))

    assert message in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "many"),
        # What kubernetes sets for a service that is called cargohold.
        ("PORT", "tcp://10.0.0.1:5000"),
        ("WORKERS", "0"),
        ("DELETE_ENABLED", "perhaps"),
        ("TRUSTED_PROXIES", "[10.0.0.1"),
    ],
)
def test_a_wrong_environment_is_one_line_that_names_the_setting(tmp_path: Path, name: str, text: str) -> None:
    said = serve("--data", str(tmp_path), **{f"CARGOHOLD_{name}": text})

    assert name.lower() in said.splitlines()[-1]


# Read again


def test_reading_again_takes_over_what_may_change(tmp_path: Path) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text("read_only = false\nport = 5000\n")
    source = Source(config, {"list_page": 5})
    settings = source.load()

    config.write_text("read_only = true\nport = 5001\nlist_page = 6\n")

    assert settings.adopt(source.load()) == (["read_only"], ["port"])
    assert (settings.read_only, settings.port, settings.list_page) == (True, 5000, 5)


def test_reading_again_never_opens_what_was_closed(tmp_path: Path) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text('host = "0.0.0.0"\nread_only = true\n')
    source = Source(config, {"allow_plain_http": True})
    source.load()

    config.write_text('host = "0.0.0.0"\n')

    with pytest.raises(ValidationError, match="--allow-anonymous-push"):
        source.load()


def test_reading_again_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """Else a moved file would turn every setting back to its default, as in delete_enabled."""
    config = tmp_path / "cargohold.toml"
    config.write_text("delete_enabled = false\n")
    source = Source(config, {})
    assert not source.load().delete_enabled

    config.unlink()

    with pytest.raises(OSError, match="No such file"):
        source.load()


def test_what_was_taken_over_counts_for_the_next_request(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, access_log=False)
    with serving(settings) as url, httpx.Client(base_url=url) as http:
        repository = Repository(http, "a/b")
        body = repository.push_image("v1")
        repository.put_manifest("v2", body)

        settings.adopt(Settings(data=tmp_path, delete_enabled=False, list_page=1, chunk_min_length=3))
        response = http.delete(f"{repository.url}/manifests/v1")
        assert (response.status_code, error_code(response)) == (405, "UNSUPPORTED")
        assert repository.get("tags/list").json()["tags"] == ["v1"]
        assert http.post(f"{repository.url}/blobs/uploads/").headers["OCI-Chunk-Min-Length"] == "3"

        settings.adopt(Settings(data=tmp_path, read_only=True))
        response = repository.put_manifest("v3", body)
        assert (response.status_code, error_code(response)) == (403, "DENIED")

        settings.adopt(Settings(data=tmp_path, free_space_floor=1 << 60))
        response = repository.put_manifest("v3", body)
        assert (response.status_code, error_code(response)) == (507, "INSUFFICIENT_STORAGE")

        settings.adopt(Settings(data=tmp_path))
        assert repository.put_manifest("v3", body).status_code == 201


# The document


def test_the_documentation_names_every_setting_with_its_default_and_meaning() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    table = text.partition("<!-- settings:")[2].partition("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (.* \| .*) \|$", table, re.MULTILINE))

    assert documented.keys() == Settings.model_fields.keys()
    for name, field in Settings.model_fields.items():
        assert documented[name] == f"{_shown(field.default)} | {field.description}"


def _shown(default: object) -> str:
    if default is None or default == "":
        return ""
    value = str(default) if isinstance(default, Path) else default
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
