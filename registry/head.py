"""What the head of a request must be, over what the parser has found in it."""

import re
from collections.abc import Mapping

from storage.oci.errors import RequestInvalid, Unsupported, UnsupportedMediaType

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
# Headers that a request may have once, and those that are looked at here.
SINGLE = frozenset({b"host", b"authorization", b"content-length", b"transfer-encoding", b"content-encoding"})
WATCHED = SINGLE | {b"upgrade", b"expect"}

_ALLOW = sorted(method.decode() for method in METHODS)

_is_host = re.compile(rb"[A-Za-z0-9.\-\[\]:_]{1,255}").fullmatch
_is_length = re.compile(rb"[0-9]{1,19}").fullmatch


def check_head(method: bytes, url: bytes, version: str, watched: Mapping[bytes, bytes]) -> None:
    """Refuse what is not plain HTTP/1 with one valid Host. `watched` are headers by lower-case name.

    Raises RequestInvalid, Unsupported for another method, UnsupportedMediaType for an encoded body
    (HTTP-02, HTTP-03, HTTP-05, HTTP-10).
    """
    if version not in ("1.1", "1.0"):
        raise RequestInvalid("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method not in METHODS:
        raise Unsupported(f"{method.decode()} is not supported here", allow=_ALLOW)
    if not url.startswith(b"/"):
        raise RequestInvalid("the request target is not a path")
    host = watched.get(b"host")
    if (host is None and version == "1.1") or (host is not None and not _is_host(host)):
        raise RequestInvalid("the request needs one valid Host")
    if b"upgrade" in watched:
        raise RequestInvalid("protocol upgrades are not supported")
    if watched.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType("bodies are taken as they are, without a Content-Encoding")


def body_length(version: str, watched: Mapping[bytes, bytes]) -> int | None:
    """Return the body's length in bytes, None for the chunked coding. Raises RequestInvalid (HTTP-01)."""
    coding, length = watched.get(b"transfer-encoding"), watched.get(b"content-length")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked" or version == "1.0":
            raise RequestInvalid("the length of the request's body is ambiguous")
        return None
    if length is not None and not _is_length(length):
        raise RequestInvalid("Content-Length is not a number of bytes")
    return int(length or 0)
