"""From where a blob can be had."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from client.session import Session
from storage.oci.descriptor import Descriptor
from storage.oci.names import RepositoryName


class Stream(Protocol):
    """Bytes of a blob from `start` on, while they are read; the whole blob when it is no range."""

    @property
    def start(self) -> int: ...

    @property
    def is_range(self) -> bool: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[bytes]: ...


class Source(Protocol):
    """A place that may have a blob; places are tried in their order."""

    @property
    def host(self) -> str: ...

    def open(self, blob: Descriptor, start: int, stop: int | None) -> Stream:
        """Start to fetch the bytes from `start` up to `stop`, or more of them."""
        ...


@dataclass(frozen=True, slots=True)
class RepositorySource:
    """A repository of a registry."""

    session: Session
    repository: RepositoryName

    @property
    def host(self) -> str:
        return self.session.host.address

    def open(self, blob: Descriptor, start: int, stop: int | None) -> Stream:
        return self.session.open_blob(self.repository, blob.digest, start, stop, size=blob.size)


@dataclass(frozen=True, slots=True)
class ForeignSource:
    """The URLs in a descriptor, for those who want them fetched; whole, and without credentials (NET-06)."""

    session: Session
    url: str

    @property
    def host(self) -> str:
        return self.url.partition("://")[2].partition("/")[0]

    def open(self, blob: Descriptor, start: int, stop: int | None) -> Stream:
        return self.session.open_foreign(self.url, blob.size)
