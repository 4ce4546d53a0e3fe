"""Where docker and podman keep credentials: config.json, auth.json and .dockercfg, one format.

Source: docker/cli's config/configfile; containers-auth.json(5).
"""

import base64
import binascii
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from client.configuration.documents import Document, parse_json, read_json
from client.credential_helpers import CredentialHelper
from client.credentials import Credential
from client.errors import ConfigurationInvalid, CredentialsUnusable
from storage.oci.names import DOCKER_HUB, RepositoryName

# How docker spells the Hub, in files and to helpers.
HUB_KEY = "https://index.docker.io/v1/"
_HUB_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuthFile:
    """One file of credentials, read."""

    document: Document
    # .dockercfg is the value of `auths` alone.
    is_legacy: bool = False

    def find(self, registry: str, repository: RepositoryName | None) -> Credential | None:
        """Return the credential of the longest key that matches: repository, namespace, registry.

        Raises CredentialsUnusable for a helper that fails or an entry that cannot be read.
        """
        keys = tuple(_candidates(registry, repository))
        try:
            return (
                self._helped(keys)
                or self._entry(keys[:-1])
                or self._stored(registry)
                or self._entry(keys[-1:])
            )
        except ConfigurationInvalid as error:
            raise CredentialsUnusable(error.message) from error

    def _helped(self, keys: tuple[str, ...]) -> Credential | None:
        for key in keys:
            for spelled in self._table("credHelpers"):
                if normalized(spelled) == key:
                    name = self.document.text("credHelpers", spelled)
                    source = str(self.document.source("credHelpers", spelled))
                    return CredentialHelper(name, source).get(server_key(key))
        return None

    def _stored(self, registry: str) -> Credential | None:
        name = "" if self.is_legacy else self.document.text("credsStore")
        if not name:
            return None
        source = str(self.document.source("credsStore"))
        return CredentialHelper(name, source).get(server_key(registry))

    def _entry(self, keys: tuple[str, ...]) -> Credential | None:
        for key in keys:
            for spelled in self._table("auths"):
                if normalized(spelled) == key and (found := self._read(spelled)):
                    return found
        return None

    def _read(self, spelled: str) -> Credential | None:
        """Read an entry; one without content is docker's note that a helper has it."""
        place = (spelled,) if self.is_legacy else ("auths", spelled)
        source = str(self.document.source(*place))
        entry = self.document.table(*place)
        fields = {name: self.document.text(*place, name) for name in entry if name in _FIELDS}
        username, password = fields.get("username", ""), fields.get("password", "")
        if fields.get("auth"):
            username, password = _decode(fields["auth"], source)
        credential = Credential(
            username, password, fields.get("identitytoken", ""), fields.get("registrytoken", ""), source
        )
        return None if credential == Credential() else credential

    def _table(self, name: str) -> Mapping[str, object]:
        if self.is_legacy:
            return self.document.members if name == "auths" else {}
        return self.document.table(name)


_FIELDS = ("auth", "username", "password", "identitytoken", "registrytoken")


def read(path: Path) -> AuthFile | None:
    """Read a file of credentials. Raises CredentialsUnusable for one that others could have written."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CredentialsUnusable(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.R_OK):
        raise CredentialsUnusable(f"{path}: cannot be read as a file")
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
        raise CredentialsUnusable(f"{path}: other users can write it; make it yours, with mode 0600")
    if status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("credentials can be read by other users", extra={"path": str(path)})
    try:
        document = read_json(path)
    except ConfigurationInvalid as error:
        raise CredentialsUnusable(error.message) from error
    return None if document is None else AuthFile(document, is_legacy=path.name == ".dockercfg")


def parse(name: str, text: str) -> AuthFile:
    """Read the same from a text, as $DOCKER_AUTH_CONFIG holds it. Raises CredentialsUnusable."""
    try:
        return AuthFile(parse_json(name, text))
    except ConfigurationInvalid as error:
        raise CredentialsUnusable(error.message) from error


def normalized(key: str) -> str:
    """Return what a key of `auths` or `credHelpers` means: a registry, or a registry and a path.

    docker wrote URLs once, `https://host/v1/`, whose path means nothing.
    """
    scheme, separator, rest = key.partition("://")
    host, _, path = (rest if separator else scheme).rstrip("/").partition("/")
    host = host.lower()
    if host in _HUB_ALIASES:
        host = DOCKER_HUB
    if separator or path in ("v1", "v2", ""):
        return host
    return f"{host}/{path}"


def server_key(registry: str) -> str:
    """Return how docker spells a registry to helpers and in `auths`."""
    return HUB_KEY if registry == DOCKER_HUB else registry


def _candidates(registry: str, repository: RepositoryName | None) -> Iterator[str]:
    path = "" if repository is None else repository.value
    while path:
        yield f"{registry}/{path}"
        path = path.rpartition("/")[0]
    yield registry


def _decode(auth: str, source: str) -> tuple[str, str]:
    try:
        pair = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise CredentialsUnusable(f"{source}: auth is not Base 64 of user:password") from error
    username, colon, password = pair.partition(":")
    if not colon:
        raise CredentialsUnusable(f"{source}: auth is not Base 64 of user:password")
    return username, password.rstrip("\0")  # docker pads it so
