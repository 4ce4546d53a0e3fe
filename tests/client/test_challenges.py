import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import scopes
from client.challenges import Challenge, parse
from client.scopes import Scope

TOKEN = {"realm": "https://auth.example/token", "service": "registry.example"}


@pytest.mark.parametrize(
    ("lines", "challenges"),
    [
        pytest.param([], [], id="none"),
        pytest.param(['Basic realm="x"'], [("basic", {"realm": "x"})], id="basic"),
        pytest.param(["Basic"], [("basic", {})], id="scheme-alone"),
        pytest.param(
            ['Bearer realm="https://auth.example/token",service="registry.example"'],
            [("bearer", TOKEN)],
            id="bearer",
        ),
        pytest.param(
            ['bEARER Realm="https://auth.example/token", SERVICE=registry.example'],
            [("bearer", TOKEN)],
            id="any-case",
        ),
        pytest.param(
            ["Bearer realm=https://auth.example/token?a=b,service=registry.example"],
            [("bearer", TOKEN | {"realm": "https://auth.example/token?a=b"})],
            id="url-without-quotes",
        ),
        pytest.param(
            ['Bearer scope="repository:a:pull,push repository:b:pull",error="insufficient_scope"'],
            [
                (
                    "bearer",
                    {"scope": "repository:a:pull,push repository:b:pull", "error": "insufficient_scope"},
                )
            ],
            id="quoted-commas",
        ),
        pytest.param(
            ['Basic realm="a, Bearer realm=\\"x\\""'],
            [("basic", {"realm": 'a, Bearer realm="x"'})],
            id="a-challenge-in-quotes",
        ),
        pytest.param(
            ['Negotiate, Basic realm="x", Bearer realm="y"'],
            [("negotiate", {}), ("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
            id="several-in-a-line",
        ),
        pytest.param(
            ['Basic realm="x"', 'Bearer realm="y"'],
            [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
            id="several-lines",
        ),
        pytest.param(
            ['Negotiate YWJj==, Basic realm="x"'],
            [("negotiate", {}), ("basic", {"realm": "x"})],
            id="opaque-parameter",
        ),
        pytest.param(
            ['Digest qop="auth,auth-int", nonce=abc,  Bearer  realm = "y"'],
            [("digest", {"qop": "auth,auth-int", "nonce": "abc"}), ("bearer", {"realm": "y"})],
            id="odd-spaces",
        ),
        pytest.param(['Bearer realm="a",realm="b"'], [("bearer", {"realm": "a"})], id="the-first-stands"),
        pytest.param(['Bearer realm="a'], [("bearer", {})], id="unfinished-string"),
        pytest.param(
            ['Basic realm="a" @@@ Bearer realm="b"'], [("basic", {"realm": "a"})], id="rubbish-ends-a-line"
        ),
        pytest.param([", ,Basic,,"], [("basic", {})], id="empty-elements"),
        pytest.param(["", "\x00", "=", "é"], [], id="rubbish"),
    ],
)
def test_tok_02_reads(lines: list[str], challenges: list[tuple[str, dict[str, str]]]) -> None:
    found = parse(lines)

    assert [(each.scheme, each.parameters) for each in found] == challenges


@given(st.lists(st.text(max_size=300), max_size=3))
def test_tok_02_never_raises(lines: list[str]) -> None:
    assert all(isinstance(each, Challenge) for each in parse(lines))


@given(st.dictionaries(st.sampled_from(["realm", "service", "scope", "error"]), st.text(max_size=50)))
def test_tok_02_reads_back_any_quoted_parameters(parameters: dict[str, str]) -> None:
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in parameters.items()}
    line = "Bearer " + ",".join(f'{name}="{value}"' for name, value in quoted.items())

    (challenge,) = parse([line])

    assert challenge.parameters == parameters


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("repository:a/b:pull", [Scope("repository", "a/b", ("pull",))], id="one"),
        pytest.param("repository:a:push,pull", [Scope("repository", "a", ("pull", "push"))], id="sorted"),
        pytest.param(
            "repository:h:5000/a:pull", [Scope("repository", "h:5000/a", ("pull",))], id="host-port"
        ),
        pytest.param(
            "repository(plugin):a:pull", [Scope("repository(plugin)", "a", ("pull",))], id="with-class"
        ),
        pytest.param("registry:catalog:*", [scopes.CATALOG], id="catalog"),
        pytest.param(
            "repository:b:pull repository:a:pull repository:b:push",
            [Scope("repository", "a", ("pull",)), Scope("repository", "b", ("pull", "push"))],
            id="joined",
        ),
        pytest.param("repository:a pull ::: a:b: repository:x:PULL", [], id="rubbish"),
    ],
)
def test_tok_02_reads_scopes(text: str, found: list[Scope]) -> None:
    assert list(scopes.parse(text)) == found
