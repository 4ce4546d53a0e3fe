"""A certificate of our own making, for a first try: the operator tells every client to trust it."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from registry.settings import Settings
from storage import durable

# What Apple's systems accept at most, the strictest of all.
_VALID = timedelta(days=825)
_RENEW = timedelta(days=30)
# A clock that lags behind ours must not find a certificate from the future.
_EARLIER = timedelta(days=1)
_COMMON_NAME_LIMIT = 64


def certificate(data: Path) -> Path:
    """Return where the certificate of a data directory lies."""
    return data / "tls" / "certificate.pem"


def key(data: Path) -> Path:
    """Return where its private key lies."""
    return data / "tls" / "key.pem"


def ensure(settings: Settings) -> str | None:
    """Make a certificate unless there is one for a month to come; return how clients trust a new one.

    A certificate stays when the machine's addresses change: a new one would have to be trusted anew.
    """
    if _is_valid(certificate(settings.data)) and key(settings.data).exists():
        return None
    names = list(dict.fromkeys(_names(settings)))
    certificate(settings.data).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(key(settings.data), pem)
    _write(certificate(settings.data), _sign(private, names).public_bytes(Encoding.PEM))
    return _how_to_trust(settings, names)


def _is_valid(path: Path) -> bool:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return False
    return found.not_valid_after_utc - datetime.now(UTC) > _RENEW


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)  # a crash may have left it
    durable.write_file(temporary, path, content)


def _sign(private: ec.EllipticCurvePrivateKey, names: list[str]) -> x509.Certificate:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"cargohold {names[-1]}"[:_COMMON_NAME_LIMIT])]
    )
    now = datetime.now(UTC)
    public = private.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now - _EARLIER + _VALID)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        # No authority: whoever trusts it trusts this server and nothing that the key could sign.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(private, SHA256())
    )


def _alternative(name: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _names(settings: Settings) -> Iterator[str]:
    """Name what clients may call this machine."""
    yield from ("localhost", "127.0.0.1", "::1", _name(settings))
    if settings.external_url:
        yield urlsplit(settings.external_url).hostname or "localhost"
    if _is_name(socket.gethostname()):
        yield socket.gethostname()
    yield from _addresses()


def _name(settings: Settings) -> str:
    """Return the name to tell clients: the address that was asked for, or the machine's."""
    return next(name for name in (settings.host, socket.gethostname(), "localhost") if _is_name(name))


def _is_name(name: str) -> bool:
    with suppress(ValueError):
        return not ipaddress.ip_address(name).is_unspecified
    return bool(name) and name.isascii()


def _addresses() -> Iterator[str]:
    """Find the addresses that this machine's name has, and those it would send from. Sends nothing."""
    with suppress(OSError):
        for *_, address in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM):
            yield str(address[0]).partition("%")[0]
    # Documentation addresses: connecting a datagram socket asks the routing table and no one else.
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((anywhere, 9))
            yield str(probe.getsockname()[0]).partition("%")[0]


def _how_to_trust(settings: Settings, names: list[str]) -> str:
    name = _name(settings)
    host = f"[{name}]" if ":" in name else name
    return _TRUST.format(
        names=", ".join(names),
        file=certificate(settings.data).absolute(),
        host=f"{host}:{settings.port}",
        command="install -D -m 644 certificate.pem",
    )


_TRUST = """\
A certificate was made for {names}:
  {file}
Nobody trusts it yet. Copy it to each client as certificate.pem; then, as root there, for {host}:
  docker      {command} /etc/docker/certs.d/{host}/ca.crt
  podman, skopeo, buildah
              {command} /etc/containers/certs.d/{host}/ca.crt
  containerd  {command} /etc/containerd/certs.d/{host}/ca.crt
              and in /etc/containerd/certs.d/{host}/hosts.toml:
                [host."https://{host}"]
                  ca = "ca.crt"
              (config.toml needs config_path = "/etc/containerd/certs.d", ctr --hosts-dir of that name)
  cargohold   --ca-file certificate.pem
"""
