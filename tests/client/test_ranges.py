from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.ranges import Ranges

pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


def offsets(ranges: list[tuple[int, int]] | Ranges) -> set[int]:
    return {offset for start, stop in ranges for offset in range(start, stop)}


@given(pairs)
def test_holds_what_was_added(added: list[tuple[int, int]]) -> None:
    ranges = Ranges(added)

    assert offsets(ranges) == offsets(added)
    assert ranges.total == len(offsets(added))


@given(pairs)
def test_keeps_pairs_apart(added: list[tuple[int, int]]) -> None:
    found = list(Ranges(added))

    assert found == sorted(found)
    assert all(start < stop for start, stop in found)
    assert all(left[1] < right[0] for left, right in pairwise(found))


@given(pairs, st.integers(0, 60), st.integers(0, 60))
def test_finds_what_is_missing(added: list[tuple[int, int]], start: int, stop: int) -> None:
    missing = Ranges(added).missing(start, stop)

    assert offsets(missing) == set(range(start, stop)) - offsets(added)
    assert missing == sorted(missing)


@given(pairs, st.integers(0, 60))
def test_finds_the_next_gap(added: list[tuple[int, int]], offset: int) -> None:
    end = Ranges(added).end_of(offset)

    assert end >= offset
    assert set(range(offset, end)) <= offsets(added)
    assert end not in offsets(added)


def test_copies() -> None:
    ranges = Ranges([(0, 5)])
    copy = ranges.copy()

    copy.add(5, 9)

    assert (list(ranges), list(copy)) == ([(0, 5)], [(0, 9)])
    assert repr(copy) == "Ranges([(0, 9)])"
    with pytest.raises(TypeError):
        hash(ranges)
