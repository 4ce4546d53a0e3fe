"""Credentials for registries: what one is, and which one a registry gets."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from storage.oci.names import RepositoryName


@dataclass(frozen=True, slots=True)
class Credential:
    """One identity at a registry; secrets never show in its text. `source` says where it was found."""

    username: str = ""
    password: str = field(default="", repr=False)
    # An OAuth2 refresh token, which docker stores as `identitytoken`.
    identity_token: str = field(default="", repr=False)
    # A bearer token to be sent as it is.
    registry_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)

    def basic(self) -> str:
        """Return the Authorization header of RFC 7617."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


class Credentials(Protocol):
    """Finds the credential for a repository of a registry, or for the registry itself.

    Raises CredentialsUnusable when there is one that cannot be had: None means that there is none.
    """

    def find(self, registry: str, repository: RepositoryName | None) -> Credential | None: ...


# Finds out when it is needed: a helper may ask the user.
FindCredential = Callable[[], Credential | None]


class Anonymous:
    def find(self, registry: str, repository: RepositoryName | None) -> Credential | None:
        return None


ANONYMOUS = Anonymous()


@dataclass(frozen=True, slots=True)
class Given:
    """One credential that the caller was given for one registry."""

    registry: str
    credential: Credential

    def find(self, registry: str, repository: RepositoryName | None) -> Credential | None:
        return self.credential if registry == self.registry else None
