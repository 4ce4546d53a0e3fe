"""/v2/<name>/manifests/<reference>. Source: distribution-spec spec.md, end-3, end-7 and end-9."""

from starlette.responses import Response

from registry.auth.access import Action
from registry.endpoints.call import Answer, Call, empty
from registry.endpoints.conditions import is_unchanged, read_condition
from registry.metadata.manifests import Push
from registry.metadata.tags import TagRights
from storage.oci import media_types
from storage.oci.digest import Digest
from storage.oci.errors import DigestInvalid, UriTooLong
from storage.oci.manifest import MANIFEST_LIMIT, Manifest
from storage.oci.names import Reference, Tag, parse_reference

MOST_TAGS = 100


class ManifestEndpoint:
    """A manifest by tag or digest."""

    async def get(self, call: Call) -> Response:
        found = await call.api.registry.manifest(call.name, parse_reference(call.tail))
        digest = found.digest.encode()
        headers = [(b"docker-content-digest", digest), (b"etag", b'"%s"' % digest)]
        if is_unchanged(call.headers.get("if-none-match"), found.digest):
            return Answer(304, headers)
        headers += ((b"content-type", found.media_type.encode()), (b"content-length", b"%d" % found.size))
        if call.method == "HEAD":
            return Answer(200, headers)
        return Answer(200, headers, found.body or await call.api.registry.manifest_body(found))

    async def put(self, call: Call) -> Response:
        reference = parse_reference(call.tail)
        tags = _tags(call, reference)
        body = await call.read(MANIFEST_LIMIT)
        manifest = _parse(call.headers.get("content-type"), body, reference)
        condition = read_condition(call.headers)
        push = Push(call.name, manifest, tags, call.principal.name, condition, _tag_rights(call))
        call.note(tags=await call.api.registry.put_manifest(push))
        return _created(call, manifest, tags if isinstance(reference, Digest) else ())

    async def delete(self, call: Call) -> Response:
        await call.api.registry.delete_manifest(call.name, parse_reference(call.tail), call.principal.name)
        return empty(202, {})


def _tag_rights(call: Call) -> TagRights:
    may = call.api.access.may
    return TagRights(
        create=may(call.caller, Action.TAG_CREATE, call.name),
        overwrite=may(call.caller, Action.TAG_OVERWRITE, call.name),
    )


def _tags(call: Call, reference: Reference) -> tuple[Tag, ...]:
    if isinstance(reference, Tag):
        return (reference,)
    given = call.query.getlist("tag")
    if len(given) > MOST_TAGS:
        raise UriTooLong(f"one push may set {MOST_TAGS} tags", limit=MOST_TAGS)
    return tuple(dict.fromkeys(Tag.parse(tag) for tag in given))


def _parse(content_type: str | None, body: bytes, reference: Reference) -> Manifest:
    if isinstance(reference, Tag):
        return Manifest.parse(content_type, body)
    manifest = Manifest.parse(content_type, body, reference.algorithm)
    if manifest.digest != reference:
        raise DigestInvalid(
            f"the body's digest is {manifest.digest}, the path says {reference}", digest=str(manifest.digest)
        )
    return manifest


def _created(call: Call, manifest: Manifest, tags: tuple[Tag, ...]) -> Response:
    headers = {
        "Location": call.api.links.manifest(call.name, manifest.digest),
        "Docker-Content-Digest": str(manifest.digest),
        "ETag": f'"{manifest.digest}"',
    }
    if manifest.subject is not None:
        headers["OCI-Subject"] = str(manifest.subject.digest)
    if tags:
        headers["OCI-Tag"] = ", ".join(tag.value for tag in tags)
    if manifest.media_type == media_types.ARTIFACT_MANIFEST:
        # Source: distribution-spec spec.md, "Warnings".
        headers["Warning"] = (
            '299 - "artifact manifests left the OCI image spec before 1.1; use an image manifest"'
        )
    return empty(201, headers)
