"""A token endpoint as distribution describes it, whose RS256 tokens a real docker-registry checks.

Source: distribution's docs/spec/auth/token.md, jwt.md, oauth.md.
"""

import base64
import json
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client import scopes
from tests.client.lying import Received, reply_json

SERVICE = "registry.example"
ISSUER = "the tests"
# docker-registry takes a token for so long after its end.
LEEWAY_SECONDS = 60


@dataclass(frozen=True)
class Signer:
    """A key and its certificate."""

    key: Path
    certificate: Path

    @classmethod
    def create(cls, directory: Path) -> "Signer":
        signer = cls(directory / "token.key", directory / "token.crt")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", signer.key, "-out",
             signer.certificate, "-days", "2", "-subj", "/CN=tokens"],
            check=True, capture_output=True,
        )  # fmt: skip
        return signer

    def sign(self, claims: Mapping[str, object]) -> str:
        pem = self.certificate.read_text().splitlines()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem[1:-1])]}
        signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key],
            input=signed.encode(), check=True, capture_output=True,
        ).stdout  # fmt: skip
        return f"{signed}.{_encode(signature)}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class TokenServer:
    """Grants what `rights` gives a user (None is anybody), by repository; answers as `lying` wants it."""

    signer: Signer
    rights: Mapping[str | None, Mapping[str, set[str]]]
    passwords: Mapping[str, str] = field(default_factory=dict)
    # Good for so long, docker-registry's leeway apart.
    seconds: float = 300
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    asked: list[Received] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)

    def __call__(self, received: Received) -> Iterable[bytes]:
        self.asked.append(received)
        given = received.form if received.method == "POST" else received.query
        try:
            user = self._user(received)
        except KeyError:
            return reply_json(401, {"details": "incorrect username or password"})
        wanted = scopes.parse(" ".join(given.get("scope", [])))
        answer: dict[str, object] = {"token": self._issue(user, wanted), "expires_in": int(self.seconds)}
        if "offline_token" in given and user is not None:
            refresh_token = uuid.uuid4().hex
            self.refresh_tokens[refresh_token] = user
            answer["refresh_token"] = refresh_token
        return reply_json(200, answer)

    def _user(self, received: Received) -> str | None:
        """Return who asks, None for anybody. Raises KeyError for who is not whom he says he is."""
        if received.method == "POST" and received.form["grant_type"] == ["refresh_token"]:
            return self.refresh_tokens[received.form["refresh_token"][0]]
        if received.authorization is None:
            return None
        pair = base64.b64decode(received.authorization.removeprefix("Basic ")).decode()
        user, _, password = pair.partition(":")
        if self.passwords[user] != password:
            raise KeyError(user)
        return user

    def _issue(self, user: str | None, wanted: scopes.Scopes) -> str:
        access = [
            {
                "type": scope.kind,
                "name": scope.name,
                "actions": sorted(set(scope.actions) & self.rights.get(user, {}).get(scope.name, set())),
            }
            for scope in wanted
        ]
        now = time.time()
        token = self.signer.sign(
            {
                "iss": ISSUER,
                "sub": user or "",
                "aud": SERVICE,
                "iat": int(now) - 10,
                "nbf": int(now) - 10,
                "exp": int(now + self.seconds),
                "jti": uuid.uuid4().hex,
                "access": access,
            }
        )
        self.issued.append(token)
        return token
