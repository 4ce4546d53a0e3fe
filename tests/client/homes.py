"""A user's home, with credentials and helpers in it."""

import base64
import json
import os
from pathlib import Path

import pytest

from client.configuration.credentials import StoredCredentials
from client.configuration.paths import Paths
from client.credentials import Credential
from storage.oci.names import RepositoryName

REPOSITORY = RepositoryName("team/app")
ME = Credential("me", "secret")


def entry(username: str = "me", password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def auths(**entries: object) -> dict[str, object]:
    return {"auths": entries}


class Home:
    """A user's directory with files of credentials and helpers."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.environment = {"HOME": str(directory), "XDG_RUNTIME_DIR": str(directory / "run")}
        self.helpers = directory / "bin"
        self.helpers.mkdir()
        monkeypatch.setenv("PATH", f"{self.helpers}:{os.environ['PATH']}")

    @property
    def paths(self) -> Paths:
        return Paths(self.environment, self.directory / "etc")

    @property
    def docker(self) -> Path:
        return self.directory / ".docker" / "config.json"

    def write(self, name: str, document: object, mode: int = 0o600) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document, indent=1))
        path.chmod(mode)
        return path

    def write_docker(self, document: object, mode: int = 0o600) -> Path:
        return self.write(".docker/config.json", document, mode)

    def add_helper(self, name: str, body: str) -> Path:
        """Install a helper: a shell script that logs what it is asked and for what."""
        log = self.helpers / f"{name}.log"
        program = self.helpers / f"docker-credential-{name}"
        program.write_text(f'#!/bin/sh\ninput=$(cat)\necho "$1 $input" >> {log}\n{body}\n')
        program.chmod(0o755)
        return log

    def find(self, registry: str, repository: RepositoryName | None = REPOSITORY) -> Credential | None:
        return StoredCredentials(self.paths).find(registry, repository)


def helper_says(username: str, secret: str) -> str:
    return f"echo '{json.dumps({'ServerURL': 'x', 'Username': username, 'Secret': secret})}'"


NOT_FOUND = "echo 'credentials not found in native keychain'; exit 1"
