"""/api/v1: finds the row of a request, holds the caller against it, reads, runs, and writes the answer."""

import json
from collections.abc import Mapping

from starlette.responses import Response

from registry.endpoints.admin import openapi
from registry.endpoints.admin.asking import Asked
from registry.endpoints.admin.operation import Operation
from registry.endpoints.admin.reading import read_body, read_query
from registry.endpoints.admin.table import OPERATIONS
from registry.endpoints.call import Call
from storage.oci.errors import EndpointUnknown, Unsupported

# Answers have secrets in them, and nothing that a browser should show as a page.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_SHOWN = 200


class AdminEndpoint:
    """Everything below /api/v1 but its description."""

    async def get(self, call: Call) -> Response:
        return await _answer(call)

    async def post(self, call: Call) -> Response:
        return await _answer(call)

    async def put(self, call: Call) -> Response:
        return await _answer(call)

    async def patch(self, call: Call) -> Response:
        return await _answer(call)

    async def delete(self, call: Call) -> Response:
        return await _answer(call)


class OpenApiEndpoint:
    """/api/v1/openapi.json. It says nothing that this program's source does not."""

    async def get(self, call: Call) -> Response:
        document = openapi.document(call.api.settings.path_prefix)
        return Response(json.dumps(document), headers=_HEADERS, media_type="application/json")


async def _answer(call: Call) -> Response:
    operation, path = _find(call.method, call.tail)
    if operation.action:
        call.note(action=operation.action, **{name: value[:_SHOWN] for name, value in path.items()})
    asked = Asked(call, path)
    asked.require(operation.right)
    given: dict[str, object] = {}
    query = read_query(call.query, operation.query)
    if query is not None:
        given["query"] = query
    if operation.body is not None:
        given["body"] = await read_body(call, operation.body)
    answer = await operation.handler(asked, **given)
    headers = {**_HEADERS, **asked.headers}
    if answer is None:
        return Response(status_code=204, headers=headers)
    return Response(answer.model_dump_json(), operation.status, headers, media_type="application/json")


def _find(method: str, tail: str) -> tuple[Operation, Mapping[str, str]]:
    """Return the row of a request. Raises EndpointUnknown, Unsupported, RequestInvalid."""
    parts = tail.removeprefix("/").split("/")
    found = [(each, path) for each in OPERATIONS if (path := each.match(parts)) is not None]
    wanted = "GET" if method == "HEAD" else method
    for operation, path in found:
        if operation.method == wanted:
            return operation, path
    if not found:
        raise EndpointUnknown("no such path in the admin API; /api/v1/openapi.json describes it")
    allowed = sorted({operation.method for operation, _ in found})
    if "GET" in allowed:
        allowed.append("HEAD")
    raise Unsupported(f"{method} is not supported here", allow=allowed)
