"""TLS of the listener: the certificate it shows, and the authority whose clients it believes.

A context belongs to one state of the files. New handshakes ask for the newest; what runs keeps its own, so
that a changed certificate never touches a connection.
"""

import logging
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from registry import metrics, self_signed
from registry.settings import Settings

log = logging.getLogger(__name__)

# Forward secrecy and authenticated encryption only; TLS 1.3 has nothing else and is not set here.
# Source: RFC 9325 §4.2.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_EXPIRES_SOON = timedelta(days=14)
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class CertificateUnusable(Exception):
    """Certificate, key or authority cannot be used; the message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where certificate and key lie, and the authority of client certificates, if any are asked for."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_required: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "Files | None":
        """Return what a registry of these settings shows, None when it speaks plain HTTP."""
        if settings.tls_self_signed:
            certificate, key = self_signed.certificate(settings.data), self_signed.key(settings.data)
        elif settings.tls_certificate and settings.tls_key:
            certificate, key = settings.tls_certificate, settings.tls_key
        else:
            return None
        return cls(certificate, key, settings.tls_client_ca, settings.tls_client_required)

    def context(self) -> ssl.SSLContext:
        """Make a context from what the files hold now. Raises CertificateUnusable."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        # A ticket's key would be one worker's own, and outlive a change of the clients' authority.
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            # Opened first, because OpenSSL does not say which of the two is missing.
            with self.certificate.open("rb"), self.key.open("rb"):
                # Not None, for which OpenSSL would ask on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
        except OSError as error:  # ssl.SSLError is one
            where = error.filename or f"{self.certificate} with {self.key}"
            raise CertificateUnusable(f"{where}: {_reason(error)}") from error
        if self.client_ca is not None:
            self._ask_clients(context, self.client_ca)
        return context

    def _ask_clients(self, context: ssl.SSLContext, client_ca: Path) -> None:
        context.verify_mode = ssl.CERT_REQUIRED if self.client_required else ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:
            raise CertificateUnusable(f"{client_ca}: {_reason(error)}") from error

    def expires(self) -> datetime:
        """Return when the certificate ends. Raises CertificateUnusable."""
        try:
            return x509.load_pem_x509_certificates(self.certificate.read_bytes())[0].not_valid_after_utc
        except (OSError, ValueError) as error:
            raise CertificateUnusable(f"{self.certificate}: {error}") from error

    def state(self) -> tuple[object, ...]:
        """Return what differs when a file was changed or replaced, behind symbolic links too."""
        return tuple(_state(path) for path in (self.certificate, self.key, self.client_ca))


class Certificates:
    """The newest usable context of a worker's files.

    Raises CertificateUnusable when made from files that cannot be used; later such files change nothing.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._state = files.state()
        self._context = files.context()
        _tell_expiry(files.expires())

    def context(self) -> ssl.SSLContext:
        """Return the context for a new handshake, made anew when a file has changed.

        A pair that does not fit, as between the two writes of a renewal, leaves the old one in place.
        """
        state = self._files.state()
        if state != self._state:
            self._state = state
            self._load()
        return self._context

    def _load(self) -> None:
        try:
            context, expires = self._files.context(), self._files.expires()
        except CertificateUnusable as error:
            log.warning("changed certificate cannot be used, the old one stays", extra={"reason": str(error)})
            return
        self._context = context
        log.info("certificate read again", extra={"file": str(self._files.certificate)})
        _tell_expiry(expires)


def _tell_expiry(expires: datetime) -> None:
    metrics.CERTIFICATE_EXPIRES.set(expires.timestamp())
    if expires - datetime.now(UTC) < _EXPIRES_SOON:
        log.warning("the certificate expires soon or has expired", extra={"expires": expires.isoformat()})


def extension(tls: ssl.SSLObject) -> dict[str, Any]:
    """Describe a connection to the application. Source: ASGI specification, "TLS Extension"."""
    der = tls.getpeercert(binary_form=True)
    return {
        "server_cert": None,
        "client_cert_chain": (ssl.DER_cert_to_PEM_cert(der),) if der else (),
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(tls.version() or ""),
        "cipher_suite": None,
    }


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        # Without a reason it is a file that OpenSSL could not make sense of.
        return error.reason.lower().replace("_", " ") if error.reason else "not in PEM, or behind a password"
    return error.strerror or str(error)


def _state(path: Path | None) -> object:
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
