"""The one error tree: a class is an error code of the distribution spec with its HTTP status."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

# An error body above this is not read: the status alone decides. Ours stay far below it.
_BODY_LIMIT = 1024 * 1024
_TEXT_LIMIT = 1000
_DETAIL_LEVELS = 8


class RegistryError(Exception):
    """A request that cannot be answered; this class itself is a fault of ours, UNKNOWN 500.

    Source: distribution-spec spec.md, "Error Codes".
    """

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500

    def __init__(self, message: str, /, **detail: object) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.headers: dict[str, str] = {}

    def _entry_details(self) -> Sequence[dict[str, object]]:
        """Give the detail of each entry in the `errors` array."""
        return [self.detail]


class NameInvalid(RegistryError):
    """A repository name, tag or image reference outside the grammar."""

    code, status = "NAME_INVALID", 400


class NameUnknown(RegistryError):
    code, status = "NAME_UNKNOWN", 404


class ManifestUnknown(RegistryError):
    code, status = "MANIFEST_UNKNOWN", 404


class ManifestInvalid(RegistryError):
    code, status = "MANIFEST_INVALID", 400


class ManifestTooLarge(RegistryError):
    code, status = "MANIFEST_INVALID", 413


class ManifestBlobUnknown(RegistryError):
    """A manifest whose children are not all in the repository; `digests` are the absent ones."""

    code, status = "MANIFEST_BLOB_UNKNOWN", 400

    def __init__(self, message: str, /, *, digests: Sequence[object] = (), **detail: object) -> None:
        super().__init__(message, digests=[str(digest) for digest in digests], **detail)

    def _entry_details(self) -> Sequence[dict[str, object]]:
        digests = self.detail.get("digests")
        if not isinstance(digests, list) or not digests:
            return [self.detail]
        rest = {key: value for key, value in self.detail.items() if key != "digests"}
        return [{**rest, "digest": digest} for digest in digests]


class BlobUnknown(RegistryError):
    code, status = "BLOB_UNKNOWN", 404


class BlobUploadUnknown(RegistryError):
    code, status = "BLOB_UPLOAD_UNKNOWN", 404


class BlobUploadInvalid(RegistryError):
    code, status = "BLOB_UPLOAD_INVALID", 400


class RangeInvalid(RegistryError):
    """Bytes offered for another place than the end of an upload; `offset` is how many it has.

    Source: distribution-spec spec.md, "Pushing a blob in chunks".
    """

    code, status = "BLOB_UPLOAD_INVALID", 416

    def __init__(self, message: str, /, *, offset: int | None = None, **detail: object) -> None:
        if offset is not None:
            detail["offset"] = offset
        super().__init__(message, **detail)
        if offset is not None:
            self.headers["Range"] = f"0-{max(offset - 1, 0)}"


class BlobRangeInvalid(RegistryError):
    """A Range of a blob that holds none of its bytes; `size` is the blob's.

    Source: RFC 9110, 15.5.17.
    """

    code, status = "SIZE_INVALID", 416

    def __init__(self, message: str, /, *, size: int | None = None, **detail: object) -> None:
        if size is not None:
            detail["size"] = size
        super().__init__(message, **detail)
        if size is not None:
            self.headers["Content-Range"] = f"bytes */{size}"


class DigestInvalid(RegistryError):
    code, status = "DIGEST_INVALID", 400


class SizeInvalid(RegistryError):
    code, status = "SIZE_INVALID", 400


class Unauthorized(RegistryError):
    """A request without valid credentials; `challenge` says how to get some. Source: RFC 9110, 15.5.2."""

    code, status = "UNAUTHORIZED", 401

    def __init__(self, message: str, /, *, challenge: str | None = None, **detail: object) -> None:
        super().__init__(message, **detail)
        if challenge is not None:
            self.headers["WWW-Authenticate"] = challenge


class Denied(RegistryError):
    code, status = "DENIED", 403


class PreconditionFailed(RegistryError):
    code, status = "DENIED", 412


class ReferenceConflict(RegistryError):
    """Deletion of something that is still referenced."""

    code, status = "DENIED", 409


class Unsupported(RegistryError):
    """A method that the resource does not have; `allow` are those that it has. Source: RFC 9110, 15.5.6."""

    code, status = "UNSUPPORTED", 405

    def __init__(self, message: str, /, *, allow: Sequence[str] = (), **detail: object) -> None:
        if allow:
            detail["allow"] = list(allow)
        super().__init__(message, **detail)
        if allow:
            self.headers["Allow"] = ", ".join(allow)


class EndpointUnknown(RegistryError):
    code, status = "UNSUPPORTED", 404


class RequestInvalid(RegistryError):
    """A request that no more exact class describes."""

    code, status = "UNSUPPORTED", 400


class RequestTimeout(RegistryError):
    code, status = "UNSUPPORTED", 408


class UriTooLong(RegistryError):
    code, status = "UNSUPPORTED", 414


class UnsupportedMediaType(RegistryError):
    code, status = "UNSUPPORTED", 415


class HeadersTooLarge(RegistryError):
    code, status = "UNSUPPORTED", 431


class _RetryLater(RegistryError):
    """What may succeed later, after `retry_after_seconds` when given. Source: RFC 9110, 10.2.3."""

    def __init__(
        self, message: str, /, *, retry_after_seconds: float | None = None, **detail: object
    ) -> None:
        if retry_after_seconds is not None:
            detail["retry_after_seconds"] = retry_after_seconds
        super().__init__(message, **detail)
        if retry_after_seconds is not None:
            self.headers["Retry-After"] = str(max(0, math.ceil(retry_after_seconds)))


class TooManyRequests(_RetryLater):
    code, status = "TOOMANYREQUESTS", 429


class Unavailable(_RetryLater):
    code, status = "UNAVAILABLE", 503


class InsufficientStorage(RegistryError):
    code, status = "INSUFFICIENT_STORAGE", 507


def render(error: RegistryError) -> bytes:
    """Write the error as the spec's JSON, in ASCII, long texts cut.

    Source: distribution-spec spec.md, "Error Codes".
    """
    entries: list[dict[str, object]] = []
    for detail in error._entry_details():
        entry: dict[str, object] = {"code": error.code, "message": error.message[:_TEXT_LIMIT]}
        if detail:
            entry["detail"] = _as_json(detail)
        entries.append(entry)
    return json.dumps({"errors": entries}).encode("ascii")


def _as_json(value: object, levels: int = _DETAIL_LEVELS) -> object:
    """Turn a detail into what JSON can say, cut in length and depth; anything else into its text."""
    match value:
        case None | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case list() | tuple() | dict() if levels == 0:
            return "…"
        case list() | tuple():
            return [_as_json(item, levels - 1) for item in value]
        case dict():
            return {str(key)[:_TEXT_LIMIT]: _as_json(item, levels - 1) for key, item in value.items()}
        case _:
            return str(value)[:_TEXT_LIMIT]


def parse(status: int, body: bytes) -> RegistryError:
    """Read another registry's error answer; rubbish gives what the status alone says.

    Never raises. The message is the other side's: cut, with nothing in it that a terminal would obey.
    A known code wins over an odd status, except for a status that decides what a client does next.
    """
    entries = _entries(body)
    code = _text(entries[0].get("code")) if entries else ""
    kind = _class_of(code, status)
    message = _text(entries[0].get("message")) if entries else ""
    error = kind(message or f"the registry answered {status}")
    details = [_detail(entry) for entry in entries]
    if kind is ManifestBlobUnknown:
        error.detail = _merge_digests(details)
    elif details:
        error.detail = details[0]
    return error


def _entries(body: bytes) -> list[dict[str, Any]]:
    if len(body) > _BODY_LIMIT:
        return []
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return []
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return []
    return [entry for entry in errors if isinstance(entry, dict)]


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value[:_TEXT_LIMIT]
    )


def _detail(entry: dict[str, Any]) -> dict[str, object]:
    detail = _as_json(entry.get("detail"))
    if isinstance(detail, dict):
        return detail
    return {} if detail is None else {"detail": detail}


def _merge_digests(details: list[dict[str, object]]) -> dict[str, object]:
    """Undo the one-entry-a-digest form; other registries give the digest as the whole detail."""
    found = [detail.pop("digest", None) or detail.pop("detail", None) for detail in details]
    rest = details[0] if details else {}
    return {**rest, "digests": [digest for digest in found if isinstance(digest, str)]}


def _class_of(code: str, status: int) -> type[RegistryError]:
    exact = _BY_CODE_AND_STATUS.get((code, status))
    if exact is not None:
        return exact
    if status in _DECIDING:
        return _BY_STATUS[status]
    return _BY_CODE.get(code) or _BY_STATUS.get(status, RegistryError)


def _walk(root: type[RegistryError]) -> Iterator[type[RegistryError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _walk(kind)


_CLASSES = [kind for kind in _walk(RegistryError) if not kind.__name__.startswith("_")]
_BY_CODE_AND_STATUS = {(kind.code, kind.status): kind for kind in _CLASSES}
# The first class of a code is its plain meaning: dict() keeps the last, hence the reversal.
_BY_CODE = {kind.code: kind for kind in reversed(_CLASSES) if kind is not RegistryError}
_BY_STATUS: dict[int, type[RegistryError]] = {
    400: RequestInvalid,
    404: EndpointUnknown,
    502: Unavailable,
    504: Unavailable,
} | {
    kind.status: kind
    for kind in (
        Unauthorized,
        Denied,
        Unsupported,
        RequestTimeout,
        ReferenceConflict,
        PreconditionFailed,
        ManifestTooLarge,
        UriTooLong,
        UnsupportedMediaType,
        RangeInvalid,
        TooManyRequests,
        HeadersTooLarge,
        Unavailable,
        InsufficientStorage,
    )
}
_DECIDING = (401, 429, 503)
