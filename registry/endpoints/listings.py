"""Lists: the base, the catalog, tags, referrers. Source: distribution-spec spec.md, end-1, end-8, end-12."""

import json
from collections.abc import Sequence

from starlette.responses import Response

from registry.endpoints.call import Call
from registry.metadata.manifests import Referrer
from storage.oci import media_types
from storage.oci.manifest import MANIFEST_LIMIT

_JSON = "application/json"


class BaseEndpoint:
    """/v2/: says that this is a registry."""

    async def get(self, call: Call) -> Response:
        return Response(b"{}", media_type=_JSON)


class CatalogEndpoint:
    """/v2/_catalog: the repositories that the caller may read."""

    async def get(self, call: Call) -> Response:
        limit = call.count(call.api.settings.list_page)
        page = await call.api.registry.catalog(call.query.get("last", ""), limit, call.caller.rights.shows)
        headers = {}
        if page.more and page.items:
            headers["Link"] = call.api.links.next_page("/v2/_catalog", n=limit, last=page.items[-1])
        return Response(json.dumps({"repositories": page.items}), headers=headers, media_type=_JSON)


class TagsEndpoint:
    """/v2/<name>/tags/list."""

    async def get(self, call: Call) -> Response:
        limit = call.count(call.api.settings.list_page)
        page = await call.api.registry.tags(call.name, call.query.get("last", ""), limit)
        headers = {}
        if page.more and page.items:
            path = f"/v2/{call.name}/tags/list"
            headers["Link"] = call.api.links.next_page(path, n=limit, last=page.items[-1])
        body = json.dumps({"name": call.name.value, "tags": page.items})
        return Response(body, headers=headers, media_type=_JSON)


class ReferrersEndpoint:
    """/v2/<name>/referrers/<digest>: an index of the manifests that name the digest as their subject."""

    async def get(self, call: Call) -> Response:
        subject, artifact_type = call.digest(), call.query.get("artifactType") or None
        limit = max(call.count(call.api.settings.referrers_page), 1)
        found = await call.api.registry.referrers(
            call.name, subject, artifact_type, call.query.get("last", ""), limit + 1
        )
        shown, body = _index(found, limit)
        headers = {"OCI-Filters-Applied": "artifactType"} if artifact_type else {}
        if shown < len(found):
            headers["Link"] = call.api.links.next_page(
                f"/v2/{call.name}/referrers/{subject}",
                artifactType=artifact_type,
                n=call.query.get("n"),
                last=found[shown - 1].digest,
            )
        return Response(body, headers=headers, media_type=media_types.IMAGE_INDEX)


def _index(found: Sequence[Referrer], limit: int) -> tuple[int, bytes]:
    """Return how many referrers fit into one page of 4 MiB, and that page; the first always fits."""
    descriptors: list[bytes] = []
    size = 0
    for referrer in found[:limit]:
        descriptor = _descriptor(referrer)
        size += len(descriptor) + 1
        if descriptors and size > MANIFEST_LIMIT - 1024:
            break
        descriptors.append(descriptor)
    head = b'{"schemaVersion":2,"mediaType":"%s","manifests":[' % media_types.IMAGE_INDEX.encode()
    return len(descriptors), head + b",".join(descriptors) + b"]}"


def _descriptor(referrer: Referrer) -> bytes:
    descriptor: dict[str, object] = {
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size,
    }
    if referrer.artifact_type:
        descriptor["artifactType"] = referrer.artifact_type
    if annotations := json.loads(referrer.annotations):
        descriptor["annotations"] = annotations
    # Not as ASCII: escapes are up to three times as long, and a page has 4 MiB.
    return json.dumps(descriptor, separators=(",", ":"), ensure_ascii=False).encode()
