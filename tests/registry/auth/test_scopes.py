"""The scope grammar: what clients may ask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth import scopes
from registry.auth.access import Action
from registry.auth.scopes import MOST_SCOPES, Scope, parse
from storage.oci.names import RepositoryName


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("repository:a/b:pull", ("repository", "a/b", ("pull",)), id="plain"),
        pytest.param("repository:a:push,pull", ("repository", "a", ("pull", "push")), id="order"),
        pytest.param("repository:a:pull,pull", ("repository", "a", ("pull",)), id="twice"),
        pytest.param("repository(plugin):a:pull", ("repository", "a", ("pull",)), id="class"),
        pytest.param("registry:catalog:*", ("registry", "catalog", ("*",)), id="catalog"),
        pytest.param("repository:a:*", ("repository", "a", ("*",)), id="star"),
        pytest.param("repository:a:tag,pull", ("repository", "a", ("pull",)), id="unknown-action"),
        pytest.param("repository:a:", ("repository", "a", ()), id="no-action"),
        pytest.param("repository:h.io:5000/a:pull", ("repository", "h.io:5000/a", ("pull",)), id="port"),
        pytest.param("repository:Host/a:pull", ("repository", "Host/a", ("pull",)), id="host"),
        pytest.param(
            "repository:a__b--c.d_e:pull", ("repository", "a__b--c.d_e", ("pull",)), id="separators"
        ),
    ],
)
def test_auth_12_reads_the_published_grammar(text: str, found: tuple[str, str, tuple[str, ...]]) -> None:
    assert parse([text]) == (Scope(*found),)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ":", "::", "repository", "repository:a", "repository::pull", ":a:pull", "a:pull"),
        *("repository:A:pull", "repository:a/B:pull", "Repository:a:pull", "repository:a:PULL"),
        *("repository:a/:pull", "repository:/a:pull", "repository:a//b:pull", "repository:a/../b:pull"),
        *("repository:a%2Fb:pull", "repository:a b:pull", "repository:a:b:c:pull", "repository:h:x/a:pull"),
        *("repository():a:pull", "repository(plugin:a:pull", "repository(a)(b):a:pull"),
        *("repository:a:pull;push", "repository:a:**", "repository:a:pu*ll", "repository:\u00e4:pull"),
        *("repository:a:pull\n", "repository:a\n:pull", "repository:a:pull\tpush", "repository:\u0661:pull"),
        f"repository:{'a' * 2000}:pull",
    ],
)
def test_auth_12_what_does_not_parse_grants_nothing(text: str) -> None:
    assert all(not scope.actions for scope in parse([text]))
    assert parse([text, "repository:rest:pull"])[-1] == Scope("repository", "rest", ("pull",))


@pytest.mark.parametrize(
    "parameters",
    [
        ["repository:a:pull,push repository:b:pull"],
        ["repository:a:pull,push", "repository:b:pull"],
        ["repository:a:pull repository:a:push", "", "repository:b:pull"],
        ["repository:a:pull", "repository(plugin):a:push repository:b:pull"],
    ],
)
def test_tok_01_several_scopes_come_in_one_parameter_or_in_several(parameters: list[str]) -> None:
    assert parse(parameters) == (
        Scope("repository", "a", ("pull", "push")),
        Scope("repository", "b", ("pull",)),
    )


def test_auth_08_no_more_resources_are_read_than_a_token_may_list() -> None:
    found = parse(f"repository:r{number}:pull" for number in range(MOST_SCOPES + 10))

    assert len(found) == MOST_SCOPES


def test_a_name_with_a_host_is_no_repository_of_ours() -> None:
    (scope,) = parse(["repository:h.io:5000/a:pull"])

    assert scope.repository is None


COMPONENTS = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
NAMES = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join).map(RepositoryName.parse)
ACTIONS = st.sets(st.sampled_from([Action.PULL, Action.PUSH, Action.DELETE]), min_size=1)


@given(NAMES, ACTIONS)
def test_what_a_challenge_says_is_read_back(name: RepositoryName, actions: set[Action]) -> None:
    scope = scopes.of(name, *actions)

    assert parse([str(scope)]) == (scope,)
    assert scope.repository == name


@given(st.text("repository:()plugin,*./-_ aA0\n%", max_size=60))
def test_auth_12_any_text_gives_scopes_of_the_grammar(text: str) -> None:
    for scope in parse([text]):
        assert parse([str(scope)]) == (scope,)


def test_a_long_scope_is_read_in_no_time() -> None:
    for part in ("a-", "a.", "a/", "-", "a:", "("):
        assert parse([f"repository:{part * 500}:pull"]) is not None
