"""Digests: the address of content, and the hashers that compute it."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from storage.oci.errors import DigestInvalid

ALGORITHMS = ("sha256", "sha512")

_is_digest = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}").fullmatch


class Hasher(Protocol):
    """The part of a hashlib object that is used."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Self: ...


_HASHERS: dict[str, Callable[[], Hasher]] = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


@dataclass(frozen=True, slots=True)
class Digest:
    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `algorithm:hex`, as in sha256:9f86d0…

        Raises DigestInvalid for an algorithm we do not compute, or hex of the wrong length or case.
        Source: image-spec descriptor.md, "Digests".
        """
        if _is_digest(text) is None:
            raise DigestInvalid(f"not a sha256 or sha512 digest: {text[:150]!r}", digest=text[:150])
        algorithm, _, hex_ = text.partition(":")
        return cls(algorithm, hex_)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Self:
        """Compute the digest of `data`. Raises DigestInvalid for an algorithm we do not compute."""
        hash_ = hasher(algorithm)
        hash_.update(data)
        return cls(algorithm, hash_.hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def hasher(algorithm: str) -> Hasher:
    """Start hashing. Raises DigestInvalid for an algorithm we do not compute.

    Source: image-spec descriptor.md, "Registered algorithms".
    """
    start = _HASHERS.get(algorithm)
    if start is None:
        raise DigestInvalid(
            f"digest algorithm is not sha256 or sha512: {algorithm[:50]!r}", algorithm=algorithm[:50]
        )
    return start()
