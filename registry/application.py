"""The ASGI application: route, authorize, answer, count. Errors of every kind become the spec's JSON here."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from registry import metrics, routes
from registry.access_log import AccessLog, client_address
from registry.auth.access import ANONYMOUS, Action, Principal
from registry.body import BodyCut, BodyMalformed
from registry.endpoints.blobs import BlobEndpoint
from registry.endpoints.call import Api, Call, read_headers
from registry.endpoints.listings import BaseEndpoint, CatalogEndpoint, ReferrersEndpoint, TagsEndpoint
from registry.endpoints.manifests import ManifestEndpoint
from registry.endpoints.uploads import UploadEndpoint, UploadsEndpoint
from registry.operations import Operations
from registry.refusal import refusal
from registry.routes import Resource, Route
from storage.oci.errors import RegistryError, RequestInvalid, RequestTimeout, Unsupported

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


_METHOD_ACTIONS = {"GET": Action.PULL, "HEAD": Action.PULL, "DELETE": Action.DELETE}


def _action(resource: Resource, method: str) -> Action:
    """Say what right a request needs (AUTH-14)."""
    if resource is Resource.UPLOAD or resource is Resource.UPLOADS:
        return Action.PUSH
    return _METHOD_ACTIONS.get(method, Action.PUSH)


@dataclass(slots=True)
class _Outcome:
    """What is known of a request once it is answered, for the log and the counters."""

    resource: str
    principal: Principal
    response: Response


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
            await self._operations({**scope, "raw_path": raw_path}, receive, send)
            return
        headers = read_headers(scope)
        outcome = await self._answer(scope, receive, headers, raw_path)
        outcome.response.raw_headers.append(_VERSION)
        try:
            await outcome.response(scope, receive, send)
        finally:
            self._count(scope, headers, outcome, time.perf_counter() - started)

    def _path(self, scope: Scope) -> bytes:
        """Return the raw path below the prefix; a proxy may have stripped it or not."""
        raw_path: bytes = scope["raw_path"]
        if self._prefix and raw_path.startswith(self._prefix + b"/"):
            return raw_path[len(self._prefix) :]
        return raw_path

    async def _answer(
        self, scope: Scope, receive: Receive, headers: dict[str, str], raw_path: bytes
    ) -> _Outcome:
        resource, principal = "none", ANONYMOUS
        try:
            route = routes.match(raw_path)
            resource = route.resource.value
            method = scope["method"]
            handler = self._handler(route, method)
            principal = self._api.access.authenticate(headers)
            self._api.access.require(principal, _action(route.resource, method), route.name)
            response = await handler(Call(self._api, scope, receive, headers, route, principal))
        except RegistryError as error:
            if error.status >= 500:
                log.warning("request refused", extra={"code": error.code, "cause": repr(error.__cause__)})
            response = refusal(error)
        except BodyMalformed as error:
            response = refusal(RequestInvalid(str(error)))
        except BodyCut as error:
            response = refusal(RequestTimeout(str(error)))
        except Exception:
            log.exception("request failed", extra={"resource": resource, "method": scope["method"]})
            response = refusal(RegistryError("the registry failed; its log says why"))
        return _Outcome(resource, principal, response)

    def _handler(self, route: Route, method: str) -> Handler:
        handlers = self._handlers[route.resource]
        deletes = method == "DELETE" and route.resource is not Resource.UPLOAD
        if method in handlers and (not deletes or self._api.settings.delete_enabled):
            return handlers[method]
        allowed = [name for name in handlers if name != "DELETE" or self._api.settings.delete_enabled]
        raise Unsupported(f"{method} is not supported here", allow=allowed)

    def _count(self, scope: Scope, headers: dict[str, str], outcome: _Outcome, seconds: float) -> None:
        status = outcome.response.status_code
        metrics.count_request(outcome.resource, scope["method"], status, seconds)
        if self._access_log is None:
            return
        self._access_log.write(
            method=scope["method"],
            path=scope["raw_path"].decode("ascii", "backslashreplace"),
            status=status,
            size=_content_length(outcome.response),
            seconds=seconds,
            client=client_address(scope),
            agent=headers.get("user-agent", ""),
            user=outcome.principal.name,
        )


def _content_length(response: Response) -> int:
    return next((int(value) for name, value in response.raw_headers if name == b"content-length"), 0)
