"""Which bytes of a blob are there."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Self


class Ranges:
    """A set of byte offsets, kept as sorted pairs (start, stop) that neither touch nor overlap."""

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in pairs:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"

    def copy(self) -> Self:
        return type(self)(self)

    @property
    def total(self) -> int:
        """How many bytes there are."""
        return sum(self._stops) - sum(self._starts)

    def add(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        first, last = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def end_of(self, offset: int) -> int:
        """Return up to where the bytes from `offset` on are there without a gap: `offset` if that is not."""
        index = bisect_right(self._starts, offset) - 1
        return max(offset, self._stops[index]) if index >= 0 else offset

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the gaps between `start` and `stop`."""
        gaps = []
        index = bisect_right(self._stops, start)
        while start < stop:
            beginning = self._starts[index] if index < len(self._starts) else stop
            if start < min(beginning, stop):
                gaps.append((start, min(beginning, stop)))
            if beginning >= stop:
                break
            start = self._stops[index]
            index += 1
        return gaps
