"""What can be wrong with a path of an image."""

from typing import Self

from client.unpack.errors import printable
from storage.oci.errors import RequestInvalid


class PathUnusable(RequestInvalid):
    """A path that leads to what cannot be used so: no directory, no regular file, links in a circle."""

    @classmethod
    def at(cls, path: bytes, message: str) -> Self:
        return cls(f"{printable(b'/' + path.lstrip(b'/'))}: {message}")


class PathUnknown(PathUnusable):
    """A path that the image does not have."""


class PathClosed(PathUnusable):
    """A file or directory whose mode closes it to its owner, who is us."""
