"""/v2/<name>/blobs/<digest>. Source: distribution-spec spec.md, end-2 and end-10."""

from starlette.responses import Response

from registry import ranges
from registry.endpoints.blob_response import BlobResponse
from registry.endpoints.call import Call, empty
from registry.endpoints.conditions import is_unchanged
from registry.metadata.blobs import StoredBlob
from registry.ranges import ByteRange

_COMMON = {
    "Accept-Ranges": "bytes",
    "Content-Type": "application/octet-stream",
    # Blobs are what users push; a browser must not take one for a page.
    "X-Content-Type-Options": "nosniff",
}


class BlobEndpoint:
    """The bytes of a blob."""

    async def head(self, call: Call) -> Response:
        digest = call.digest()
        found = await call.api.registry.promise_blob(call.name, digest)
        if is_unchanged(call.headers.get("if-none-match"), str(digest)):
            return Response(status_code=304, headers=_headers(str(digest)))
        return Response(headers={**_headers(str(digest)), "Content-Length": str(found.size)})

    async def get(self, call: Call) -> Response:
        digest = call.digest()
        found = await call.api.registry.blob(call.name, digest)
        headers = _headers(str(digest))
        if is_unchanged(call.headers.get("if-none-match"), str(digest)):
            return Response(status_code=304, headers=headers)
        wanted = _wanted(call, found, headers["ETag"])
        file = await call.api.registry.open_blob(found)
        return BlobResponse(file, found.size, wanted, headers, call.api.offload)

    async def delete(self, call: Call) -> Response:
        await call.api.registry.delete_blob(call.name, call.digest())
        return empty(202, {})


def _headers(digest: str) -> dict[str, str]:
    return {**_COMMON, "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}


def _wanted(call: Call, found: StoredBlob, etag: str) -> list[ByteRange] | None:
    # Source: RFC 9110 §13.1.5: a Range under another If-Range is as if it were not there.
    if call.headers.get("if-range", etag) != etag:
        return None
    return ranges.parse(call.headers.get("range"), found.size)
