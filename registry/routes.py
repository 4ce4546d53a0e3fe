"""From a raw request path to an endpoint. Nothing else in the registry looks at paths.

The path is matched as it came, still percent-encoded: `a%2Fb` is never the repository `a/b`. The one
encoding that clients use and that cannot mean two things is `%3A` in a digest.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from storage.oci.errors import EndpointUnknown, RequestInvalid
from storage.oci.names import RepositoryName


class Resource(Enum):
    """What a path names; the value labels metrics and log lines."""

    BASE = "base"
    CATALOG = "catalog"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    TAGS = "tags"
    REFERRERS = "referrers"
    TOKEN = "token"  # noqa: S105  the name of a path
    JWKS = "jwks"
    CERTIFICATES = "certificates"
    ADMIN = "admin"
    OPENAPI = "openapi"


@dataclass(frozen=True, slots=True)
class Route:
    """A resource of a repository (None for those that have none); `tail` is the last segment, unparsed."""

    resource: Resource
    name: RepositoryName | None = None
    tail: str = ""


_BASE = Route(Resource.BASE)
_CATALOG = Route(Resource.CATALOG)
_JWKS = Route(Resource.JWKS)
_OUTSIDE = {
    b"/token": Route(Resource.TOKEN),
    b"/token/jwks": _JWKS,
    b"/.well-known/jwks.json": _JWKS,
    b"/token/certificates": Route(Resource.CERTIFICATES),
    b"/api/v1/openapi.json": Route(Resource.OPENAPI),
}
_FIXED = {b"/v2/": _BASE, b"/v2": _BASE, b"/v2/_catalog": _CATALOG, **_OUTSIDE}

# What follows is for registry/endpoints/admin/ to match.
_ADMIN = b"/api/v1/"

# The name takes all it can, so `manifests` or `blobs` inside a name are resolved from the right.
_CONTENT = re.compile(r"/v2/(.+)/(manifests|referrers|blobs)/([^/]+)").fullmatch
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads(?:/([^/]*))?").fullmatch
_TAGS = re.compile(r"/v2/(.+)/tags/list").fullmatch
_RESOURCES = {"manifests": Resource.MANIFEST, "referrers": Resource.REFERRERS, "blobs": Resource.BLOB}


def is_api(raw_path: bytes) -> bool:
    """Say whether `match` is the one to ask; other paths are the operators'."""
    return raw_path.startswith((b"/v2", _ADMIN)) or raw_path in _OUTSIDE


@lru_cache(maxsize=1024)
def match(raw_path: bytes) -> Route:
    """Find what a raw path names. Popular paths are remembered: the answer depends on nothing else.

    Raises EndpointUnknown for a path outside the API, NameInvalid for a name outside the grammar,
    RequestInvalid for bytes that are not ASCII. Source: distribution-spec spec.md, "Endpoints".
    """
    fixed = _FIXED.get(raw_path)
    if fixed is not None:
        return fixed
    try:
        path = raw_path.decode("ascii")
    except UnicodeDecodeError:
        raise RequestInvalid("the path has bytes that are not ASCII") from None
    if raw_path.startswith(_ADMIN):
        return Route(Resource.ADMIN, tail=path[len(_ADMIN) - 1 :])
    return _match_upload(path) or _match_content(path) or _match_tags(path) or _unknown()


def _match_content(path: str) -> Route | None:
    found = _CONTENT(path)
    if found is None:
        return None
    name, kind, tail = found.groups()
    return Route(_RESOURCES[kind], RepositoryName.parse(name), _decode_colon(tail))


def _match_upload(path: str) -> Route | None:
    found = _UPLOAD(path) if "/blobs/uploads" in path else None
    if found is None:
        return None
    name, upload = found.groups()
    resource = Resource.UPLOAD if upload else Resource.UPLOADS
    return Route(resource, RepositoryName.parse(name), upload or "")


def _match_tags(path: str) -> Route | None:
    found = _TAGS(path)
    return Route(Resource.TAGS, RepositoryName.parse(found[1])) if found else None


def _unknown() -> Route:
    raise EndpointUnknown("no such path in the registry API; it starts at /v2/")


def _decode_colon(tail: str) -> str:
    return tail.replace("%3A", ":").replace("%3a", ":") if "%" in tail else tail
