"""A provider of ID tokens that knows nothing of ours: PyJWT, a small ASGI application, and a real socket."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.types import Receive, Scope, Send

from registry.auth.oidc import Provider
from registry.settings import Settings
from tests.registry.conftest import serving

ISSUER = "https://token.actions.githubusercontent.com"
AUDIENCE = "https://registry.test"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())

# As docs.github.com has it, shortened.
GITHUB_CLAIMS: dict[str, Any] = {
    "sub": "repo:octo/app:ref:refs/heads/main",
    "repository": "octo/app",
    "repository_id": "74",
    "repository_owner": "octo",
    "repository_owner_id": "65",
    "ref": "refs/heads/main",
    "event_name": "push",
    "actor": "octocat",
    "job_workflow_ref": "octo/app/.github/workflows/build.yml@refs/heads/main",
    "runner_environment": "github-hosted",
}


def claims(**changes: Any) -> dict[str, Any]:
    """Write a job's claims; a change to None leaves one out."""
    now = int(time.time())
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "jti": str(uuid.uuid4()),
        "iat": now,
        "nbf": now - 5,
        "exp": now + 300,
        **GITHUB_CLAIMS,
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def sign(
    payload: dict[str, Any],
    key: Any = RSA_KEY,
    algorithm: str | None = "RS256",
    *,
    kid: str | None = "one",
    **header: Any,
) -> str:
    headers = {**({} if kid is None else {"kid": kid}), **header}
    return jwt.encode(payload, key, algorithm, headers)


def jwks(**keys: Any) -> bytes:
    """Write public keys by kid."""
    members = []
    for kid, key in keys.items():
        is_rsa = isinstance(key, rsa.RSAPrivateKey)
        to_jwk = RSAAlgorithm.to_jwk if is_rsa else ECAlgorithm.to_jwk
        algorithm = "RS256" if is_rsa else "ES256"
        members.append({**to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": algorithm, "use": "sig"})
    return json.dumps({"keys": members}).encode()


@dataclass
class Issuer:
    """What the provider's URL answers, and how often it was asked."""

    body: bytes = field(default_factory=lambda: jwks(one=RSA_KEY))
    status: int = 200
    location: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            return
        self.asked.append({name.decode(): value.decode() for name, value in scope["headers"]})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.body))]
        if self.location:
            headers.append((b"location", self.location.encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    def provider(self, **changes: Any) -> Provider:
        table = {
            "name": "github",
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks_url": f"{self.url}/.well-known/jwks",
            "private": True,
        }
        return Provider.parse(table | changes)


@contextmanager
def issuing() -> Iterator[Issuer]:
    issuer = Issuer()
    with serving(Settings(access_log=False), issuer) as url:
        issuer.url = url
        yield issuer
