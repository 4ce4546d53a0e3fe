"""One request on its way to an endpoint, and the answers endpoints give."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from registry import metrics
from registry.admin.administration import Administration
from registry.audit import Audit, Off
from registry.audited import FACTS
from registry.auth.access import Access, Caller, Principal
from registry.auth.token_service import TokenService
from registry.body import BodyCut
from registry.links import Links
from registry.offload import Offload
from registry.registry import Registry
from registry.routes import Route
from registry.settings import Settings
from registry.uploads import Feed, Uploads, Write
from storage.oci.digest import Digest
from storage.oci.errors import EndpointUnknown, ManifestTooLarge, RequestInvalid, SizeInvalid
from storage.oci.names import RepositoryName

BLOCK = 1024 * 1024

_COUNT = re.compile(r"[0-9]{1,19}").fullmatch
_LENGTH = re.compile(r"[0-9]{1,19}").fullmatch


@dataclass(frozen=True, slots=True)
class Api:
    """What endpoints work with."""

    settings: Settings
    registry: Registry
    uploads: Uploads
    access: Access
    links: Links
    offload: Offload
    tokens: TokenService | None = None
    audit: Audit = field(default_factory=Off)
    administration: Administration | None = None


class Call:
    """An authorized request: its route, who asks, and its parts, read when they are asked for."""

    __slots__ = ("_query", "_receive", "api", "caller", "headers", "method", "route", "scope")

    def __init__(
        self,
        api: Api,
        scope: Scope,
        receive: Receive,
        headers: Mapping[str, str],
        route: Route,
        caller: Caller,
    ) -> None:
        self.api = api
        self.scope = scope
        self.method: str = scope["method"]
        self.headers = headers
        self.route = route
        self.caller = caller
        self._receive = receive
        self._query: QueryParams | None = None

    @property
    def principal(self) -> Principal:
        return self.caller.principal

    @property
    def name(self) -> RepositoryName:
        if self.route.name is None:
            raise EndpointUnknown("this path names no repository")
        return self.route.name

    @property
    def tail(self) -> str:
        return self.route.tail

    @property
    def query(self) -> QueryParams:
        if self._query is None:
            self._query = QueryParams(self.scope["query_string"])
        return self._query

    def digest(self) -> Digest:
        """Parse the path's digest. Raises DigestInvalid."""
        return Digest.parse(self.route.tail)

    def count(self, limit: int) -> int:
        """Read `n`, at most `limit`; the limit itself when it is not given. Raises RequestInvalid."""
        given = self.query.get("n")
        if given is None:
            return limit
        if not _COUNT(given):
            raise RequestInvalid("n is not a whole number", n=given[:20])
        return min(int(given), limit)

    def content_length(self) -> int | None:
        """Return the body's length in bytes, None when the client streams. Raises SizeInvalid."""
        given = self.headers.get("content-length")
        if given is None:
            return None if "transfer-encoding" in self.headers else 0
        if not _LENGTH(given):
            raise SizeInvalid("Content-Length is not a number of bytes")
        return int(given)

    async def read(self, limit: int) -> bytes:
        """Read a manifest whole. Raises ManifestTooLarge above `limit` bytes, BodyCut."""
        body = await self._read(limit)
        if body is None:
            raise ManifestTooLarge(f"a manifest may have {limit} bytes", limit=limit)
        return body

    async def read_small(self, limit: int) -> bytes:
        """Read a form or document whole. Raises RequestInvalid above `limit` bytes, BodyCut."""
        body = await self._read(limit)
        if body is None:
            raise RequestInvalid(f"this body may have {limit} bytes", limit=limit)
        return body

    async def _read(self, limit: int) -> bytes | None:
        if (self.content_length() or 0) > limit:
            return None
        parts = bytearray()
        async for part in self._parts():
            parts += part
            if len(parts) > limit:
                return None
        return bytes(parts)

    def feed(self, expected: int | None = None) -> Feed:
        """Return how the body reaches a writer; `expected` bytes, or SizeInvalid.

        The server's protocol class reads the socket and calls the writer in one thread. Elsewhere (TLS,
        other servers) the body comes in ASGI messages, regrouped to 1 MiB a hop.
        """

        async def feed(write: Write) -> None:
            take = self._extension("cargohold.body")
            received = await (take["take"](write) if take else self._feed_parts(write))
            metrics.count_received(received)
            if expected is not None and received != expected:
                raise SizeInvalid(f"{expected} bytes were announced, {received} came")

        return feed

    async def _feed_parts(self, write: Write) -> int:
        total = 0
        block = bytearray()
        async for part in self._parts():
            block += part
            if len(block) >= BLOCK:
                await self.api.offload.blobs(write, memoryview(block))
                total += len(block)
                block = bytearray()
        if block:
            await self.api.offload.blobs(write, memoryview(block))
        return total + len(block)

    async def _parts(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise BodyCut("the client left before its body ended")
            yield message.get("body", b"")
            more = message.get("more_body", False)

    def note(self, **facts: object) -> None:
        """Add what the audit log should tell of this request, and no secret."""
        self.scope.setdefault(FACTS, {}).update(facts)

    def _extension(self, name: str) -> Mapping[str, Any] | None:
        extensions: Mapping[str, Mapping[str, Any]] = self.scope.get("extensions") or {}
        return extensions.get(name)


def read_headers(scope: Scope) -> dict[str, str]:
    """Return a request's headers by lower-case name; a repeated one is joined, as RFC 9110 §5.3 has it."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class Answer(Response):
    """A response whose header list is made by hand: on the hottest paths starlette's encoding would show."""

    def __init__(self, status: int, raw_headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
        self.status_code = status
        self.raw_headers = raw_headers
        self.body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def empty(status: int, headers: Mapping[str, str]) -> Response:
    """Answer with headers alone."""
    return Response(status_code=status, headers={**headers, "Content-Length": "0"})
