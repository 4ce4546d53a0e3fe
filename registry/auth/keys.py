"""Keys of access tokens: what they sign and verify with, their names, and the ring that rotates them."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from registry.metadata import access_version, signing_keys
from registry.metadata.signing_keys import StoredKey
from registry.offload import Offload
from storage.database import Connection, Database

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
KidStyle = Literal["thumbprint", "libtrust"]
Algorithm = Literal["ES256", "EdDSA"]

_CERTIFICATE_DAYS = 3650
_LEAST_RSA_BITS = 2048
# Signatures are raw: two numbers of the curve's size, whatever the hash (AUTH-09).
_CURVES: Mapping[str, tuple[str, int]] = {
    "secp256r1": ("ES256", 64),
    "secp384r1": ("ES384", 96),
    "secp521r1": ("ES512", 132),
}
_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})


class KeyUnusable(ValueError):
    """A key that must not verify tokens; the message says why."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key with the one algorithm that it is for; no token chooses another (AUTH-01)."""

    public: PublicKey
    algorithm: str
    signature_bytes: int
    # In seconds since the epoch; from then on it verifies nothing.
    retires_at: float = float("inf")

    @classmethod
    def of(
        cls, public: object, algorithm: str | None = None, retires_at: float | None = None
    ) -> "VerificationKey":
        """Bind a key to its algorithm: the named one, or the usual one of its type.

        Raises KeyUnusable for a type that we don't verify with, and an algorithm that is not the key's.
        """
        until = float("inf") if retires_at is None else retires_at
        if isinstance(public, rsa.RSAPublicKey):
            name, size = _check_rsa(public, algorithm)
            return cls(public, name, size, until)
        if isinstance(public, ed25519.Ed25519PublicKey):
            name, size = "EdDSA", 64
        elif isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES:
            name, size = _CURVES[public.curve.name]
        else:
            raise KeyUnusable(f"not a key that verifies tokens: {type(public).__name__}")
        if algorithm not in (None, name):
            raise KeyUnusable(f"{algorithm!r} is not the algorithm of its key, {name} is")
        return cls(public, name, size, until)


def _check_rsa(public: rsa.RSAPublicKey, algorithm: str | None) -> tuple[str, int]:
    if public.key_size < _LEAST_RSA_BITS:
        raise KeyUnusable(f"an RSA key has {_LEAST_RSA_BITS} bits at least, not {public.key_size}")
    if algorithm is not None and algorithm not in _RSA_ALGORITHMS:
        raise KeyUnusable(f"{algorithm!r} is not an algorithm of an RSA key")
    return algorithm or "RS256", (public.key_size + 7) // 8


class Keys(Protocol):
    """What a verifier trusts. Nothing in a token adds to it (AUTH-02)."""

    @property
    def generation(self) -> int:
        """Another number after every change; what was verified before it is to be verified again."""
        ...

    def find(self, kid: str) -> VerificationKey | None: ...

    async def refresh(self) -> bool:
        """Look for changes; say whether there were any. Cheap: asked about once a second."""
        ...


def thumbprint(public: PublicKey) -> str:
    """Name a key by RFC 7638, as distribution 3 does."""
    members = {name: value for name, value in _members(public).items() if name in _THUMBPRINTED}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


_THUMBPRINTED = frozenset({"kty", "crv", "x", "y", "n", "e"})


def libtrust(public: PublicKey) -> str:
    """Name a key as distribution before 3 does. Source: github.com/docker/libtrust, keyIDFromCryptoKey."""
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[start : start + 4] for start in range(0, len(text), 4))


def _members(public: PublicKey) -> dict[str, object]:
    if isinstance(public, rsa.RSAPublicKey):
        return RSAAlgorithm.to_jwk(public, as_dict=True)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return OKPAlgorithm.to_jwk(public, as_dict=True)
    return ECAlgorithm.to_jwk(public, as_dict=True)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of ours."""

    private: PrivateKey
    algorithm: str
    retires_at: float | None = None

    @classmethod
    def generate(cls, algorithm: Algorithm) -> "SigningKey":
        if algorithm == "EdDSA":
            return cls(ed25519.Ed25519PrivateKey.generate(), algorithm)
        return cls(ec.generate_private_key(ec.SECP256R1()), algorithm)

    @classmethod
    def load(cls, stored: StoredKey) -> "SigningKey":
        private = load_der_private_key(stored.private_key, None)
        if not isinstance(private, PrivateKey):
            raise KeyUnusable(f"the database has a signing key of type {type(private).__name__}")
        return cls(private, stored.algorithm, stored.retires_at)

    @property
    def public(self) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
        return self.private.public_key()

    def kid(self, style: KidStyle) -> str:
        return libtrust(self.public) if style == "libtrust" else thumbprint(self.public)

    def dump(self) -> bytes:
        return self.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def jwk(self, style: KidStyle) -> dict[str, object]:
        """Write the public key. Source: RFC 7517, 4."""
        return {**_members(self.public), "kid": self.kid(style), "alg": self.algorithm, "use": "sig"}

    def certificate(self, issuer: str) -> str:
        """Certify the key by itself, in PEM: registries before distribution 3 take nothing else."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer[:64])])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(name, name, self.public, x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        )
        digest = hashes.SHA256() if self.algorithm == "ES256" else None
        return builder.sign(self.private, digest).public_bytes(Encoding.PEM).decode()


@dataclass(frozen=True, slots=True)
class Signer:
    """A key under the name that tokens give it."""

    key: SigningKey
    kid: str

    def sign(self, payload: dict[str, object]) -> str:
        return jwt.encode(payload, self.key.private, self.key.algorithm, {"kid": self.kid, "typ": "JWT"})


def ensure(db: Connection, algorithm: Algorithm) -> None:
    """Make the first key, and another when the configured algorithm is another one."""
    live = signing_keys.live(db)
    if not any(key.algorithm == algorithm and key.retires_at is None for key in live):
        _add(db, algorithm)


def rotate(db: Connection, algorithm: Algorithm, overlap_seconds: float) -> str:
    """Make a new key that signs from now on; the others verify for `overlap_seconds` more.

    Returns the new key's thumbprint.
    """
    until = db.now() + overlap_seconds
    for key in signing_keys.live(db):
        signing_keys.retire(db, key.kid, until)
    signing_keys.remove_retired(db)
    return _add(db, algorithm)


def retire(db: Connection, kid: str) -> bool:
    """End a key at once: its tokens are refused within a second. Says whether there was one."""
    return signing_keys.retire(db, kid, db.now())


def _add(db: Connection, algorithm: Algorithm) -> str:
    key = SigningKey.generate(algorithm)
    kid = key.kid("thumbprint")
    signing_keys.add(db, kid, algorithm, key.dump())
    return kid


class KeyRing:
    """Our keys, as the database has them: the newest signs, all that are live verify."""

    def __init__(
        self,
        database: Database,
        offload: Offload,
        algorithm: Algorithm,
        style: KidStyle,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._offload = offload
        self._algorithm = algorithm
        self._style = style
        self._clock = clock
        self._adopt(database.transaction(self._ensured))

    @property
    def generation(self) -> int:
        return self._version

    @property
    def signer(self) -> Signer:
        return self._signer

    def find(self, kid: str) -> VerificationKey | None:
        """Look a key up under either style of name."""
        key = self._by_kid.get(kid)
        return key if key is not None and key.retires_at > self._clock() else None

    async def refresh(self) -> bool:
        version = await self._offload.point_read(access_version.number)
        if version == self._version:
            return False
        found = await self._offload.read(_stored)
        if not self._has_signer(found.keys):
            found = await self._offload.transaction(self._ensured)
        self._adopt(found)
        return True

    def live(self) -> list[SigningKey]:
        now = self._clock()
        return [key for key in self._live if key.retires_at is None or key.retires_at > now]

    def jwks(self) -> dict[str, object]:
        """Write the public keys. Source: RFC 7517, 5."""
        return {"keys": [key.jwk(self._style) for key in self.live()]}

    def _ensured(self, db: Connection) -> "_Stored":
        ensure(db, self._algorithm)
        return _stored(db)

    def _has_signer(self, live: Iterable[SigningKey]) -> bool:
        return any(self._can_sign(key) for key in live)

    def _can_sign(self, key: SigningKey) -> bool:
        return key.algorithm == self._algorithm and key.retires_at is None

    def _adopt(self, stored: "_Stored") -> None:
        self._live = stored.keys
        signing = next(key for key in stored.keys if self._can_sign(key))
        self._signer = Signer(signing, signing.kid(self._style))
        self._by_kid = dict(_named(stored.keys))
        self._version = stored.version


@dataclass(frozen=True, slots=True)
class _Stored:
    version: int
    keys: list[SigningKey]


def _stored(db: Connection) -> _Stored:
    # The count first: what changes in between is then read once more.
    return _Stored(access_version.number(db), [SigningKey.load(stored) for stored in signing_keys.live(db)])


def _named(keys: Iterable[SigningKey]) -> Iterable[tuple[str, VerificationKey]]:
    for key in keys:
        verification = VerificationKey.of(key.public, key.algorithm, key.retires_at)
        yield thumbprint(key.public), verification
        yield libtrust(key.public), verification
