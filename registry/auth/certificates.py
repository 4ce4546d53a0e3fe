"""Client certificates: an exact map from a name in the certificate to a principal (TOK-07).

Whether a certificate is genuine is decided in the handshake, against the authorities of `tls_client_ca` and
no others. Here is only asked what it is for, and whose it is. Source: RFC 5280, 4.2.1.6 and 4.2.1.12.
"""

import logging
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from registry.auth import names
from registry.auth.access import ClientCertificate, Kind, Principal

log = logging.getLogger(__name__)


class CertificateMapInvalid(ValueError):
    """A map that is not taken; the message names the entry."""


class CertificateMap:
    """Names of principals by subject alternative name, as in `URI:spiffe://prod/builder` or `DNS:ci.example`.

    Nothing in it is a pattern, and common names mean nothing.
    """

    def __init__(self, names_by_san: Mapping[str, str]) -> None:
        """Raises CertificateMapInvalid."""
        self._names = {_san(san): _name(san, name) for san, name in names_by_san.items()}
        self._find = lru_cache(maxsize=1024)(self._look_up)

    @classmethod
    def read(cls, path: Path) -> "CertificateMap":
        """Read a file with a `[certificates]` table. Raises CertificateMapInvalid, OSError."""
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise CertificateMapInvalid(f"{path} is not TOML: {error}") from error
        table = document.get("certificates")
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
            raise CertificateMapInvalid(f'{path} has a table [certificates] of "URI:…" or "DNS:…" = "name"')
        return cls(table)

    def principal(self, certificate: ClientCertificate) -> Principal | None:
        """Return whom a certificate means; None when it means nobody, which is no error."""
        name = self._find(certificate.pem)
        return None if name is None else Principal(f"cert:{name}", Kind.CERTIFICATE)

    def _look_up(self, pem: str) -> str | None:
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            found = {self._names[san] for san in _names_in(certificate) if san in self._names}
        except (ValueError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension) as error:
            log.warning("client certificate cannot be read", extra={"reason": str(error)})
            return None
        if len(found) > 1:
            log.warning(
                "client certificate means several principals, so nobody", extra={"names": sorted(found)}
            )
        return found.pop() if len(found) == 1 else None


def _names_in(certificate: x509.Certificate) -> list[tuple[str, str]]:
    """Return the names of a certificate that is for TLS clients, none of any other."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    # anyExtendedKeyUsage is not enough: it is what says nothing.
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        return []
    uris = [("URI", value) for value in sans.get_values_for_type(x509.UniformResourceIdentifier)]
    return uris + [("DNS", value) for value in sans.get_values_for_type(x509.DNSName)]


def _san(text: str) -> tuple[str, str]:
    kind, _, value = text.partition(":")
    if kind not in ("URI", "DNS") or not value or "*" in value:
        raise CertificateMapInvalid(f"{text!r} is not URI:… or DNS:…, a name as it stands in a certificate")
    return kind, value


def _name(san: str, name: str) -> str:
    if not names.is_name(name):
        raise CertificateMapInvalid(f"{san}: {name[:100]!r} cannot be a name")
    return name
