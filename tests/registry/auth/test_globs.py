"""Patterns against names: what they mean, and that they are fast whatever they are."""

import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.globs import GlobInvalid, RepositoryGlob, TagGlob, is_referrers_fallback
from storage.oci.names import RepositoryName, Tag


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        pytest.param("app", ["app"], ["app/x", "x/app", "app2", "ap", "xapp"], id="a-name"),
        pytest.param(
            "library/*", ["library/a"], ["library", "library/a/b", "x/library/a"], id="one-component"
        ),
        pytest.param("library/**", ["library/a", "library/a/b/c"], ["library", "library2/a"], id="all-below"),
        pytest.param("**", ["a", "a/b/c"], [], id="everything"),
        pytest.param("*", ["a"], ["a/b"], id="top-level"),
        pytest.param("**/debug", ["debug", "a/debug", "a/b/debug"], ["debug/a", "nodebug"], id="anywhere"),
        pytest.param("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a", "z", "a/b", "b/a/z"], id="between"),
        pytest.param("a*c/b", ["ac/b", "abc/b", "abcc/b"], ["a/c/b", "acb/b"], id="within"),
        pytest.param("*-prod", ["x-prod"], ["x/y-prod", "x-prod/y", "x-prods"], id="ending"),
        pytest.param("a.b", ["a.b"], ["axb"], id="a-dot-is-a-dot"),
        pytest.param("**/a*b/**/c*", ["axb/c", "y/ab/z/cc"], ["ab", "y/ab", "ab/x"], id="mixed"),
    ],
)
def test_a_pattern_means_these_names_and_no_others(pattern: str, yes: list[str], no: list[str]) -> None:
    glob = RepositoryGlob.parse(pattern)

    assert [name for name in yes + no if glob.matches(RepositoryName.parse(name))] == yes


@pytest.mark.parametrize(
    ("pattern", "name", "user", "matches"),
    [
        pytest.param("{user}/**", "alice/app", "alice", True, id="her-own"),
        pytest.param("{user}/**", "alice", "alice", False, id="not-itself"),
        pytest.param("{user}", "alice", "alice", True, id="itself"),
        pytest.param("{user}/**", "bob/app", "alice", False, id="not-his"),
        pytest.param("{user}/**", "alice2/app", "alice", False, id="not-a-longer-name"),
        pytest.param("{user}/**", "alice/app", "Alice", False, id="case"),
        pytest.param("{user}/**", "alice/app", "", False, id="nobody"),
        pytest.param("{user}/**", "a/b", "*", False, id="a-name-is-no-pattern"),
        pytest.param("{user}/**", "a/b", ".*", False, id="nor-an-expression"),
        pytest.param("{user}/**", "a/b/c", "a/b", False, id="nor-a-path"),
        pytest.param("home/{user}/*", "home/alice/x", "alice", True, id="below"),
    ],
)
def test_user_is_the_callers_own_name(pattern: str, name: str, user: str, matches: bool) -> None:
    assert RepositoryGlob.parse(pattern).matches(RepositoryName.parse(name), user) is matches


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        pytest.param("", "not a pattern", id="empty"),
        pytest.param("/a", "not a pattern", id="leading-slash"),
        pytest.param("a/", "not a pattern", id="trailing-slash"),
        pytest.param("a//b", "not a pattern", id="double-slash"),
        pytest.param("Library/**", "upper case", id="upper-case"),
        pytest.param("a**b", "not a pattern", id="deep-within-a-part"),
        pytest.param("***", "not a pattern", id="three-stars"),
        pytest.param("a/**/**", "in a row", id="twice-deep"),
        pytest.param("**/{user}", "before any", id="user-behind-deep"),
        pytest.param("{user}/{user}", "once", id="user-twice"),
        pytest.param("x{user}", "not a pattern", id="user-in-a-part"),
        pytest.param("{group}/a", "not a pattern", id="unknown-variable"),
        pytest.param("a[bc]", "not a pattern", id="class"),
        pytest.param("a?", "not a pattern", id="question-mark"),
        pytest.param("a\n", "not a pattern", id="newline"),
        pytest.param("a" * 256, "255", id="too-long"),
    ],
)
def test_refuses(pattern: str, message: str) -> None:
    with pytest.raises(GlobInvalid, match=message):
        RepositoryGlob.parse(pattern)


def _fits(pattern: Sequence[str], name: Sequence[str]) -> bool:
    """Match slowly and obviously."""
    if not pattern:
        return not name
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        least = 0 if rest else 1
        return any(_fits(rest, name[taken:]) for taken in range(least, len(name) + 1))
    return bool(name) and _fits_part(first, name[0]) and _fits(rest, name[1:])


def _fits_part(pattern: str, part: str) -> bool:
    if not pattern:
        return not part
    if pattern[0] == "*":
        return any(_fits_part(pattern[1:], part[taken:]) for taken in range(len(part) + 1))
    return part[:1] == pattern[0] and _fits_part(pattern[1:], part[1:])


PARTS = st.text("ab*", min_size=1, max_size=5).filter(lambda part: "**" not in part) | st.just("**")
PATTERNS = st.lists(PARTS, min_size=1, max_size=5).filter(
    lambda parts: not any(pair == ("**", "**") for pair in pairwise(parts))
)
NAMES = st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=5)


@given(PATTERNS, NAMES)
def test_it_means_what_trying_every_way_means(pattern: list[str], name: list[str]) -> None:
    glob = RepositoryGlob.parse("/".join(pattern))

    assert glob.matches(RepositoryName("/".join(name))) is _fits(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        pytest.param("*a" * 100 + "b", "a" * 255, id="stars"),
        pytest.param("**/a*a/" * 36 + "b", "a/" * 127 + "a", id="deep"),
        pytest.param("**/a/" * 50 + "b", "a/" * 127 + "a", id="deep-names"),
        pytest.param("**/" + "*a" * 60 + "/x", "a" * 60 + "/" + "a" * 190, id="both"),
    ],
)
def test_no_pattern_is_slow(pattern: str, name: str) -> None:
    glob = RepositoryGlob.parse(pattern[:255])
    repository = RepositoryName.parse(name)

    started = time.process_time()
    for _ in range(20):
        assert not glob.matches(repository)

    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        pytest.param("v*", ["v1", "v", "v1.2.3"], ["1v", "V1"], id="prefix"),
        pytest.param("*", ["latest", "_x"], [], id="all"),
        pytest.param("v*.*.*", ["v1.2.3", "v1.2.3.4"], ["v1.2"], id="dots"),
        pytest.param("*-rc*", ["v1-rc", "v1-rc2"], ["v1rc"], id="middle"),
        pytest.param("latest", ["latest"], ["latest2"], id="name"),
    ],
)
def test_a_tag_pattern_means_these_tags(pattern: str, yes: list[str], no: list[str]) -> None:
    glob = TagGlob.parse(pattern)

    assert [tag for tag in yes + no if glob.matches(Tag.parse(tag))] == yes


@pytest.mark.parametrize("pattern", ["", "a/b", "a b", "v\n", "x" * 129, "[0-9]"])
def test_refuses_a_tag_pattern(pattern: str) -> None:
    with pytest.raises(GlobInvalid):
        TagGlob.parse(pattern)


@pytest.mark.parametrize(
    ("tag", "is_fallback"),
    [
        pytest.param("sha256-" + "a" * 64, True, id="the-spec's"),
        pytest.param("sha512-" + "a" * 64, True, id="sha512-cut"),
        pytest.param("sha256-" + "a" * 64 + ".sig", True, id="cosign's"),
        pytest.param("sha256-" + "a" * 63, False, id="too-short"),
        pytest.param("sha256-" + "g" * 64, False, id="not-hex"),
        pytest.param("sha256-v1", False, id="a-name"),
        pytest.param("sha256-" + "a" * 64 + "-v1", False, id="with-an-ending"),
    ],
)
def test_knows_the_referrers_fallback(tag: str, is_fallback: bool) -> None:
    assert is_referrers_fallback(Tag.parse(tag)) is is_fallback
