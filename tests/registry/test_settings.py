"""Where a setting comes from, and what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from registry.settings import Settings

ROOT = Path(__file__).parent.parent.parent


def test_a_flag_wins_over_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "cargohold.toml"
    config.write_text('port = 1\nworkers = 2\nlog_level = "debug"\n')
    monkeypatch.setenv("CARGOHOLD_PORT", "3")
    monkeypatch.setenv("CARGOHOLD_WORKERS", "4")

    settings = Settings.load(config, {"port": 5})

    assert (settings.port, settings.workers, settings.log_level, settings.host) == (
        5,
        4,
        "debug",
        "127.0.0.1",
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"prot": 5000}, "prot", id="unknown-key"),
        pytest.param({"host": "0.0.0.0"}, "--allow-anonymous-push", id="open-to-all"),
        pytest.param({"host": "::"}, "--allow-anonymous-push", id="open-to-all-ipv6"),
        pytest.param({"host": "registry.example"}, "--allow-anonymous-push", id="a-name"),
        pytest.param({"port": 70000}, "65535", id="port"),
        pytest.param({"path_prefix": "registry/"}, "starts with a slash", id="prefix"),
        pytest.param({"workers": 0}, "greater than 0", id="workers"),
        pytest.param({"metrics_listen": "nine"}, "HOST:PORT", id="metrics"),
    ],
)
def test_refuses_with_the_reason(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.load(None, values)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.9", "::1", "localhost"])
def test_a_loopback_address_needs_no_permission(host: str) -> None:
    assert Settings.load(None, {"host": host}).host == host


@pytest.mark.parametrize("permission", ["allow_anonymous_push", "read_only"])
def test_an_open_address_needs_one(permission: str) -> None:
    assert Settings.load(None, {"host": "0.0.0.0", permission: True}).host == "0.0.0.0"


def test_the_documentation_names_every_setting_and_its_meaning() -> None:
    text = (ROOT / "docs/configuration.md").read_text()

    for name, field in Settings.model_fields.items():
        assert f"| `{name}` |" in text
        assert f"| {field.description} |" in text
