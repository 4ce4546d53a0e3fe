"""The challenge, as our client and as the readers of docker, podman and containerd understand it."""

import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import challenges
from registry.auth.access import Action
from registry.auth.challenge import Challenger, Error, quoted
from registry.auth.scopes import CATALOG, Scope, of
from storage.oci.names import RepositoryName
from tests.registry.auth.test_scopes import ACTIONS, NAMES

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")

Read = tuple[str, dict[str, str]]


def _reader(*, empty_value_ends: bool) -> Callable[[str], Read]:
    """What the three have in common: one challenge a line, and the first oddity ends it unheard."""

    def read(line: str) -> Read:
        scheme = _TOKEN.match(line)
        assert scheme is not None
        parameters: dict[str, str] = {}
        rest = line[scheme.end() :]
        while True:
            rest = rest[_end(_SPACE, rest) :]
            name, rest = rest[: _end(_TOKEN, rest)], rest[_end(_TOKEN, rest) :]
            if not name or not rest.startswith("="):
                break
            value, rest = _value(rest[1:])
            if empty_value_ends and not value:
                break
            parameters[name.lower()] = value
            rest = rest[_end(_SPACE, rest) :]
            if not rest.startswith(","):
                break
            rest = rest[1:]
        return scheme[0].lower(), parameters

    return read


def _end(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.match(text)
    return found.end() if found else 0


def _value(text: str) -> tuple[str, str]:
    if not text.startswith('"'):
        return text[: _end(_TOKEN, text)], text[_end(_TOKEN, text) :]
    found = _QUOTED.match(text)
    if found is None:
        return "", ""
    return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL), text[found.end() :]


def _ours(line: str) -> Read:
    (challenge,) = challenges.parse([line])
    return challenge.scheme, dict(challenge.parameters)


READERS = {
    # distribution's authchallenge.go, docker's and, copied, containers/image's.
    "docker": _reader(empty_value_ends=True),
    "podman": _reader(empty_value_ends=True),
    # containerd's core/remotes/docker/auth/parse.go.
    "containerd": _reader(empty_value_ends=False),
    "ours": _ours,
}
CHALLENGER = Challenger("https://registry.example/token", "registry.example")
SCOPES = st.lists(st.builds(lambda name, actions: of(name, *actions), NAMES, ACTIONS), max_size=2)
ERRORS = st.sampled_from([None, "invalid_token", "insufficient_scope"])


@pytest.mark.parametrize("reader", READERS)
@given(scopes=SCOPES, error=ERRORS)
def test_tok_02_every_scope_reaches_the_client(
    reader: str, scopes: Sequence[Scope], error: Error | None
) -> None:
    expected = {"realm": CHALLENGER.realm, "service": CHALLENGER.service}
    if scopes:
        expected["scope"] = " ".join(map(str, scopes))
    if error:
        expected["error"] = error

    assert READERS[reader](CHALLENGER.bearer(scopes, error)) == ("bearer", expected)


@pytest.mark.parametrize("reader", READERS)
@given(service=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_auth_29_a_value_is_one_quoted_string(reader: str, service: str) -> None:
    _, parameters = READERS[reader](Challenger("https://r.example/token", service).bearer([CATALOG]))

    assert parameters == {"realm": "https://r.example/token", "service": service, "scope": str(CATALOG)}


@given(st.text())
def test_auth_29_no_text_leaves_its_quotes(value: str) -> None:
    text = quoted(value)

    assert re.fullmatch(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"', text)


def test_auth_29_two_scopes_come_in_one_parameter() -> None:
    scopes = [
        of(RepositoryName("a"), Action.PUSH, Action.PULL),
        of(RepositoryName("b"), Action.PULL),
    ]

    assert CHALLENGER.bearer(scopes) == (
        'Bearer realm="https://registry.example/token",service="registry.example",'
        'scope="repository:a:pull,push repository:b:pull"'
    )


def test_a_ping_asks_for_no_scope() -> None:
    assert "scope" not in CHALLENGER.bearer()
