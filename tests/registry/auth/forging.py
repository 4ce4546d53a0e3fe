"""Tokens made by hand, right and wrong in every way; keys that a verifier trusts."""

import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from registry.auth.keys import VerificationKey, thumbprint
from registry.auth.tokens import Expected

ISSUER, SERVICE = "https://issuer.example", "registry.test"
NOW = 1_800_000_000
EXPECTED = Expected(ISSUER, SERVICE, 3600)

Sign = Callable[[bytes], bytes]
Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

PRIVATE_KEYS: dict[str, Private] = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "RS256": rsa.generate_private_key(65537, 2048),
}
HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def signer(algorithm: str, key: Private) -> Sign:
    """Sign as an algorithm has it, with whatever key, if the two can be put together at all."""

    def sign(data: bytes) -> bytes:
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(data)
        digest = HASHES.get(algorithm[2:], hashes.SHA256())
        if isinstance(key, ec.EllipticCurvePrivateKey):
            size = (key.curve.key_size + 7) // 8
            numbers = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
            return b"".join(number.to_bytes(size, "big") for number in numbers)
        if algorithm.startswith("PS"):
            return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return key.sign(data, padding.PKCS1v15(), digest)

    return sign


def with_public_key_as_secret(algorithm: str, key: Private) -> list[Sign]:
    """Sign with HMAC over what everybody knows of a key: the classic confusion."""
    public = key.public_key()
    known = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        b"",
    ]
    return [partial(_hmac, secret, f"sha{algorithm[2:]}") for secret in known]


def _hmac(secret: bytes, digest: str, data: bytes) -> bytes:
    return hmac.digest(secret, data, digest)


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: object, payload: object, sign: Sign) -> str:
    """Put a token together from objects or raw bytes."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    text = ".".join(map(encode, parts))
    return f"{text}.{encode(sign(text.encode()))}"


def claims(**changes: Any) -> dict[str, Any]:
    """Return what a good token of now says; None takes a claim away."""
    usual = {
        "iss": ISSUER,
        "sub": "alice",
        "aud": SERVICE,
        "exp": NOW + 300,
        "nbf": NOW,
        "iat": NOW,
        "jti": "0123",
        "access": [{"type": "repository", "name": "a", "actions": ["pull"]}],
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def header(algorithm: str = "ES256", **changes: Any) -> dict[str, Any]:
    kid = thumbprint(PRIVATE_KEYS[algorithm].public_key()) if algorithm in PRIVATE_KEYS else "none"
    usual = {"alg": algorithm, "typ": "JWT", "kid": kid}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def token(algorithm: str = "ES256", payload: object = None, **header_changes: Any) -> str:
    """Make a good token, but for what is asked otherwise."""
    key = PRIVATE_KEYS[algorithm]
    return forge(header(algorithm, **header_changes), payload or claims(), signer(algorithm, key))


def now_claims(**changes: Any) -> dict[str, Any]:
    """Return claims for a server, whose clock is the real one."""
    now = int(time.time())
    return claims(**({"exp": now + 300, "nbf": now, "iat": now} | changes))


@dataclass
class Trusted:
    """Keys by kid; whatever is put in later counts as a change."""

    by_kid: Mapping[str, VerificationKey] = field(
        default_factory=lambda: {
            thumbprint(key.public_key()): VerificationKey.of(key.public_key(), algorithm)
            for algorithm, key in PRIVATE_KEYS.items()
        }
    )
    generation: int = 0

    def find(self, kid: str) -> VerificationKey | None:
        return self.by_kid.get(kid)

    async def refresh(self) -> bool:
        return False
