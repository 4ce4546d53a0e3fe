"""The verifier: what is a token of ours, and everything that is not."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.auth import tokens
from registry.auth.access import Action
from registry.auth.keys import KeyUnusable, Signer, SigningKey, VerificationKey, libtrust, thumbprint
from registry.auth.rights import TokenRights
from registry.auth.scopes import CATALOG, Scope
from registry.auth.tokens import TOKEN_LIMIT, AccessToken, TokenInvalid, Verifier
from storage.oci.names import RepositoryName
from tests.registry.auth.forging import (
    EXPECTED,
    HASHES,
    ISSUER,
    NOW,
    PRIVATE_KEYS,
    SERVICE,
    Trusted,
    claims,
    forge,
    header,
    signer,
    token,
    with_public_key_as_secret,
)

ALGORITHMS = [
    *("ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("HS256", "HS384", "HS512", "none", "None", "NONE", "nOnE", "", "ES256K", "es256", "A128KW"),
]


def verify(text: str, now: float = NOW, keys: Trusted | None = None) -> AccessToken:
    verifier = Verifier(keys or Trusted(), EXPECTED, clock=lambda: now)
    return asyncio.run(verifier.verify(text))


def refused(text: str, now: float = NOW) -> bool:
    try:
        verify(text, now)
    except TokenInvalid:
        return True
    return False


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_takes_a_good_token_of_each_key(algorithm: str) -> None:
    found = verify(token(algorithm))

    assert (found.subject, found.scopes) == ("alice", (Scope("repository", "a", ("pull",)),))


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_takes_what_we_issue(algorithm: Any) -> None:
    key = SigningKey.generate(algorithm)
    kid = key.kid("thumbprint")
    scopes = (Scope("repository", "a/b", ("pull", "push")), CATALOG)
    whose = {"iss": ISSUER, "sub": "robot:ci", "aud": SERVICE}
    issued = tokens.issue(Signer(key, kid), whose, scopes, 60, NOW)
    keys = Trusted({kid: VerificationKey.of(key.public, algorithm)})

    found = verify(issued.text, keys=keys)

    assert (found.subject, found.scopes, found.claims["jti"]) == ("robot:ci", scopes, issued.id)


# AUTH-01: the key says which algorithm, the token never


@pytest.mark.parametrize("key", PRIVATE_KEYS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_auth_01_a_key_has_one_algorithm(algorithm: str, key: str) -> None:
    private = PRIVATE_KEYS[key]
    kid = thumbprint(private.public_key())
    signs = [signer(algorithm or "none", private), lambda data: b"", lambda data: b"\0" * 64]
    if algorithm.startswith("HS"):
        signs += with_public_key_as_secret(algorithm, private)
    for sign in signs:
        forged = forge(header(algorithm, kid=kid, alg=algorithm), claims(), sign)
        is_good = sign is signs[0] and algorithm == key
        assert refused(forged) is not is_good, f"{algorithm} with a key for {key}"


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256", "ES384", None, 5, ["ES256"]])
def test_auth_01_no_word_of_the_header_changes_the_algorithm(algorithm: object) -> None:
    assert refused(token(alg=algorithm))


def test_auth_01_a_key_is_bound_to_an_algorithm_of_its_own_type() -> None:
    public = PRIVATE_KEYS["ES256"].public_key()
    for algorithm in ("RS256", "HS256", "ES384", "EdDSA", "none", ""):
        with pytest.raises(KeyUnusable):
            VerificationKey.of(public, algorithm)
    for weak in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())):
        with pytest.raises(KeyUnusable):
            VerificationKey.of(weak.public_key())


# AUTH-02, AUTH-03: keys come from the configuration


def jwk_of(key: ec.EllipticCurvePrivateKey, kid: str) -> Mapping[str, object]:
    return {**SigningKey(key, "ES256").jwk("thumbprint"), "kid": kid}


STRANGER = ec.generate_private_key(ec.SECP256R1())
OURS = thumbprint(PRIVATE_KEYS["ES256"].public_key())


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"jwk": jwk_of(STRANGER, OURS)}, id="jwk-of-our-kid"),
        pytest.param({"jwk": jwk_of(STRANGER, OURS), "kid": None}, id="jwk-alone"),
        pytest.param({"jwk": jwk_of(STRANGER, "x"), "kid": thumbprint(STRANGER.public_key())}, id="its-kid"),
        pytest.param({"jku": "http://127.0.0.1:1/jwks"}, id="jku"),
        pytest.param({"x5u": "http://127.0.0.1:1/x.pem"}, id="x5u"),
        pytest.param({"x5c": ["AAAA"]}, id="x5c"),
    ],
)
def test_auth_02_auth_03_a_token_brings_no_key(more: dict[str, Any]) -> None:
    assert refused(forge(header(**more), claims(), signer("ES256", STRANGER)))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_auth_02_what_a_good_token_names_is_not_looked_at(name: str) -> None:
    assert verify(token(**{name: "http://127.0.0.1:1/"})).subject == "alice"


@pytest.mark.parametrize(
    "kid",
    [
        *(None, "", "x", 5, ["a"], {"a": 1}, True, f"{OURS} ", OURS.lower(), OURS[:-1], "a" * 257),
        *("../../etc/passwd", "' OR 1=1 --", "\0", f"{OURS}\0", "/dev/null", "http://x/"),
        libtrust(PRIVATE_KEYS["ES256"].public_key()),
    ],
)
def test_auth_03_a_kid_is_looked_up_and_nothing_else(kid: object) -> None:
    assert refused(token(kid=kid))


# AUTH-04 to AUTH-07: what it says


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access"])
def test_auth_04_every_claim_is_required(claim: str) -> None:
    assert refused(token(payload=claims(**{claim: None})))


WRONG_TIMES = [
    *("1800000300", 1_800_000_300.0, 1.8e9, True, [1_800_000_300], {}, -1, 2**40 + 1, 2**62, 10**400),
    b"NaN",
    b"1e400",
    b"Infinity",
    b"1800000300.5",
]


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", WRONG_TIMES, ids=repr)
def test_auth_05_a_time_is_a_whole_number(name: str, value: object) -> None:
    text = value.decode() if isinstance(value, bytes) else json.dumps(value)
    payload = json.dumps(claims(**{name: "HERE"})).replace('"HERE"', text)

    assert refused(token(payload=payload.encode()))


@pytest.mark.parametrize(
    ("now", "is_good"),
    [
        (NOW - 61, False),
        (NOW - 60, True),
        (NOW + 300, True),
        (NOW + 360, True),
        (NOW + 361, False),
    ],
)
def test_auth_05_clocks_may_differ_by_a_minute(now: int, is_good: bool) -> None:
    assert refused(token(), now) is not is_good


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": NOW + 3601}, id="too-long"),
        pytest.param({"exp": NOW, "iat": NOW, "nbf": NOW}, id="no-time"),
        pytest.param({"exp": NOW - 1}, id="ends-before-it-begins"),
        pytest.param({"iat": NOW + 61, "exp": NOW + 300}, id="made-tomorrow"),
        pytest.param({"nbf": NOW + 61}, id="not-yet"),
        pytest.param({"iat": 0}, id="made-long-ago"),
    ],
)
def test_auth_05_a_token_lives_shortly(changes: dict[str, int]) -> None:
    assert refused(token(payload=claims(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"iss": iss}
            for iss in ("", ISSUER + "/", ISSUER.upper(), "https://issuer.example.evil", [ISSUER], 5)
        ),
        *(
            {"aud": aud}
            for aud in ("", SERVICE + ".", SERVICE.upper(), "other", [], ["other"], [[SERVICE]], 5)
        ),
        *({"aud": aud} for aud in ({SERVICE: 1}, [SERVICE, 5], [SERVICE, None])),
    ],
    ids=str,
)
def test_auth_06_it_is_of_our_issuer_and_for_our_service(changes: dict[str, object]) -> None:
    assert refused(token(payload=claims(**changes)))


def test_auth_06_the_service_may_be_one_of_several() -> None:
    assert verify(token(payload=claims(aud=["other", SERVICE]))).subject == "alice"


@pytest.mark.parametrize(
    "changes",
    [
        *({"typ": typ} for typ in (None, "jwt", "at+jwt", "JWS", "application/jwt", "", 5, ["JWT"])),
        *({"crit": crit} for crit in ([], ["exp"], ["b64"], "exp")),
        *({"b64": b64} for b64 in (False, True)),
    ],
    ids=str,
)
def test_auth_07_an_unknown_type_or_extension_is_no_access_token(changes: dict[str, Any]) -> None:
    assert refused(token(**changes))


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("header", json.dumps(header())[:-1] + f',"kid":"{OURS}"}}'),
        ("header", '{"alg":"none",' + json.dumps(header())[1:]),
        ("payload", json.dumps(claims())[:-1] + ',"sub":"root"}'),
        ("payload", json.dumps(claims())[:-1] + ',"access":[]}'),
        (
            "payload",
            json.dumps(claims(access=[]))[:-3] + '[{"type":"a","type":"a","name":"a","actions":[]}]}',
        ),
        ("payload", "[]"),
        ("payload", '"text"'),
        ("header", "[]"),
        ("payload", "[" * 100_000),
    ],
    ids=lambda text: text[:20],
)
def test_auth_07_a_member_comes_once(part: str, text: str) -> None:
    parts = {"header": header(), "payload": claims()} | {part: text.encode()}

    assert refused(forge(parts["header"], parts["payload"], signer("ES256", PRIVATE_KEYS["ES256"])))


# AUTH-08, AUTH-09: its form


def test_auth_08_what_is_too_large_never_reaches_the_cryptography() -> None:
    entries = [{"type": "repository", "name": f"r{number}", "actions": []} for number in range(65)]

    assert not refused(token(payload=claims(access=entries[:64])))
    assert refused(token(payload=claims(access=entries)))
    assert refused(token(payload=claims(more="x" * TOKEN_LIMIT)))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b", "a.b.c.d", "a..b", "ä.b.c", "a.b.c\n", "a b.c.d", "a" * 20_000]
)
def test_auth_08_what_has_not_three_parts_of_base64url_is_no_token(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_auth_09_every_character_counts(algorithm: str) -> None:
    good = token(algorithm)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for last in alphabet:
        assert refused(good[:-1] + last) is (last != good[-1])
    for changed in (good + "=", good + "==", good + "A", good[:-1], good + ".", good.replace("_", "/") + "+"):
        assert refused(changed)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "EdDSA"])
def test_auth_09_a_signature_has_its_length(algorithm: str) -> None:
    key = PRIVATE_KEYS[algorithm]
    sizes = {"ES256": 64, "ES384": 96, "ES512": 132, "EdDSA": 64}
    sign = signer(algorithm, key)

    def der(data: bytes) -> bytes:
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key.sign(data, ec.ECDSA(HASHES[algorithm[2:]]))

    assert len(sign(b"")) == sizes[algorithm]
    for change in (
        lambda data: sign(data) + b"\0",
        lambda data: b"\0" + sign(data),
        lambda data: sign(data)[:-1],
    ):
        assert refused(forge(header(algorithm), claims(), change))
    if algorithm != "EdDSA":
        assert refused(forge(header(algorithm), claims(), der))


GOOD = token()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_auth_09_no_changed_byte_is_taken(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(GOOD) - 1))
    other = data.draw(st.characters(min_codepoint=1, max_codepoint=0x7E))

    assert refused(GOOD[:position] + other + GOOD[position + 1 :]) is (other != GOOD[position])


@pytest.mark.parametrize(
    "access",
    [
        *("", "repository:a:pull", {}, 5, True, [5], ["repository:a:pull"], [[]], [None]),
        [{"type": "repository", "name": "a"}],
        [{"type": "repository", "name": "a", "actions": "pull"}],
        [{"type": "repository", "name": "a", "actions": [5]}],
        [{"type": "repository", "name": ["a"], "actions": ["pull"]}],
        [{"name": "a", "actions": ["pull"]}],
    ],
    ids=str,
)
def test_auth_04_access_is_a_list_of_entries(access: object) -> None:
    assert refused(token(payload=claims(access=access)))


@pytest.mark.parametrize(
    "changes", [{"sub": 5}, {"sub": "a\nb"}, {"sub": "a" * 2000}, {"jti": ""}, {"jti": 5}], ids=str
)
def test_what_goes_into_logs_is_printable(changes: dict[str, object]) -> None:
    assert refused(token(payload=claims(**changes)))


# AUTH-11: what it opens


@pytest.mark.parametrize(
    ("entry", "opens"),
    [
        (("repository", "a", ("pull",)), True),
        (("repository", "a", ("*",)), True),
        (("repository", "a", ("push",)), False),
        (("repository", "a", ("PULL",)), False),
        (("repository", "a", ()), False),
        (("repository", "A", ("pull",)), False),
        (("repository", "a/", ("pull",)), False),
        (("repository", "a/b", ("pull",)), False),
        (("repository", "a%2Fb", ("pull",)), False),
        (("repository", "a*", ("pull",)), False),
        (("repository", "*", ("pull",)), False),
        (("repository", "", ("pull",)), False),
        (("repository", "a/../a", ("pull",)), False),
        (("repository", "registry.test/a", ("pull",)), False),
        (("repository(plugin)", "a", ("pull",)), False),
        (("registry", "a", ("pull",)), False),
        (("registry", "catalog", ("*",)), False),
        (("", "a", ("pull",)), False),
    ],
)
def test_auth_11_an_entry_opens_the_repository_of_its_name(
    entry: tuple[str, str, tuple[str, ...]], opens: bool
) -> None:
    rights = TokenRights([Scope(*entry)], None)

    assert rights.may(Action.PULL, RepositoryName("a")) is opens


def test_auth_11_an_entry_opens_nothing_else() -> None:
    rights = TokenRights([Scope("repository", "a", ("pull", "admin"))], None)

    for name in ("b", "a/b", "aa", "a-b", "b/a"):
        assert not rights.may(Action.PULL, RepositoryName(name))
    assert not any(rights.may(action, RepositoryName("a")) for action in Action if action is not Action.PULL)
    assert not rights.may_list()
