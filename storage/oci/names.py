"""Names: repositories, tags, and image references with docker's short forms."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

from storage.oci.digest import Digest
from storage.oci.errors import NameInvalid

DOCKER_HUB = "docker.io"

_NAME_LIMIT = 255
_REFERENCE_LIMIT = 1024
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_is_name = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*").fullmatch
_is_tag = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}").fullmatch
_is_image_id = re.compile(r"[a-f0-9]{64}").fullmatch
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_match_host = re.compile(
    rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?P<ipv6>[a-f0-9:]+)\])(?::(?P<port>[0-9]{{1,5}}))?",
    re.IGNORECASE | re.ASCII,
).fullmatch
_DOCKER_HUB_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class RepositoryName:
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a repository name, as in library/ubuntu.

        Raises NameInvalid outside the spec's grammar, or above 255 characters.
        Source: distribution-spec spec.md, "Pulling manifests".
        """
        if len(text) > _NAME_LIMIT:
            raise NameInvalid(
                f"repository name is longer than {_NAME_LIMIT} characters", name=text[:_NAME_LIMIT]
            )
        if _is_name(text) is None:
            raise NameInvalid(f"not a repository name: {text!r}", name=text)
        return cls(text)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Tag:
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a tag. Raises NameInvalid outside the spec's grammar, or above 128 characters.

        Source: distribution-spec spec.md, "Pulling manifests".
        """
        if _is_tag(text) is None:
            raise NameInvalid(f"not a tag: {text[:150]!r}", tag=text[:150])
        return cls(text)

    def __str__(self) -> str:
        return self.value


Reference = Tag | Digest

LATEST = Tag("latest")


def parse_reference(text: str) -> Reference:
    """Read the last part of a manifest URL: a digest when it has a colon, else a tag.

    Raises DigestInvalid or NameInvalid. Source: distribution-spec spec.md, "Pulling manifests".
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)


def referrers_tag(digest: Digest) -> Tag:
    """Name the tag under which registries without the referrers API keep the referrers of `digest`.

    Source: distribution-spec spec.md, "Referrers Tag Schema".
    """
    return Tag(f"{digest.algorithm[:32]}-{digest.hex[:64]}")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image at a registry. Docker Hub's host is `docker.io`, whatever name it was given."""

    host: str
    repository: RepositoryName
    tag: Tag | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[host/]repository[:tag][@digest]` as docker does.

        `ubuntu` is docker.io/library/ubuntu:latest: without tag and digest the tag is `latest`.
        A host is lower-cased; a path with upper case is refused.
        Raises NameInvalid or DigestInvalid.
        Source: github.com/distribution/reference, ParseNormalizedNamed.
        """
        if len(text) > _REFERENCE_LIMIT:
            raise NameInvalid(f"image reference is longer than {_REFERENCE_LIMIT} characters")
        if _is_image_id(text):
            raise NameInvalid(f"an image id is not a repository name: {text}", name=text)
        rest, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        name, tag = _split_tag(rest)
        if tag is None and digest is None:
            tag = LATEST
        host, path = _split_host(name)
        return cls(host, RepositoryName.parse(path), tag, digest)

    @property
    def reference(self) -> Reference:
        """The digest when there is one, else the tag."""
        return self.digest or self.tag or LATEST

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{self._suffix()}"

    def familiar(self) -> str:
        """Write the shortest form that `parse` reads back as this, as docker prints it."""
        if self.host != DOCKER_HUB:
            return str(self)
        path = self.repository.value
        first, _, rest = path.partition("/")
        if first == "library" and rest and "/" not in rest:
            path = rest
        elif not rest or _names_host(first):
            return str(self)
        return path + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag


def _split_tag(text: str) -> tuple[str, Tag | None]:
    """Cut the tag off; a colon before the last slash belongs to the host's port."""
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        return text, None
    return name, Tag.parse(tag)


def _split_host(name: str) -> tuple[str, str]:
    first, slash, path = name.partition("/")
    if not slash or not _names_host(first):
        host, path = DOCKER_HUB, name
    else:
        host = _parse_host(first)
    if host == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return host, path


def _names_host(first: str) -> bool:
    """Tell whether docker takes the first component of a name for a host."""
    return "." in first or ":" in first or first == "localhost" or first.lower() != first


def _parse_host(text: str) -> str:
    matched = _match_host(text)
    if matched is None or int(matched["port"] or 0) > 65535 or not _is_ipv6(matched["ipv6"] or "::"):
        raise NameInvalid(f"not a registry host: {text[:300]!r}", host=text[:300])
    host = text.lower()
    if host in _DOCKER_HUB_ALIASES:
        return DOCKER_HUB
    # `Foo/bar` names the host Foo; in lower case it would be read back as a path at Docker Hub.
    return host if _names_host(host) else text


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
