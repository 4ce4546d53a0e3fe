"""Keys of a token issuer that is not us: a JWKS file or a bundle of certificates, as distribution has it.

Source: distribution's docs/about/configuration.md, "token"; RFC 7517.
"""

import base64
import binascii
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from registry import metrics
from registry.auth.keys import KeyUnusable, VerificationKey, libtrust, thumbprint
from registry.auth.tokens import TokenInvalid
from storage.oci import strict_json
from storage.oci.errors import ManifestInvalid

log = logging.getLogger(__name__)

_FILE_LIMIT = 1024 * 1024
_CHAIN_LIMIT = 8

ByKid = Mapping[str, VerificationKey]


@dataclass(frozen=True, slots=True)
class Trusted:
    """What the files say at one time; it is replaced as a whole."""

    by_kid: ByKid = field(default_factory=dict)
    roots: tuple[x509.Certificate, ...] = ()


class ExternalKeys:
    """The keys of an issuer's files, read again when they change.

    A broken file changes nothing but the log (AUTH-30): tokens go on being taken by what was there before.
    """

    def __init__(self, jwks: Path | None, certificates: Path | None) -> None:
        """Raises KeyUnusable, OSError."""
        self._jwks = jwks
        self._certificates = certificates
        self.generation = 0
        self._seen = self._look()
        self._trusted = self._load()

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return self._trusted.roots

    def find(self, kid: str) -> VerificationKey | None:
        return self._trusted.by_kid.get(kid)

    async def refresh(self) -> bool:
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._trusted = self._load()
        except (KeyUnusable, OSError) as error:
            metrics.ISSUER_KEYS_BROKEN.set(1)
            log.error("token issuer's keys are unusable, the old ones stay", extra={"reason": str(error)})
            return False
        metrics.ISSUER_KEYS_BROKEN.set(0)
        self.generation += 1
        log.info("token issuer's keys read again", extra={"keys": len(self._trusted.by_kid)})
        return True

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_state(path) for path in (self._jwks, self._certificates) if path is not None]

    def _load(self) -> Trusted:
        by_kid: dict[str, VerificationKey] = {}
        roots: tuple[x509.Certificate, ...] = ()
        if self._certificates is not None:
            roots = tuple(_read_certificates(self._certificates))
            by_kid |= _of_certificates(roots)
        if self._jwks is not None:
            by_kid |= read_jwks(_read(self._jwks))
        if not by_kid:
            raise KeyUnusable("the token issuer has no key")
        return Trusted(by_kid, roots)

    def by_chain(self, chain: object) -> VerificationKey:
        """Return the key of an `x5c` header, if it leads to a certificate of the bundle (AUTH-02).

        Raises TokenInvalid. Source: RFC 7515, 4.1.6.
        """
        leaf, *intermediates = _chain(chain)
        try:
            if leaf in self.roots:
                _check_trusted_leaf(leaf)
            else:
                _check_chain(leaf, intermediates, self.roots)
            return VerificationKey.of(leaf.public_key())
        except (VerificationError, ValueError, x509.UnsupportedGeneralNameType) as error:
            raise TokenInvalid(f"its certificate: {error}") from None


def read_jwks(data: bytes) -> dict[str, VerificationKey]:
    """Read a JWKS; a key is found by its `kid` and by both names that registries derive.

    Raises KeyUnusable for a document that is none, two keys of one name, private and symmetric keys.
    """
    try:
        document = strict_json.loads(data)
    except ManifestInvalid as error:
        raise KeyUnusable(f"the JWKS is {error}") from error
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise KeyUnusable("the JWKS has no list of keys")
    by_kid: dict[str, VerificationKey] = {}
    for member in keys:
        if not isinstance(member, dict):
            raise KeyUnusable("a key of the JWKS is no object")
        if member.get("use", "sig") == "sig":
            _add(by_kid, *_read_key(member))
    return by_kid


def _read_key(member: Mapping[str, Any]) -> tuple[str | None, VerificationKey]:
    if "d" in member or member.get("kty") == "oct":
        raise KeyUnusable("the JWKS has a secret in it; only public keys belong there")
    algorithm, kid = member.get("alg"), member.get("kid")
    if not isinstance(algorithm, str | None) or not isinstance(kid, str | None):
        raise KeyUnusable("alg or kid of a key is no text")
    try:
        public = jwt.PyJWK(dict(member)).key
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise KeyUnusable(f"a key of the JWKS: {error}") from error
    return kid, VerificationKey.of(public, algorithm)


def _add(by_kid: dict[str, VerificationKey], kid: str | None, key: VerificationKey) -> None:
    if kid is not None and by_kid.get(kid, key) != key:
        raise KeyUnusable(f"two keys are called {kid[:100]!r}")
    names = (kid, thumbprint(key.public), libtrust(key.public))
    by_kid.update({name: key for name in names if name is not None})


def _of_certificates(certificates: Iterable[x509.Certificate]) -> dict[str, VerificationKey]:
    by_kid: dict[str, VerificationKey] = {}
    for certificate in certificates:
        _add(by_kid, None, VerificationKey.of(certificate.public_key()))
    return by_kid


def _read_certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise KeyUnusable(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    if len(data) > _FILE_LIMIT:
        raise KeyUnusable(f"{path} is larger than {_FILE_LIMIT} bytes")
    return data


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _chain(value: object) -> Iterator[x509.Certificate]:
    if not isinstance(value, list) or not 0 < len(value) <= _CHAIN_LIMIT:
        raise TokenInvalid("its x5c is no chain of certificates")
    for item in value:
        try:
            yield x509.load_der_x509_certificate(base64.b64decode(item, validate=True))
        except (binascii.Error, ValueError, TypeError):
            raise TokenInvalid("its x5c has something that is no certificate") from None


def _check_trusted_leaf(leaf: x509.Certificate) -> None:
    """Check a certificate that is in the bundle itself, whose purposes may go unsaid."""
    if not leaf.not_valid_before_utc <= datetime.now(UTC) <= leaf.not_valid_after_utc:
        raise ValueError("it is not valid now")
    _check_usage(_usage(leaf), is_required=False)


def _check_chain(
    leaf: x509.Certificate, intermediates: list[x509.Certificate], roots: tuple[x509.Certificate, ...]
) -> None:
    if not roots:
        raise ValueError("no certificate is configured to lead to")
    policy = PolicyBuilder().store(Store(list(roots))).time(datetime.now(UTC))
    # Token certificates are no web servers': they have no names to check, only a purpose.
    policy = policy.extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all()
    )
    policy.build_client_verifier().verify(leaf, intermediates)
    _check_usage(_usage(leaf), is_required=True)


def _usage(leaf: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _check_usage(usage: x509.KeyUsage | None, *, is_required: bool) -> None:
    if usage is None and is_required:
        raise ValueError("it does not say what it is for")
    if usage is not None and not usage.digital_signature:
        raise ValueError("it is not for digital signatures")
