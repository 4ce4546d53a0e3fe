"""How a server proves who it is, and how we do."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import certifi

from client.errors import ConfigurationInvalid


@dataclass(frozen=True, slots=True)
class Tls:
    """The TLS of one host; `ca_files` are trusted beside the system's, a certificate comes with its key."""

    verify: bool = True
    ca_files: tuple[Path, ...] = ()
    client_certificates: tuple[tuple[Path, Path], ...] = ()

    def context(self) -> ssl.SSLContext:
        """Make a context for TLS 1.2 and above. Raises ConfigurationInvalid for files that cannot be used."""
        context = ssl.create_default_context()
        paths = ssl.get_default_verify_paths()
        if not (paths.cafile or paths.capath):
            # A container image without ca-certificates.
            context.load_verify_locations(certifi.where())
        for ca_file in self.ca_files:
            with _of(ca_file, "CA certificate"):
                context.load_verify_locations(ca_file)
        for certificate, key in self.client_certificates:
            with _of(certificate, "client certificate"):
                # Not None, for which OpenSSL would ask on the terminal.
                context.load_cert_chain(certificate, key, password="")
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@contextmanager
def _of(path: Path, what: str) -> Iterator[None]:
    """Name the file in what is wrong with it."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationInvalid(f"{path}: cannot be used as a {what}: {error}") from error
