"""/v2/<name>/blobs/uploads/... Source: distribution-spec spec.md, end-4 to end-6, end-11, end-13, end-14."""

import re
from contextlib import suppress

from starlette.responses import Response

from registry.auth.access import Action
from registry.endpoints.call import Call, empty
from registry.uploads import Session
from storage.blobs import Appended, UploadId
from storage.oci.digest import ALGORITHMS, Digest
from storage.oci.errors import (
    BlobUploadUnknown,
    DigestInvalid,
    NameInvalid,
    RangeInvalid,
    RegistryError,
    SizeInvalid,
)
from storage.oci.names import RepositoryName

# How many repositories are considered for a mount that names none.
_MOUNT_SOURCES = 100

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}").fullmatch
# The spec's form; `bytes` and a total stand before and behind it where clients follow RFC 9110.
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?").fullmatch


class UploadsEndpoint:
    """The collection of a repository's upload sessions."""

    async def post(self, call: Call) -> Response:
        if (mount := call.query.get("mount")) is not None:
            digest = Digest.parse(mount)
            if source := await self._mount(call, digest):
                call.note(mounted_from=source.value)
                return _created(call, digest)
            return await self._begin(call, digest.algorithm)
        if (given := call.query.get("digest")) is not None:
            digest = Digest.parse(given)
            if call.content_length() != 0 or digest == Digest.of(b"", digest.algorithm):
                return await self._push(call, digest)
            return await self._begin(call, digest.algorithm)
        return await self._begin(call, call.query.get("digest-algorithm", ALGORITHMS[0]))

    async def _mount(self, call: Call, digest: Digest) -> RepositoryName | None:
        """Mount from where the caller may read; elsewhere answers as if the blob were nowhere (AUTH-16)."""
        access, source = call.api.access, call.query.get("from")
        if source is None:
            candidates = await call.api.uploads.holders(digest, _MOUNT_SOURCES)
        else:
            candidates = _repository(source)
        readable = [name for name in candidates if access.may(call.caller, Action.PULL, name)]
        return await call.api.uploads.mount(call.name, digest, readable) if readable else None

    async def _push(self, call: Call, digest: Digest) -> Response:
        session = await call.api.uploads.begin(call.name, call.principal.name, digest.algorithm)
        try:
            await call.api.uploads.finish(
                session, digest, None, call.feed(call.content_length()), call.content_length() or 0
            )
        except RegistryError:
            # Nobody else knows this session, so nobody can go on with it; a failed disk has ended it already.
            with suppress(BlobUploadUnknown):
                await call.api.uploads.cancel(session)
            raise
        return _created(call, digest)

    async def _begin(self, call: Call, algorithm: str) -> Response:
        if algorithm not in ALGORITHMS:
            raise DigestInvalid(f"not an algorithm we compute: {algorithm[:20]!r}", supported=ALGORITHMS)
        session = await call.api.uploads.begin(call.name, call.principal.name, algorithm)
        minimum = call.api.settings.chunk_min_length
        more = {"OCI-Chunk-Min-Length": str(minimum)} if minimum else {}
        return _accepted(call, session, 0, more)


class UploadEndpoint:
    """One upload session."""

    async def get(self, call: Call) -> Response:
        session = _session(call)
        status = await call.api.uploads.status(session)
        return Response(status_code=204, headers=_progress(call, session, status.appended.offset))

    async def patch(self, call: Call) -> Response:
        session = _session(call)
        start, length = _content_range(call)
        appended: Appended = await call.api.uploads.append(session, start, call.feed(length), length or 0)
        return _accepted(call, session, appended.offset, {})

    async def put(self, call: Call) -> Response:
        session = _session(call)
        digest = Digest.parse(call.query.get("digest", ""))
        start, length = _content_range(call)
        feed = None if length == 0 else call.feed(length)
        await call.api.uploads.finish(session, digest, start, feed, length or 0)
        return _created(call, digest)

    async def delete(self, call: Call) -> Response:
        await call.api.uploads.cancel(_session(call))
        return Response(status_code=204)


def _session(call: Call) -> Session:
    """Read the session that a signed link names. Raises BlobUploadUnknown for any other link."""
    upload = UploadId(call.tail)
    if not _UPLOAD_ID(upload) or not call.api.links.is_signed(
        call.name, upload, call.query.get("_state", "")
    ):
        raise BlobUploadUnknown("no such upload here; use the Location of the last answer as it came")
    return Session(call.name, upload, call.principal.name)


def _content_range(call: Call) -> tuple[int | None, int | None]:
    """Return where the body starts, if the client says, and how long it is (None: streamed).

    Raises RangeInvalid for a malformed Content-Range, SizeInvalid when it is not the body's length.
    """
    length, given = call.content_length(), call.headers.get("content-range")
    if given is None:
        return None, length
    match = _CONTENT_RANGE(given)
    if match is None:
        raise RangeInvalid("Content-Range is not <first>-<last>")
    first, last = map(int, match.groups())
    if last + 1 - first < 0 or (length is not None and length != last + 1 - first):
        raise SizeInvalid("Content-Range and Content-Length differ")
    return first, last + 1 - first


def _repository(text: str) -> list[RepositoryName]:
    try:
        return [RepositoryName.parse(text)]
    except NameInvalid:
        # Docker sends what it remembers; a wrong `from` is an upload like any other.
        return []


def _created(call: Call, digest: Digest) -> Response:
    return empty(
        201, {"Location": call.api.links.blob(call.name, digest), "Docker-Content-Digest": str(digest)}
    )


def _accepted(call: Call, session: Session, offset: int, more: dict[str, str]) -> Response:
    return empty(202, {**_progress(call, session, offset), **more})


def _progress(call: Call, session: Session, offset: int) -> dict[str, str]:
    return {
        "Location": call.api.links.upload(session),
        "Range": f"0-{max(offset - 1, 0)}",
        "Docker-Upload-UUID": session.upload,
    }
