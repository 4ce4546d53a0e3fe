"""ID tokens of CI jobs: which are believed, by which keys, how often, and as whom."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from registry.auth import oidc, oidc_keys
from registry.auth.access import Action, Identity, Kind
from registry.auth.certificates import CertificateMap
from registry.auth.oidc import Federation, Provider, ProviderInvalid
from registry.auth.oidc_keys import ProviderKeys
from registry.offload import Offload
from storage.oci.errors import RegistryError, TooManyRequests, Unauthorized, Unavailable
from storage.oci.names import RepositoryName
from tests.registry.auth.issuer import (
    AUDIENCE,
    EC_KEY,
    GITHUB_CLAIMS,
    ISSUER,
    OTHER_RSA_KEY,
    RSA_KEY,
    Issuer,
    claims,
    issuing,
    jwks,
    sign,
)
from tests.registry.auth.people import HOME, Hand, People, people

ELSEWHERE = "203.0.113.9"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


@pytest.fixture
def us(issuer: Issuer, tmp_path: Path) -> Iterator[People]:
    issuer.body, issuer.status, issuer.location = jwks(one=RSA_KEY, two=EC_KEY), 200, ""
    issuer.asked.clear()
    with registry_of(tmp_path, issuer.provider()) as running:
        yield running


def registry_of(directory: Path, *providers: Provider) -> Any:
    def federation(offload: Offload, hand: Hand) -> Federation:
        hand.now = time.time()
        return Federation(providers, offload)

    return people(directory, federation=federation)


def login(us: People, text: str, client: str = HOME) -> Identity:
    return us.login("oidc", text, client)


def may(identity: Identity, action: Action) -> bool:
    name = RepositoryName.parse("octo/app/debug")
    return identity.limits is None or any(action in limit.actions(name) for limit in identity.limits)


def test_TOK_08_believes_a_job(us: People) -> None:
    identity = login(us, sign(claims()))

    assert identity.principal.name == "oidc:github:repo:octo/app:ref:refs/heads/main"
    assert identity.principal.kind is Kind.OIDC
    assert identity.principal.claims["repository_id"] == "74"
    assert identity.limits is None
    assert not identity.is_admin
    # No refresh token outlives the job.
    assert identity.handle == ""


def test_TOK_08_gives_every_claim_that_is_a_text_number_or_truth(us: People) -> None:
    token = sign(claims(project_id=42, ref_protected=True, groups=["a"], bad="two\nlines", empty=""))

    found = login(us, token).principal.claims

    assert (found["project_id"], found["ref_protected"]) == ("42", "true")
    assert not {"groups", "bad", "empty"} & set(found)
    assert GITHUB_CLAIMS.items() <= found.items()


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("repo:octo/app:environment:prod", "repo:octo/app:environment:prod"),
        ("repo:octo@65/app@74:environment:prod", "repo:octo/app:environment:prod"),
        ("repo:octo@65/app@74:ref:refs/heads/a@1/b@2:x", "repo:octo/app:ref:refs/heads/a@1/b@2:x"),
        ("project_path:octo/app:ref_type:branch:ref:main", "project_path:octo/app:ref_type:branch:ref:main"),
        ("repository_id:74:ref:refs/heads/main", "repository_id:74:ref:refs/heads/main"),
    ],
    ids=["names", "names-with-ids", "at-signs-in-the-ref", "gitlab", "made-up-by-the-organisation"],
)
def test_TOK_08_reads_both_forms_of_sub(us: People, subject: str, expected: str) -> None:
    assert login(us, sign(claims(sub=subject))).principal.name == f"oidc:github:{expected}"


@pytest.mark.parametrize("subject", ["repo:octo@66/app@74:x", "repo:octo@65/app@75:x"])
def test_TOK_08_refuses_a_sub_whose_ids_are_not_its_claims(us: People, subject: str) -> None:
    with pytest.raises(Unauthorized):
        login(us, sign(claims(sub=subject)))


@pytest.mark.parametrize(
    ("changes", "pushes"),
    [
        ({"event_name": "push"}, True),
        ({"event_name": "workflow_dispatch"}, True),
        ({"event_name": "pull_request"}, False),
        ({"event_name": "pull_request_target"}, False),
        ({"event_name": None, "pipeline_source": "push"}, True),
        ({"event_name": None, "pipeline_source": "merge_request_event"}, False),
        ({"event_name": None, "pipeline_source": "external_pull_request_event"}, False),
    ],
)
def test_TOK_08_a_pull_request_never_pushes(us: People, changes: dict[str, Any], pushes: bool) -> None:
    identity = login(us, sign(claims(**changes)))

    assert may(identity, Action.PULL)
    for action in (Action.PUSH, Action.DELETE, Action.TAG_CREATE, Action.TAG_OVERWRITE):
        assert may(identity, action) == pushes


def _now() -> int:
    return int(time.time())


BAD_CLAIMS: list[tuple[str, dict[str, Any]]] = [
    *[(f"no-{name}", {name: None}) for name in ("iss", "sub", "aud", "exp", "iat", "jti")],
    ("issuer-with-a-slash", {"iss": ISSUER + "/"}),
    ("issuer-in-another-case", {"iss": ISSUER.upper()}),
    ("issuer-of-another", {"iss": "https://token.actions.githubusercontent.com.evil.example"}),
    ("githubs-default-audience", {"aud": "https://github.com/octo"}),
    ("two-audiences", {"aud": [AUDIENCE, "https://other.test"]}),
    ("no-audience-in-the-list", {"aud": []}),
    ("audience-with-a-slash", {"aud": AUDIENCE + "/"}),
    ("expired", {"iat": _now() - 1000, "nbf": None, "exp": _now() - 61}),
    # An hour ahead: these are made when tests are collected, which may be minutes before they run.
    ("not-yet", {"iat": _now() + 3600, "nbf": None, "exp": _now() + 3900}),
    ("nbf-not-yet", {"nbf": _now() + 3600, "exp": _now() + 3900}),
    ("lives-for-days", {"exp": _now() + 2 * 86400}),
    ("ends-before-it-begins", {"exp": _now() + 10, "iat": _now() + 30}),
    ("exp-as-a-text", {"exp": str(_now() + 300)}),
    ("exp-as-a-fraction", {"exp": _now() + 300.5}),
    ("exp-as-truth", {"exp": True}),
    ("exp-beyond-all", {"exp": 2**60}),
    ("iat-as-a-text", {"iat": str(_now())}),
    ("jti-as-a-number", {"jti": 7}),
    ("jti-empty", {"jti": ""}),
    ("jti-long", {"jti": "x" * 600}),
    ("sub-with-lines", {"sub": "repo:octo/app:x\ninjected"}),
    ("sub-empty", {"sub": ""}),
    ("many-claims", {f"claim{number}": "x" for number in range(100)}),
    ("long", {"long": "x" * 17_000}),
]


@pytest.mark.parametrize("changes", [each for _, each in BAD_CLAIMS], ids=[name for name, _ in BAD_CLAIMS])
def test_TOK_08_refuses_claims(us: People, changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized) as refused:
        login(us, sign(claims(**changes)))

    assert refused.value.message == "the ID token is not valid here; the registry's log says why"


def _hmac_with_public_key() -> str:
    """The key confusion that libraries fell for: HMAC with the text of the public key."""
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = _part({"alg": "HS256", "typ": "JWT", "kid": "one"}) + "." + _part(claims())
    signature = hmac.digest(pem, head.encode(), hashlib.sha256)
    return f"{head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _tampered() -> str:
    head, _, signature = sign(claims()).split(".")
    return f"{head}.{_part(claims(repository_id='1'))}.{signature}"


def _doubled() -> str:
    payload = json.dumps(claims())[:-1].encode() + b',"repository_id":"75"}'
    return _signed_bytes(payload)


def _signed_bytes(payload: bytes) -> str:
    return jwt.PyJWS().encode(payload, RSA_KEY, "RS256", {"kid": "one"})


BAD_TOKENS: dict[str, Callable[[], str]] = {
    "issuer-as-a-list": lambda: _signed_bytes(json.dumps(claims() | {"iss": [ISSUER]}).encode()),
    "another-key": lambda: sign(claims(), OTHER_RSA_KEY),
    "alg-none": lambda: sign(claims(), None, "none"),
    "hmac-with-the-public-key": _hmac_with_public_key,
    "another-rsa-algorithm": lambda: sign(claims(), RSA_KEY, "PS256"),
    "algorithm-that-is-not-configured": lambda: sign(claims(), EC_KEY, "ES256", kid="two"),
    "key-of-another-type": lambda: sign(claims(), EC_KEY, "ES256"),
    "no-kid": lambda: sign(claims(), kid=None),
    "unknown-kid": lambda: sign(claims(), kid="three"),
    "kid-as-a-path": lambda: sign(claims(), kid="../../dev/null"),
    "own-jwk-in-the-header": lambda: sign(
        claims(), OTHER_RSA_KEY, jwk=json.loads(jwks(one=OTHER_RSA_KEY))["keys"][0]
    ),
    "own-jku-in-the-header": lambda: sign(claims(), OTHER_RSA_KEY, jku="http://127.0.0.1:9/jwks"),
    "crit": lambda: sign(claims(), crit=["b64"], b64=True),
    "access-token": lambda: sign(claims(), typ="at+jwt"),
    "tampered": _tampered,
    "member-named-twice": _doubled,
    "payload-as-a-list": lambda: _signed_bytes(b"[]"),
    "payload-that-is-no-json": lambda: _signed_bytes(b"{"),
    "two-parts": lambda: sign(claims()).rpartition(".")[0],
    "empty": lambda: "",
    "not-ascii": lambda: sign(claims()) + "ä",
    "not-a-token": lambda: "password",
    "surrogate": lambda: "\udcff.a.b",
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_TOK_08_refuses_a_token(us: People, name: str) -> None:
    with pytest.raises(Unauthorized):
        login(us, BAD_TOKENS[name]())


def test_TOK_08_takes_es256_where_it_is_configured(us: People, issuer: Issuer, tmp_path: Path) -> None:
    directory = tmp_path / "other"
    directory.mkdir()
    with registry_of(directory, issuer.provider(algorithms=["ES256"])) as other:
        assert login(other, sign(claims(), EC_KEY, "ES256", kid="two")).principal.kind is Kind.OIDC
        with pytest.raises(Unauthorized):
            login(other, sign(claims()))


def test_TOK_08_requires_claims_exactly(issuer: Issuer, tmp_path: Path) -> None:
    require = {"repository_owner_id": "65", "environment": ["prod", "stage"]}
    with registry_of(tmp_path, issuer.provider(require=require)) as us:
        assert login(us, sign(claims(environment="stage"))).principal.kind is Kind.OIDC
        for changes in ({}, {"environment": "prod2"}, {"environment": "prod", "repository_owner_id": "650"}):
            with pytest.raises(Unauthorized):
                login(us, sign(claims(**changes)))


def test_TOK_08_takes_a_password_again_from_its_own_address_only(us: People) -> None:
    """skopeo and podman send it with every token call; whoever reads it in a log comes from elsewhere."""
    token = sign(claims())

    for _ in range(3):
        login(us, token)
    with pytest.raises(Unauthorized):
        login(us, token, ELSEWHERE)
    with pytest.raises(Unauthorized):
        us.run(lambda: us.identities.exchange(token, HOME))
    login(us, token)


def test_TOK_08_exchanges_a_token_once(us: People) -> None:
    token = sign(claims())

    identity = us.run(lambda: us.identities.exchange(token, HOME))

    assert identity.principal.kind is Kind.OIDC
    with pytest.raises(Unauthorized):
        us.run(lambda: us.identities.exchange(token, HOME))
    with pytest.raises(Unauthorized):
        login(us, token)


def test_TOK_08_a_replay_is_known_to_every_worker_and_forgotten_when_it_ended(
    us: People, issuer: Issuer
) -> None:
    token = sign(claims())
    us.run(lambda: us.identities.exchange(token, HOME))
    other_worker = Federation([issuer.provider()], us.offload)

    with pytest.raises(Unauthorized):
        us.run(lambda: other_worker.login(token, HOME))

    us.hand.now += 1000
    us.run(lambda: us.identities.exchange(sign(claims()), HOME))
    assert us.do(lambda db: db.execute("SELECT count(*) FROM oidc_token").fetchone()) == (1,)


def test_AUTH_25_wrong_id_tokens_count_for_their_source(us: People) -> None:
    for _ in range(10):
        with pytest.raises(Unauthorized):
            login(us, "wrong")

    with pytest.raises(TooManyRequests):
        login(us, sign(claims()))


def test_no_provider_no_exchange(tmp_path: Path) -> None:
    with people(tmp_path) as us, pytest.raises(Unauthorized):
        us.run(lambda: us.identities.exchange(sign(claims()), HOME))


def test_the_log_says_why_and_not_what(us: People, caplog: pytest.LogCaptureFixture) -> None:
    token = sign(claims(aud="https://other.test"))
    with caplog.at_level(logging.INFO, "registry.auth.oidc"), pytest.raises(Unauthorized):
        login(us, token)

    (record,) = caplog.records
    assert record.__dict__["reason"] == "it is for another audience"
    assert token.split(".")[1] not in str(record.__dict__)


# The keys.


class Keys:
    """Keys of the issuer, with a clock."""

    def __init__(self, us: People, issuer: Issuer, **settings: Any) -> None:
        self.hand = Hand()
        url = f"{issuer.url}/.well-known/jwks?v=1"
        self.keys = ProviderKeys(
            "github", oidc_keys.from_url(url, **{"private": True} | settings), us.offload, self.hand
        )
        self.us = us

    def has(self, kid: str) -> bool:
        return self.us.run(lambda: self.keys.find(kid)) is not None


def test_TOK_08_keeps_keys_and_asks_for_an_unknown_kid_once_a_minute(us: People, issuer: Issuer) -> None:
    keys = Keys(us, issuer)
    for _ in range(10):
        assert keys.has("one")
    assert len(issuer.asked) == 1
    assert not {"authorization", "cookie"} & set(issuer.asked[0])

    for _ in range(10):
        assert not keys.has("new")
    assert len(issuer.asked) == 1  # asked within the minute

    issuer.body = jwks(new=OTHER_RSA_KEY)
    keys.hand.now += 60
    assert keys.has("new")
    assert not keys.has("one")  # taken away by the provider
    assert len(issuer.asked) == 2


def test_TOK_08_asks_once_for_many_jobs_at_once(us: People, issuer: Issuer) -> None:
    keys = Keys(us, issuer)

    async def ask() -> list[object]:
        return list(await asyncio.gather(*(keys.keys.find("one") for _ in range(20))))

    assert None not in us.run(ask)
    assert len(issuer.asked) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(500, b"", id="outage"),
        pytest.param(404, b"", id="gone"),
        pytest.param(401, b"", id="asks-for-a-password"),
        pytest.param(200, b"<html>", id="not-json"),
        pytest.param(200, b'{"keys": []', id="cut"),
        pytest.param(200, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]}', id="symmetric"),
        pytest.param(200, b" " * (1024 * 1024 + 1), id="too-large"),
    ],
)
def test_TOK_08_believes_the_last_keys_for_a_day_of_outage(
    us: People, issuer: Issuer, status: int, body: bytes
) -> None:
    keys = Keys(us, issuer)
    assert keys.has("one")
    issuer.status, issuer.body = status, body

    keys.hand.now += 24 * 3600
    assert keys.has("one")
    keys.hand.now += 61
    with pytest.raises(Unavailable):
        keys.has("one")

    issuer.status, issuer.body = 200, jwks(one=RSA_KEY)
    keys.hand.now += 61
    assert keys.has("one")


def test_TOK_08_without_keys_nobody_is_refused_for_ever(us: People, issuer: Issuer) -> None:
    issuer.status = 503

    with pytest.raises(Unavailable) as unavailable:
        login(us, sign(claims()))

    assert unavailable.value.status == 503


def test_NET_02_a_provider_is_at_a_public_address_unless_it_is_said(us: People, issuer: Issuer) -> None:
    keys = Keys(us, issuer, private=False)

    with pytest.raises(Unavailable):
        keys.has("one")

    assert issuer.asked == []


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://localhost:1/jwks"])
def test_NET_03_follows_no_redirect_to_another_place(us: People, issuer: Issuer, target: str) -> None:
    issuer.status, issuer.location = 302, target

    with pytest.raises(Unavailable):
        Keys(us, issuer).has("one")


def test_TOK_08_refuses_keys_that_another_host_answers(us: People, issuer: Issuer) -> None:
    with issuing() as other:
        issuer.status, issuer.location = 302, f"{other.url}/jwks"
        with pytest.raises(RegistryError):
            oidc_keys.from_url(f"{issuer.url}/jwks", private=True)()


def test_reads_keys_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(one=RSA_KEY))
    provider = Provider.parse({"name": "own", "issuer": ISSUER, "audience": AUDIENCE, "jwks_file": str(file)})
    with registry_of(tmp_path, provider) as us:
        assert login(us, sign(claims())).principal.name.startswith("oidc:own:")


# The configuration.


def test_knows_github_and_gitlab() -> None:
    github, gitlab, own = (
        Provider.parse({"name": "it", "audience": AUDIENCE} | more)
        for more in ({"kind": "github"}, {"kind": "gitlab"}, {"kind": "gitlab", "issuer": "https://git.test"})
    )

    assert (github.issuer, github.jwks_url) == (ISSUER, f"{ISSUER}/.well-known/jwks")
    assert (gitlab.issuer, gitlab.jwks_url) == (
        "https://gitlab.com",
        "https://gitlab.com/oauth/discovery/keys",
    )
    assert own.jwks_url == "https://git.test/oauth/discovery/keys"
    assert github.algorithms == {"RS256"}


GOOD = {"name": "it", "kind": "github", "audience": AUDIENCE}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": ""}, "name"),
        ({"name": "a:b"}, "name"),
        ({"audience": ""}, "audience"),
        ({"audience": "https://github.com/octo"}, "audience"),
        ({"audience": "https://gitlab.com"}, "audience"),
        ({"audience": [AUDIENCE]}, "audience is a text"),
        ({"kind": "gitea"}, "kind"),
        ({"kind": ""}, "issuer"),
        ({"kind": "", "issuer": "https://ci.test"}, "jwks"),
        ({"jwks_url": "https://a.test/keys", "jwks_file": "/keys"}, "either"),
        ({"jwks_url": "http://a.test/keys"}, "https"),
        ({"jwks_url": "http://a.test/keys", "private": True}, "https"),
        ({"jwks_url": "http://127.0.0.1/keys"}, "https"),
        ({"jwks_url": "https://user@a.test/keys"}, "whole URL"),
        ({"jwks_url": "https://a.test"}, "whole URL"),
        ({"jwks_url": "file:///keys"}, "https"),
        ({"algorithms": ["HS256"]}, "RS256"),
        ({"algorithms": ["none"]}, "RS256"),
        ({"algorithms": []}, "algorithms"),
        ({"private": "yes"}, "private"),
        ({"require": "x"}, "require"),
        ({"require": {"ref": 1}}, "ref"),
        ({"rules": []}, "rules"),
    ],
)
def test_refuses_a_provider(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ProviderInvalid, match=why):
        Provider.parse(GOOD | changes)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[provider]\n", "not TOML"),
        ("", r"\[\[provider\]\]"),
        ("x = 1\n[[provider]]\n", r"\[\[provider\]\]"),
        ('[[provider]]\nname="a"\nkind="github"\naudience="x"\n' * 2, "same name"),
    ],
)
def test_refuses_a_file_of_providers(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "oidc.toml"
    file.write_text(text)

    with pytest.raises(ProviderInvalid, match=why):
        oidc.read(file)


def test_reads_a_file_of_providers(tmp_path: Path) -> None:
    file = tmp_path / "oidc.toml"
    file.write_text(
        '[[provider]]\nname = "github"\nkind = "github"\naudience = "https://registry.test"\n'
        'require = { repository_owner_id = "65" }\n'
    )

    (provider,) = oidc.read(file)
    assert provider.require == {"repository_owner_id": {"65"}}


def test_the_documents_examples_are_taken(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent.parent.parent / "docs" / "configuration.md").read_text()
    blocks = {
        text.split("\n")[0].strip("# "): text for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    }
    for name in ("oidc.toml", "clients.toml"):
        (tmp_path / name).write_text(blocks[name])

    assert [provider.name for provider in oidc.read(tmp_path / "oidc.toml")] == ["github", "gitlab"]
    CertificateMap.read(tmp_path / "clients.toml")
