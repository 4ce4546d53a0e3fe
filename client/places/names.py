"""What people write for a place: `oci:DIR:TAG`, `docker-archive:FILE`, or an image at a registry."""

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from client.places.place import Name, RefName
from storage.oci.digest import Digest
from storage.oci.errors import DigestInvalid, NameInvalid
from storage.oci.names import ImageReference, Tag


class Kind(Enum):
    REGISTRY = "docker"
    OCI_LAYOUT = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"


_FORMS = "oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or HOST/REPOSITORY[:TAG]"
# Other programs' places, which would else be read as names at Docker Hub.
_UNKNOWN = re.compile(
    r"(dir|containers-storage|docker-daemon|ostree|sif|tarball|ocidir|oci-layout|atomic):", re.IGNORECASE
)
_PREFIX = re.compile(r"(oci|oci-archive|docker-archive):")
_DIGEST = re.compile(r"@(?=sha(?:256|512):)")


@dataclass(frozen=True, slots=True)
class Location:
    """A place, and what is meant there; `image` is the text of a reference, `path` where there is a file.

    A path of `-` is the standard input or output.
    """

    kind: Kind
    path: Path | None = None
    image: str | None = None
    reference: Digest | Name | None = None

    @property
    def name(self) -> Name | None:
        """What an image is called there when it is brought there; a digest is no name."""
        return None if isinstance(self.reference, Digest) else self.reference

    def __str__(self) -> str:
        if self.path is None:
            return str(self.image)
        mark = "@" if isinstance(self.reference, Digest) else ":"
        return f"{self.kind.value}:{self.path}" + (f"{mark}{self.reference}" if self.reference else "")


def parse(text: str) -> Location:
    """Read a location. The first colon behind a path ends it, as in skopeo.

    Raises NameInvalid, DigestInvalid.
    """
    if (unknown := _UNKNOWN.match(text)) is not None:
        raise NameInvalid(f"{unknown[1]}: is not a place that can be copied from or to; write {_FORMS}")
    if (prefix := _PREFIX.match(text)) is None:
        return _registry(text)
    kind = Kind(prefix[1])
    path, reference = _split(text[prefix.end() :])
    if not path or "\0" in path:
        raise NameInvalid(f"{text[:150]!r} names no path; write {_FORMS}")
    if path == "-" and kind is Kind.OCI_LAYOUT:
        raise NameInvalid(f"a layout is a directory and cannot be -; write {Kind.OCI_ARCHIVE.value}:-")
    return Location(kind, Path(path), None, _reference(kind, reference))


def _registry(text: str) -> Location:
    image = text.removeprefix("docker://")
    # Short names are looked up by who opens the place; here they are only checked.
    reference = ImageReference.parse(image)
    return Location(Kind.REGISTRY, None, image, reference.reference)


def _split(text: str) -> tuple[str, str]:
    if (at := _DIGEST.search(text)) is not None:
        # As in other references, the digest wins over a tag beside it.
        return text[: at.start()].partition(":")[0], text[at.start() :]
    path, _, reference = text.partition(":")
    return path, reference


def _reference(kind: Kind, text: str) -> Digest | Name | None:
    if text.startswith("@"):
        return Digest.parse(text[1:])
    if not text:
        return None
    if kind is Kind.DOCKER_ARCHIVE:
        try:
            return RefName(str(ImageReference.parse(text)))
        except DigestInvalid as error:
            raise NameInvalid(f"not an image's name: {text[:150]!r}") from error
    try:
        return Tag.parse(text)
    except NameInvalid:
        return RefName.parse(text)
