"""An issuer that is not us: its keys from files, its certificates, its tokens at our server."""

import asyncio
import base64
import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from registry import metrics
from registry.auth.external import ExternalKeys, read_jwks
from registry.auth.keys import KeyUnusable, libtrust, thumbprint
from registry.auth.tokens import AccessToken, TokenInvalid, Verifier
from tests.registry.auth.doors import Door, bearer, serving_behind
from tests.registry.auth.forging import (
    EXPECTED,
    ISSUER,
    NOW,
    PRIVATE_KEYS,
    SERVICE,
    Private,
    claims,
    forge,
    header,
    now_claims,
    signer,
)
from tests.registry.pushing import Repository

REALM = "https://issuer.example/auth"


def jwk(algorithm: str, **more: Any) -> dict[str, Any]:
    public = PRIVATE_KEYS[algorithm].public_key()
    kinds: dict[str, Any] = {"EdDSA": OKPAlgorithm, "RS256": RSAAlgorithm}
    return {**kinds.get(algorithm, ECAlgorithm).to_jwk(public, as_dict=True), **more}


def write(path: Path, *jwks: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"keys": jwks}))
    return path


def verify(keys: ExternalKeys, text: str, *, x5c: bool = False) -> AccessToken:
    by_chain = keys.by_chain if x5c else None
    return asyncio.run(Verifier(keys, EXPECTED, by_chain=by_chain, clock=lambda: NOW).verify(text))


def token(algorithm: str, kid: str, **more: Any) -> str:
    return forge(header(algorithm, kid=kid, **more), claims(), signer(algorithm, PRIVATE_KEYS[algorithm]))


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
@pytest.mark.parametrize("style", ["of-the-file", "thumbprint", "libtrust"])
def test_tok_04_a_key_is_found_by_every_name(algorithm: str, style: str, tmp_path: Path) -> None:
    public = PRIVATE_KEYS[algorithm].public_key()
    names = {"of-the-file": "my key", "thumbprint": thumbprint(public), "libtrust": libtrust(public)}
    keys = ExternalKeys(write(tmp_path / "jwks", jwk(algorithm, kid="my key")), None)

    assert verify(keys, token(algorithm, names[style])).subject == "alice"


def test_auth_01_the_file_says_which_algorithm_an_rsa_key_has(tmp_path: Path) -> None:
    keys = ExternalKeys(write(tmp_path / "jwks", jwk("RS256", kid="k", alg="PS512")), None)
    key = PRIVATE_KEYS["RS256"]

    good = forge(header("PS512", kid="k"), claims(), signer("PS512", key))
    assert verify(keys, good).subject == "alice"
    for algorithm in ("RS256", "PS256", "RS512"):
        with pytest.raises(TokenInvalid):
            verify(keys, forge(header(algorithm, kid="k"), claims(), signer(algorithm, key)))


SECRET = {"kty": "oct", "k": "c2VjcmV0", "kid": "k"}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"keys":{}}', '{"keys":[5]}', '{"keys":[{}]}', '{"keys":[],"keys":[]}'),
        json.dumps({"keys": [SECRET]}),
        json.dumps({"keys": [jwk("ES256", d="AA")]}),
        json.dumps({"keys": [jwk("ES256", alg="HS256")]}),
        json.dumps({"keys": [jwk("ES256", alg="RS256")]}),
        json.dumps({"keys": [jwk("ES256", alg=5)]}),
        json.dumps({"keys": [jwk("ES256", kid=5)]}),
        json.dumps({"keys": [jwk("ES256", x="AAAA")]}),
        json.dumps({"keys": [jwk("ES256", kid="k"), jwk("ES384", kid="k")]}),
        json.dumps({"keys": [RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), True)]}),
    ],
)
def test_auth_02_what_must_not_verify_is_refused_at_start(text: str, tmp_path: Path) -> None:
    (tmp_path / "jwks").write_text(text)
    with pytest.raises(KeyUnusable):
        ExternalKeys(tmp_path / "jwks", None)


def test_a_key_for_encryption_is_passed_over() -> None:
    data = json.dumps({"keys": [jwk("ES256", use="enc"), jwk("EdDSA", use="sig")]}).encode()

    assert {key.algorithm for key in read_jwks(data).values()} == {"EdDSA"}


def replace(path: Path, text: str) -> None:
    """Put another file in a file's place, as who updates it well does."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_auth_30_a_changed_file_is_read_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "jwks", jwk("ES256", kid="old"))
    keys = ExternalKeys(path, None)
    old, new = token("ES256", "old"), token("EdDSA", "new")
    assert not asyncio.run(keys.refresh()), "nothing changed"

    replace(path, json.dumps({"keys": [jwk("ES256", kid="old"), jwk("EdDSA", kid="new")]}))
    assert verify(keys, new).subject == verify(keys, old).subject == "alice"
    generation = keys.generation

    for broken in ('{"keys": [', '{"keys": []}', json.dumps({"keys": [SECRET]})):
        replace(path, broken)
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            assert not asyncio.run(keys.refresh())
        assert [record.message for record in caplog.records] == [
            "token issuer's keys are unusable, the old ones stay"
        ]
        assert verify(keys, new).subject == verify(keys, old).subject == "alice"
    path.unlink()
    assert not asyncio.run(keys.refresh())
    assert b"cargohold_issuer_keys_broken 1.0" in metrics.render()

    path.write_text(json.dumps({"keys": [jwk("EdDSA", kid="new")]}))
    assert asyncio.run(keys.refresh())
    assert keys.generation > generation
    assert b"cargohold_issuer_keys_broken 0.0" in metrics.render()
    with pytest.raises(TokenInvalid):
        verify(keys, old)


# Certificates


def certificate(
    key: Private,
    name: str = "leaf",
    *,
    by: tuple[Private, str] | None = None,
    usage: bool | None = True,
    ca: bool = False,
    days: int = 10,
) -> x509.Certificate:
    """Make a certificate; `by` signs it, itself when None. `usage` says whether it is for signatures."""

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    issuer, issuer_name = by or (key, name)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(
            named(issuer_name), named(name), key.public_key(), x509.random_serial_number()
        )
        .not_valid_before(now - timedelta(days=20))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
        )
    )
    if usage is not None:
        values = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement"], False
        )
        builder = builder.add_extension(
            x509.KeyUsage(
                usage, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False, **values
            ),
            critical=True,
        )
    return builder.sign(issuer, hashes.SHA256())


ROOT, MIDDLE, LEAF = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
ROOT_CERTIFICATE = certificate(ROOT, "root", ca=True)
MIDDLE_CERTIFICATE = certificate(MIDDLE, "middle", by=(ROOT, "root"), ca=True)


def bundle(path: Path, *certificates: x509.Certificate) -> Path:
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
    return path


def with_chain(key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate, **more: Any) -> str:
    x5c = [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in chain]
    return forge(header("ES256", kid=None, x5c=x5c, **more), claims(), signer("ES256", key))


@pytest.fixture
def roots(tmp_path: Path) -> ExternalKeys:
    return ExternalKeys(None, bundle(tmp_path / "roots.pem", ROOT_CERTIFICATE))


@pytest.mark.parametrize("name", [thumbprint, libtrust])
def test_tok_04_a_certificate_of_the_bundle_verifies_by_kid(roots: ExternalKeys, name: Any) -> None:
    kid = name(ROOT.public_key())

    assert verify(roots, forge(header(kid=kid), claims(), signer("ES256", ROOT))).subject == "alice"


def test_auth_02_a_chain_to_a_root_is_taken_when_it_is_switched_on(roots: ExternalKeys) -> None:
    leaf = certificate(LEAF, by=(MIDDLE, "middle"))
    for text in (
        with_chain(LEAF, leaf, MIDDLE_CERTIFICATE),
        with_chain(LEAF, leaf, MIDDLE_CERTIFICATE, ROOT_CERTIFICATE),
        with_chain(LEAF, certificate(LEAF, by=(ROOT, "root"))),
        with_chain(ROOT, ROOT_CERTIFICATE),
    ):
        assert verify(roots, text, x5c=True).subject == "alice"
        with pytest.raises(TokenInvalid):
            verify(roots, text)


STRANGER = ec.generate_private_key(ec.SECP256R1())
FALSE_ROOT = certificate(STRANGER, "root", ca=True)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(with_chain(LEAF, certificate(LEAF)), id="itself"),
        pytest.param(with_chain(STRANGER, FALSE_ROOT), id="a-root-of-that-name"),
        pytest.param(
            with_chain(LEAF, certificate(LEAF, by=(STRANGER, "root")), FALSE_ROOT), id="a-false-root"
        ),
        pytest.param(with_chain(LEAF, certificate(LEAF, by=(STRANGER, "root"))), id="signed-by-another"),
        pytest.param(with_chain(LEAF, certificate(LEAF, by=(MIDDLE, "middle"))), id="a-link-missing"),
        pytest.param(with_chain(STRANGER, certificate(LEAF, by=(ROOT, "root"))), id="signed-by-no-leaf"),
        pytest.param(with_chain(LEAF, certificate(LEAF, by=(ROOT, "root"), usage=False)), id="not-to-sign"),
        pytest.param(with_chain(LEAF, certificate(LEAF, by=(ROOT, "root"), usage=None)), id="no-purpose"),
        pytest.param(with_chain(LEAF, certificate(LEAF, by=(ROOT, "root"), days=-1)), id="expired"),
        pytest.param(
            with_chain(
                STRANGER,
                certificate(STRANGER, by=(LEAF, "leaf")),
                certificate(LEAF, by=(ROOT, "root")),
            ),
            id="a-leaf-that-certifies",
        ),
        pytest.param(with_chain(ROOT, *[ROOT_CERTIFICATE] * 9), id="endless"),
        pytest.param(forge(header(x5c=[]), claims(), signer("ES256", ROOT)), id="empty"),
        pytest.param(forge(header(x5c="AAAA"), claims(), signer("ES256", ROOT)), id="no-list"),
        pytest.param(forge(header(x5c=[5]), claims(), signer("ES256", ROOT)), id="no-text"),
        pytest.param(forge(header(x5c=["!"]), claims(), signer("ES256", ROOT)), id="no-base64"),
        pytest.param(forge(header(x5c=["AAAA"]), claims(), signer("ES256", ROOT)), id="no-certificate"),
    ],
)
def test_auth_02_any_other_chain_is_refused(roots: ExternalKeys, text: str) -> None:
    with pytest.raises(TokenInvalid):
        verify(roots, text, x5c=True)


# The server


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("issuer")
    write(directory / "jwks", jwk("ES256", kid="one"), jwk("EdDSA", kid="two"))
    return directory


@pytest.fixture(scope="module")
def outside(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with serving_behind(
        tmp_path_factory.mktemp("outside"),
        auth="external",
        issuer_realm=REALM,
        issuer_name=ISSUER,
        issuer_jwks=files / "jwks",
    ) as door:
        yield door


def entry(name: str, *actions: str) -> dict[str, object]:
    return {"type": "repository", "name": name, "actions": list(actions)}


def issued(*access: dict[str, object], algorithm: str = "ES256", kid: str = "one", **changes: Any) -> str:
    payload = now_claims(access=list(access), **changes)
    return forge(header(algorithm, kid=kid), payload, signer(algorithm, PRIVATE_KEYS[algorithm]))


def test_our_server_takes_the_tokens_of_another_issuer(outside: Door) -> None:
    writer = bearer(issued(entry("team/app", "pull", "push")))
    with httpx.Client(base_url=outside.url, headers=writer) as client:
        manifest = Repository(client, "team/app").push_image("v1", b"layer")
    reader = bearer(issued(entry("team/app", "pull"), algorithm="EdDSA", kid="two"))
    with httpx.Client(base_url=outside.url, headers=reader) as client:
        assert client.get("/v2/team/app/manifests/v1").content == manifest
        refused = client.put("/v2/team/app/manifests/v2", content=manifest)
        assert client.get("/v2/team/other/manifests/v1").status_code == 401

    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == (
        f'Bearer realm="{REALM}",service="{SERVICE}",scope="repository:team/app:pull,push",'
        'error="insufficient_scope"'
    )


def test_a_star_is_every_action_as_in_distribution(outside: Door) -> None:
    with httpx.Client(base_url=outside.url, headers=bearer(issued(entry("team/star", "*")))) as client:
        Repository(client, "team/star").push_image("v1", b"layer")
        assert client.delete("/v2/team/star/manifests/v1").status_code == 202


def test_nobody_else_gets_in(outside: Door) -> None:
    basic = {"Authorization": "Basic YWxpY2U6d29uZGVy"}
    for headers in ({}, basic, bearer("x"), bearer(issued(iss="https://other.example"))):
        response = httpx.get(f"{outside.url}/v2/team/app/manifests/v1", headers=headers)
        assert response.status_code == 401
        assert f'realm="{REALM}"' in response.headers["WWW-Authenticate"]
    for path in ("/token", "/token/jwks", "/.well-known/jwks.json", "/token/certificates"):
        assert httpx.get(outside.url + path).status_code == 404


def test_an_issuer_may_show_the_catalog(outside: Door) -> None:
    listing: dict[str, object] = {"type": "registry", "name": "catalog", "actions": ["*"]}
    path = f"{outside.url}/v2/_catalog"

    assert "team/app" in httpx.get(path, headers=bearer(issued(listing))).json()["repositories"]
    assert httpx.get(path, headers=bearer(issued(entry("team/app", "pull")))).status_code == 401
