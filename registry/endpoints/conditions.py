"""Conditional requests over digests. Source: RFC 9110 §8.8.3 and §13."""

from collections.abc import Mapping

from registry.metadata.tags import Condition


def is_unchanged(if_none_match: str | None, digest: str) -> bool:
    """Say whether If-None-Match names the digest, so that a 304 says all."""
    if if_none_match is None:
        return False
    names = _entity_tags(if_none_match)
    return not names or digest in names


def read_condition(headers: Mapping[str, str]) -> Condition:
    """Read what a PUT asks of the tag before it moves."""
    if_match, if_none_match = headers.get("if-match"), headers.get("if-none-match")
    return Condition(
        None if if_match is None else _entity_tags(if_match),
        None if if_none_match is None else _entity_tags(if_none_match),
    )


def _entity_tags(header: str) -> frozenset[str]:
    """Read a list of entity tags; the empty set stands for `*`. Weak ones compare like strong ones."""
    if header.strip() == "*":
        return frozenset()
    return frozenset(item.strip().removeprefix("W/").strip('"') for item in header.split(","))
