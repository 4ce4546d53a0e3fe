"""The user's credentials: read where docker and podman look for them, written where docker does."""

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from client.configuration import auth_file
from client.configuration.auth_file import AuthFile, normalized, server_key
from client.configuration.paths import Paths
from client.credential_helpers import CredentialHelper
from client.credentials import Credential
from client.errors import CredentialsUnusable
from storage import durable
from storage.oci.names import RepositoryName

_ENVIRONMENT = "DOCKER_AUTH_CONFIG"

T = TypeVar("T")


class StoredCredentials:
    """Asks one file after the other; the first with a credential for the registry decides."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def find(self, registry: str, repository: RepositoryName | None) -> Credential | None:
        for file in self._files:
            if found := file.find(registry, repository):
                return found
        return None

    @cached_property
    def _files(self) -> tuple[AuthFile, ...]:
        return tuple(self._read())

    def _read(self) -> Iterator[AuthFile]:
        given = self._paths.environment.get(_ENVIRONMENT)
        if given:
            yield auth_file.parse(f"${_ENVIRONMENT}", given)
        for path in self._paths.auth_files:
            if file := auth_file.read(path):
                yield file


def login(paths: Paths, registry: str, credential: Credential) -> str:
    """Keep a credential for a registry: with docker's helper if one is configured, else in docker's file.

    Returns where it is now. Raises CredentialsUnusable when the helper or the file refuses.
    """
    key = server_key(registry)

    def store(document: dict[str, Any]) -> str:
        entry: dict[str, str] = {}
        helper = _helper(document, registry, paths.docker_config)
        if helper is not None:
            helper.store(key, credential)
        else:
            entry = _entry(credential)
        _drop(document, registry)
        _member(document, "auths")[key] = entry
        return str(paths.docker_config) if helper is None else helper.program

    return _changed(paths.docker_config, store)


def logout(paths: Paths, registry: str) -> bool:
    """Forget a registry's credential in docker's file and helper; false when there was none in the file."""

    def erase(document: dict[str, Any]) -> bool:
        helper = _helper(document, registry, paths.docker_config)
        if helper is not None:
            helper.erase(server_key(registry))
        return _drop(document, registry)

    return _changed(paths.docker_config, erase)


def _changed(path: Path, change: Callable[[dict[str, Any]], T]) -> T:
    """Change the object in a JSON file at once; everything else in it stays, and nobody else can read it."""
    # A link stays one: what it leads to is replaced.
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(target.parent):
            document = _load(target)
            result = change(document)
            data = json.dumps(document, indent="\t", ensure_ascii=False).encode() + b"\n"
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
            durable.write_file(temporary, target, data)
    except OSError as error:
        raise CredentialsUnusable(f"{path}: cannot be written: {error.strerror}") from error
    return result


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other logins out meanwhile."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _load(path: Path) -> dict[str, Any]:
    if auth_file.read(path) is None:
        return {}
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def _helper(document: dict[str, Any], registry: str, path: Path) -> CredentialHelper | None:
    for spelled, name in _member(document, "credHelpers", make=False).items():
        if normalized(spelled) == registry:
            return CredentialHelper(str(name), f"{path}: credHelpers")
    name = document.get("credsStore")
    return CredentialHelper(str(name), f"{path}: credsStore") if name else None


def _drop(document: dict[str, Any], registry: str) -> bool:
    """Take away every spelling of a registry; what is kept for single repositories of it stays."""
    auths = _member(document, "auths", make=False)
    spelled = [key for key in auths if normalized(key) == registry]
    for key in spelled:
        del auths[key]
    return bool(spelled)


def _member(document: dict[str, Any], name: str, *, make: bool = True) -> dict[str, Any]:
    found = document.setdefault(name, {}) if make else document.get(name, {})
    if not isinstance(found, dict):
        raise CredentialsUnusable(f"{name} in docker's configuration is not an object")
    return found


def _entry(credential: Credential) -> dict[str, str]:
    pair = f"{credential.username}:{credential.password}".encode()
    entry = {"auth": base64.b64encode(pair).decode("ascii")}
    if credential.identity_token:
        entry["identitytoken"] = credential.identity_token
    return entry
