"""docker-credential-* programs, which keep secrets elsewhere.

Source: github.com/docker/docker-credential-helpers, "Development".
"""

import json
import re
import shutil
import subprocess

from client.credentials import Credential
from client.errors import CredentialsUnusable

# Helpers may ask the user for a passphrase.
_TIMEOUT_SECONDS = 120
_NOT_FOUND = "credentials not found in native keychain"
_IDENTITY = "<token>"
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch


class CredentialHelper:
    """One helper, by the name that configuration gives it."""

    def __init__(self, name: str, source: str) -> None:
        """Find the program. Raises CredentialsUnusable when there is none: nothing is tried in its place."""
        program = shutil.which(f"docker-credential-{name}") if _is_name(name) else None
        if program is None:
            raise CredentialsUnusable(f"{source}: no program docker-credential-{name[:50]} is installed")
        self.program = program
        self._source = source

    def get(self, server: str) -> Credential | None:
        """Return what the helper has for a server. Raises CredentialsUnusable when it fails."""
        answer = self._run("get", server, is_missing_fine=True)
        if answer is None:
            return None
        try:
            document = json.loads(answer)
            username, secret = str(document["Username"]), str(document["Secret"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CredentialsUnusable(f"{self.program} answers what is no credential") from error
        source = f"{self.program} ({self._source})"
        if username == _IDENTITY:
            return Credential(identity_token=secret, source=source)
        return Credential(username, secret, source=source)

    def store(self, server: str, credential: Credential) -> None:
        username, secret = credential.username, credential.password
        if credential.identity_token:
            username, secret = _IDENTITY, credential.identity_token
        document = {"ServerURL": server, "Username": username, "Secret": secret}
        self._run("store", json.dumps(document))

    def erase(self, server: str) -> None:
        self._run("erase", server, is_missing_fine=True)

    def _run(self, verb: str, given: str, *, is_missing_fine: bool = False) -> str | None:
        """Run the helper; what is secret goes through its standard input, where nobody else can read it."""
        try:
            done = subprocess.run(  # noqa: S603 (the program that the user's configuration names)
                [self.program, verb],
                input=given.encode(),
                capture_output=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CredentialsUnusable(f"{self.program} cannot be run: {type(error).__name__}") from error
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode == 0:
            return said
        if is_missing_fine and _NOT_FOUND in said:
            return None
        shown = "".join(char for char in said[:200] if char.isprintable())
        raise CredentialsUnusable(f"{self.program} {verb} failed ({self._source}): {shown}")
