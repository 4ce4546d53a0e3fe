"""Client certificates: whom one means."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from registry.auth.access import ClientCertificate, Kind
from registry.auth.certificates import CertificateMap, CertificateMapInvalid

KEY = ec.generate_private_key(ec.SECP256R1())
URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
MAP = CertificateMap({"URI:spiffe://prod/builder": "builder", "DNS:ci.example": "ci"})


def certificate(
    *sans: x509.GeneralName,
    usage: Sequence[x509.ObjectIdentifier] | None = (CLIENT,),
    common_name: str = "somebody",
) -> ClientCertificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return ClientCertificate(builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode())


@pytest.mark.parametrize(
    ("sans", "expected"),
    [
        pytest.param([URI("spiffe://prod/builder")], "cert:builder", id="uri"),
        pytest.param([DNS("ci.example")], "cert:ci", id="dns"),
        pytest.param([DNS("other.example"), DNS("ci.example")], "cert:ci", id="one-of-several"),
    ],
)
def test_TOK_07_maps_an_exact_name(sans: list[x509.GeneralName], expected: str) -> None:
    principal = MAP.principal(certificate(*sans))

    assert principal is not None
    assert (principal.name, principal.kind) == (expected, Kind.CERTIFICATE)


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(certificate(URI("spiffe://prod/builder/x")), id="longer-uri"),
        pytest.param(certificate(URI("spiffe://prod/Builder")), id="another-case"),
        pytest.param(certificate(DNS("x.ci.example")), id="subdomain"),
        pytest.param(certificate(DNS("*.example")), id="wildcard"),
        pytest.param(certificate(DNS("spiffe://prod/builder")), id="a-uri-as-dns"),
        pytest.param(certificate(URI("ci.example")), id="a-dns-as-uri"),
        pytest.param(certificate(x509.RFC822Name("ci.example")), id="mail"),
        pytest.param(certificate(common_name="ci.example"), id="common-name-only"),
        pytest.param(certificate(DNS("ci.example"), usage=(SERVER,)), id="for-servers"),
        pytest.param(certificate(DNS("ci.example"), usage=None), id="for-nothing-said"),
        pytest.param(
            certificate(DNS("ci.example"), usage=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
            id="for-anything",
        ),
        pytest.param(certificate(DNS("ci.example"), URI("spiffe://prod/builder")), id="two-principals"),
        pytest.param(ClientCertificate(""), id="empty"),
        pytest.param(
            ClientCertificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), id="junk"
        ),
    ],
)
def test_TOK_07_means_nobody(shown: ClientCertificate) -> None:
    assert MAP.principal(shown) is None


def test_TOK_07_takes_a_certificate_for_clients_and_servers() -> None:
    assert MAP.principal(certificate(DNS("ci.example"), usage=(SERVER, CLIENT))) is not None


def test_TOK_07_two_names_of_one_principal_are_one() -> None:
    both = CertificateMap({"DNS:a.example": "ci", "DNS:b.example": "ci"})

    principal = both.principal(certificate(DNS("a.example"), DNS("b.example")))
    assert principal is not None
    assert principal.name == "cert:ci"


def test_says_once_what_it_cannot_read(caplog: pytest.LogCaptureFixture) -> None:
    fresh = CertificateMap({"DNS:ci.example": "ci"})
    with caplog.at_level(logging.WARNING, "registry.auth.certificates"):
        for _ in range(3):
            fresh.principal(ClientCertificate("junk"))

    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "table",
    [
        {"ci.example": "ci"},
        {"CN:ci": "ci"},
        {"DNS:": "ci"},
        {"DNS:*.example": "ci"},
        {"DNS:ci.example": "a:b"},
        {"DNS:ci.example": ""},
    ],
    ids=str,
)
def test_refuses_a_map(table: dict[str, str]) -> None:
    with pytest.raises(CertificateMapInvalid):
        CertificateMap(table)


@pytest.mark.parametrize("text", ["[certificates", "", "[certificates]\n'DNS:a' = 1\n"])
def test_refuses_a_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "clients.toml"
    file.write_text(text)

    with pytest.raises(CertificateMapInvalid):
        CertificateMap.read(file)


def test_reads_a_file(tmp_path: Path) -> None:
    file = tmp_path / "clients.toml"
    file.write_text('[certificates]\n"DNS:ci.example" = "ci"\n')

    assert CertificateMap.read(file).principal(certificate(DNS("ci.example"))) is not None
