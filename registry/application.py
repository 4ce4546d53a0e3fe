"""The ASGI application: route, authorize, answer, count. Errors of every kind become the spec's JSON here."""

import logging
import time
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from registry import metrics, routes
from registry.access_log import AccessLog, client_address
from registry.auth.access import ANONYMOUS, Action, Principal
from registry.body import BodyCut
from registry.endpoints.blobs import BlobEndpoint
from registry.endpoints.call import Api, Call
from registry.endpoints.listings import BaseEndpoint, CatalogEndpoint, ReferrersEndpoint, TagsEndpoint
from registry.endpoints.manifests import ManifestEndpoint
from registry.endpoints.uploads import UploadEndpoint, UploadsEndpoint
from registry.operations import Operations
from registry.routes import Resource, Route
from storage.oci.errors import RegistryError, RequestInvalid, RequestTimeout, Unsupported, render

log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[Response]]

_ENDPOINTS: dict[Resource, object] = {
    Resource.BASE: BaseEndpoint(),
    Resource.CATALOG: CatalogEndpoint(),
    Resource.MANIFEST: ManifestEndpoint(),
    Resource.BLOB: BlobEndpoint(),
    Resource.UPLOADS: UploadsEndpoint(),
    Resource.UPLOAD: UploadEndpoint(),
    Resource.TAGS: TagsEndpoint(),
    Resource.REFERRERS: ReferrersEndpoint(),
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_VERSION = (b"docker-distribution-api-version", b"registry/2.0")


def _handlers(endpoint: object) -> dict[str, Handler]:
    """Return an endpoint's handlers by method; GET answers HEAD where there is no other."""
    found = {
        method: getattr(endpoint, method.lower()) for method in _METHODS if hasattr(endpoint, method.lower())
    }
    if "GET" in found:
        found.setdefault("HEAD", found["GET"])
    return found


def _action(resource: Resource, method: str) -> Action:
    """Say what right a request needs (AUTH-14)."""
    if resource in (Resource.UPLOADS, Resource.UPLOAD):
        return Action.PUSH
    return {"GET": Action.PULL, "HEAD": Action.PULL, "DELETE": Action.DELETE}.get(method, Action.PUSH)


class Application:
    """One worker's application. `operations` answers what lies outside /v2/."""

    def __init__(self, api: Api, operations: Operations | None, access_log: AccessLog | None) -> None:
        self._api = api
        self._operations = operations
        self._access_log = access_log
        self._prefix = api.settings.path_prefix.encode()
        self._handlers = {resource: _handlers(endpoint) for resource, endpoint in _ENDPOINTS.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        raw_path = self._path(scope)
        if self._operations is not None and not raw_path.startswith(b"/v2"):
            await self._operations(scope, receive, send)
            return
        request = Request(scope, receive)
        resource, principal, response = await self._answer(request, raw_path)
        response.raw_headers.append(_VERSION)
        try:
            await response(scope, receive, send)
        finally:
            self._count(request, resource, principal, response, time.perf_counter() - started)

    def _path(self, scope: Scope) -> bytes:
        """Return the raw path below the prefix; a proxy may have stripped it or not."""
        raw_path: bytes = scope["raw_path"]
        if self._prefix and raw_path.startswith(self._prefix + b"/"):
            return raw_path[len(self._prefix) :]
        return raw_path

    async def _answer(self, request: Request, raw_path: bytes) -> tuple[str, Principal, Response]:
        resource, principal = "none", ANONYMOUS
        try:
            route = routes.match(raw_path)
            resource = route.resource.value
            handler = self._handler(route, request.method)
            principal = self._api.access.authenticate(request.headers)
            self._api.access.require(principal, _action(route.resource, request.method), route.name)
            return resource, principal, await handler(Call(self._api, request, route, principal))
        except RegistryError as error:
            return resource, principal, _refusal(error)
        except BodyCut as error:
            return resource, principal, _refusal(RequestTimeout(str(error)))
        except HTTPException as error:
            return resource, principal, _refusal(RequestInvalid(error.detail))
        except Exception:
            log.exception("request failed", extra={"resource": resource, "method": request.method})
            return resource, principal, _refusal(RegistryError("the registry failed; its log says why"))

    def _handler(self, route: Route, method: str) -> Handler:
        handlers = self._handlers[route.resource]
        deletes = method == "DELETE" and route.resource is not Resource.UPLOAD
        if method in handlers and (not deletes or self._api.settings.delete_enabled):
            return handlers[method]
        allowed = [name for name in handlers if name != "DELETE" or self._api.settings.delete_enabled]
        raise Unsupported(f"{method} is not supported here", allow=allowed)

    def _count(
        self, request: Request, resource: str, principal: Principal, response: Response, seconds: float
    ) -> None:
        metrics.count_request(resource, request.method, response.status_code, seconds)
        if self._access_log is None:
            return
        headers = request.headers
        self._access_log.write(
            method=request.method,
            path=request.scope["raw_path"].decode("ascii", "backslashreplace"),
            status=response.status_code,
            size=int(response.headers.get("content-length", 0)),
            seconds=seconds,
            client=client_address(request.scope),
            agent=headers.get("user-agent", ""),
            user=principal.name,
        )


def _refusal(error: RegistryError) -> Response:
    return Response(
        render(error), status_code=error.status, headers=error.headers, media_type="application/json"
    )
