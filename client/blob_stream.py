"""A blob, or a part of it, while it arrives."""

import re
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from client.errors import AnswerInvalid, ContentMismatch, Unreachable
from client.exchange import Answer

_match = re.compile(r"bytes[ \t]+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE).fullmatch


class BlobStream:
    """Yields bytes of a blob from `start` on, up to `stop` if that is known, and never one more.

    A registry may answer a request for a part with the whole: then `start` is 0 and `is_range` is false.
    """

    def __init__(self, answer: Answer, wanted: tuple[int, int | None], size: int | None) -> None:
        """Take an answer to a request for `wanted` (start, stop) of a blob of `size` bytes, as far as known.

        Raises AnswerInvalid or ContentMismatch when its headers promise something else.
        """
        self._answer = answer
        self.host = answer.url.netloc.decode("ascii")
        self.is_range = answer.status == 206
        self.start: int = 0
        self.stop: int | None = answer.length
        total = answer.length
        if self.is_range:
            self.start, self.stop, total = self._content_range(*wanted)
        if size is not None and total is not None and total != size:
            raise ContentMismatch(f"{self.host} has {total} bytes where {size} were announced", size=total)
        self.size = total if size is None else size
        if self.stop is None:
            self.stop = self.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes. Raises Unreachable when they end early, ContentMismatch when they do not end."""
        position = self.start
        for chunk in self._answer.chunks():
            position += len(chunk)
            if self.stop is not None and position > self.stop:
                raise ContentMismatch(f"{self.host} sends more than the {self.stop} bytes that there are")
            yield chunk
        if self.stop is not None and position < self.stop:
            raise Unreachable(f"{self.host} stopped after {position} of {self.stop} bytes")

    def close(self) -> None:
        self._answer.close()

    def _content_range(self, start: int, stop: int | None) -> tuple[int, int, int | None]:
        """Read which part this is. Raises AnswerInvalid unless it is the one that was asked for."""
        match = _match(self._answer.headers.get("Content-Range", "").strip())
        if match is None:
            raise AnswerInvalid(f"{self.host} sends a part of a blob without saying which")
        first, last = int(match[1]), int(match[2])
        total = None if match[3] == "*" else int(match[3])
        is_asked = first == start and first <= last and (stop is None or last < stop)
        if not is_asked or (total is not None and last >= total):
            raise AnswerInvalid(
                f"{self.host} sends bytes {first}-{last}/{match[3]}, which were not asked for"
            )
        if self._answer.length not in (None, last + 1 - first):
            raise AnswerInvalid(f"{self.host} announces {self._answer.length} bytes for {first}-{last}")
        return first, last + 1, total
