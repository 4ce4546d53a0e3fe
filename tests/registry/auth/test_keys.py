"""Signing keys: their names, their life in the database, and what is published of them."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from registry.app import MIGRATIONS
from registry.auth import keys
from registry.auth.keys import KeyRing, SigningKey, VerificationKey, libtrust, thumbprint
from registry.auth.tokens import Expected, TokenInvalid, Verifier, issue
from registry.metadata import signing_keys
from registry.offload import Offload
from storage.database import SqliteDatabase, connect
from tests.registry.auth.doors import SERVICE, Door, bearer, serving_behind

ISSUER = "https://registry.example"

# Source: RFC 7638, 3.1.
RFC_7638 = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXj"
    "BZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJ"
    "ZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBni"
    "Iqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
}
# Source: RFC 8037, A.3.
RFC_8037 = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


@pytest.fixture
def now() -> list[float]:
    return [1_800_000_000.0]


@pytest.fixture
def database(tmp_path: Path, now: list[float]) -> Iterator[SqliteDatabase]:
    database = connect(f"sqlite:{tmp_path / 'keys.db'}", MIGRATIONS, lambda: now[0])
    yield database
    database.close()


@pytest.fixture
def offload(database: SqliteDatabase) -> Iterator[Offload]:
    offload = Offload(database)
    yield offload
    offload.close()


Ring = Callable[[], KeyRing]


@pytest.fixture
def ring(database: SqliteDatabase, offload: Offload, now: list[float]) -> Ring:
    """Open the ring as another worker would."""
    return lambda: KeyRing(database, offload, "ES256", "thumbprint", lambda: now[0])


def takes(ring: KeyRing, text: str, now: float) -> bool:
    verifier = Verifier(ring, Expected(ISSUER, SERVICE, 300), clock=lambda: now)
    try:
        asyncio.run(verifier.verify(text))
    except TokenInvalid:
        return False
    return True


def sign(ring: KeyRing, now: float) -> str:
    return issue(ring.signer, {"iss": ISSUER, "sub": "a", "aud": SERVICE}, (), 300, now).text


def test_tok_04_a_thumbprint_is_that_of_the_rfcs() -> None:
    def of(jwk: dict[str, str]) -> str:
        return thumbprint(jwt.PyJWK(jwk, algorithm="RS256" if jwk["kty"] == "RSA" else "EdDSA").key)

    assert of(RFC_7638) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert of(RFC_8037) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_tok_04_a_libtrust_name_is_twelve_groups_of_four() -> None:
    name = libtrust(rsa.generate_private_key(65537, 2048).public_key())

    groups = name.split(":")
    assert len(groups) == 12
    assert all(len(group) == 4 and set(group) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for group in groups)


def test_the_first_key_is_made_once(ring: Ring) -> None:
    first, second = ring(), ring()

    assert first.signer.kid == second.signer.kid
    assert len(first.live()) == 1


def test_another_algorithm_gets_a_key_beside_the_old_one(
    ring: Ring, database: SqliteDatabase, offload: Offload, now: list[float]
) -> None:
    old = ring()
    new = KeyRing(database, offload, "EdDSA", "libtrust", lambda: now[0])

    assert new.signer.key.algorithm == "EdDSA"
    assert new.find(old.signer.kid) is not None


def test_auth_30_two_keys_are_good_until_the_old_one_ends(
    ring: Ring, database: SqliteDatabase, now: list[float]
) -> None:
    worker = ring()
    old = sign(worker, now[0])

    kid = database.transaction(lambda db: keys.rotate(db, "ES256", 360))
    assert asyncio.run(worker.refresh())
    new = sign(worker, now[0])

    assert jwt.get_unverified_header(new)["kid"] == kid != jwt.get_unverified_header(old)["kid"]
    assert len(worker.live()) == 2
    assert takes(worker, old, now[0])
    assert takes(worker, new, now[0])
    now[0] += 361
    assert len(worker.live()) == 1
    assert worker.find(jwt.get_unverified_header(old)["kid"]) is None
    assert takes(worker, sign(worker, now[0]), now[0])


def test_auth_30_a_retired_key_ends_at_once_and_another_one_signs(
    ring: Ring, database: SqliteDatabase, now: list[float]
) -> None:
    worker = ring()
    text, kid = sign(worker, now[0]), worker.signer.kid

    assert database.transaction(lambda db: keys.retire(db, kid))
    assert not database.transaction(lambda db: keys.retire(db, kid)), "a second time"
    now[0] += 0.001
    assert asyncio.run(worker.refresh())

    assert not takes(worker, text, now[0])
    assert takes(worker, sign(worker, now[0]), now[0])


def test_auth_30_a_worker_finds_the_key_of_another(
    ring: Ring, database: SqliteDatabase, now: list[float]
) -> None:
    here, there = ring(), ring()
    database.transaction(lambda db: keys.rotate(db, "ES256", 360))
    asyncio.run(there.refresh())

    assert takes(here, sign(there, now[0]), now[0])


def test_retired_keys_are_forgotten(database: SqliteDatabase, ring: Ring, now: list[float]) -> None:
    ring()
    database.transaction(lambda db: keys.rotate(db, "ES256", 10))
    now[0] += 11
    database.transaction(lambda db: keys.rotate(db, "ES256", 10))

    rows = database.read(lambda db: db.execute("SELECT count(*) FROM signing_key").fetchone())
    assert rows == (2,)
    assert len(database.read(signing_keys.live)) == 2


@pytest.mark.parametrize("path", ["/token/jwks", "/.well-known/jwks.json"])
def test_the_public_keys_are_published(door: Door, path: str) -> None:
    response = httpx.get(door.url + path)

    (jwk,) = response.json()["keys"]
    assert response.headers["content-type"] == "application/jwk-set+json"
    assert jwk.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    key = jwt.PyJWK(jwk)
    assert jwk["kid"] == thumbprint(key.key)
    assert jwt.decode(door.token(), key, ["ES256"], audience=SERVICE)["sub"] == ""


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_tok_04_the_kid_is_of_the_configured_style(tmp_path: Path, algorithm: str) -> None:
    with serving_behind(tmp_path, token_kid="libtrust", token_algorithm=algorithm) as door:
        (jwk,) = httpx.get(f"{door.url}/token/jwks").json()["keys"]
        (certificate,) = x509.load_pem_x509_certificates(httpx.get(f"{door.url}/token/certificates").content)
        token = door.token("repository:alice/x:pull", auth=("alice", "wonder"))

        kid: Any = libtrust(certificate.public_key())  # type: ignore[arg-type]  # it is ours
        assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT", "kid": kid}
        assert jwk["kid"] == kid
        assert httpx.get(f"{door.url}/v2/", headers=bearer(token)).status_code == 200


def test_keys_survive_a_restart(tmp_path: Path) -> None:
    with serving_behind(tmp_path) as door:
        token = door.token("repository:public/a:pull")
        issuer = door.url
    with serving_behind(tmp_path, external_url=issuer) as door:
        assert httpx.get(f"{door.url}/v2/", headers=bearer(token)).status_code == 200


def test_a_private_key_is_never_published(door: Door) -> None:
    for path in ("/token/jwks", "/token/certificates"):
        text = httpx.get(door.url + path).text
        assert "PRIVATE" not in text
        assert '"d"' not in text


def test_a_stored_key_is_the_same_key() -> None:
    key = SigningKey.generate("EdDSA")
    stored = signing_keys.StoredKey("x", "EdDSA", key.dump(), 0.0, None)

    assert SigningKey.load(stored).kid("libtrust") == key.kid("libtrust")
    assert VerificationKey.of(key.public).algorithm == "EdDSA"
    assert json.dumps(key.jwk("thumbprint"))
