"""The ASGI application: route, authorize, answer, count. Errors of every kind become the spec's JSON here."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from registry import audited, metrics, needs, routes
from registry.access_log import AccessLog, client_address
from registry.auth.access import ANONYMOUS, Caller, ClientCertificate, Presented, Principal
from registry.auth.guard import NOBODY
from registry.body import BodyCut, BodyMalformed
from registry.endpoints.admin.asking import log_in
from registry.endpoints.admin.endpoint import AdminEndpoint, OpenApiEndpoint
from registry.endpoints.blobs import BlobEndpoint
from registry.endpoints.call import Api, Call, read_headers
from registry.endpoints.listings import BaseEndpoint, CatalogEndpoint, ReferrersEndpoint, TagsEndpoint
from registry.endpoints.manifests import ManifestEndpoint
from registry.endpoints.token import CertificatesEndpoint, JwksEndpoint, TokenEndpoint
from registry.endpoints.uploads import UploadEndpoint, UploadsEndpoint
from registry.needs import ACTIONS, NEEDS, Need
from registry.operations import Operations
from registry.refusal import refusal
from registry.routes import Resource, Route
from storage.oci.errors import NameInvalid, RegistryError, RequestInvalid, RequestTimeout, Unsupported
from storage.oci.names import RepositoryName

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
    Resource.TOKEN: TokenEndpoint(),
    Resource.JWKS: JwksEndpoint(),
    Resource.CERTIFICATES: CertificatesEndpoint(),
    Resource.ADMIN: AdminEndpoint(),
    Resource.OPENAPI: OpenApiEndpoint(),
}
# What is deleted there is nothing that was pushed.
_NO_CONTENT = (Resource.UPLOAD, Resource.ADMIN)
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


def _mount_source(scope: Scope, route: Route) -> RepositoryName | None:
    """Return where an upload wants to mount from: a token for it is to list that too (AUTH-16)."""
    if route.resource is not Resource.UPLOADS or b"from=" not in scope["query_string"]:
        return None
    query = QueryParams(scope["query_string"])
    try:
        return RepositoryName.parse(query.get("from", "")) if "mount" in query else None
    except NameInvalid:
        return None


def _certificate(scope: Scope) -> ClientCertificate | None:
    tls = scope["extensions"].get("tls") if "extensions" in scope else None
    chain = tls.get("client_cert_chain") if tls else None
    return ClientCertificate(chain[0]) if chain else None


@dataclass(slots=True)
class _Outcome:
    """What is known of a request once it is answered, for the log and the counters."""

    route: Route | None
    principal: Principal
    response: Response
    error: RegistryError | None = None

    @property
    def resource(self) -> str:
        return self.route.resource.value if self.route else "none"


class Application:
    """One worker's application. `operations` answers what lies outside /v2/."""

    def __init__(self, api: Api, operations: Operations | None, access_log: AccessLog | None) -> None:
        self._api = api
        self._operations = operations
        self._access_log = access_log
        self._prefix = api.settings.path_prefix.encode()
        self._handlers = {resource: _handlers(endpoint) for resource, endpoint in _ENDPOINTS.items()}
        needs.check(self._handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        raw_path = self._path(scope)
        if self._operations is not None and not routes.is_api(raw_path):
            await self._operations({**scope, "raw_path": raw_path}, receive, send)
            return
        headers = read_headers(scope)
        outcome = await self._answer(scope, receive, headers, raw_path)
        outcome.response.raw_headers.append(_VERSION)
        if scope["method"] not in ("GET", "HEAD") or outcome.error or outcome.resource == "token":
            self._record(scope, headers, outcome)
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
        route, principal = None, ANONYMOUS
        try:
            route = routes.match(raw_path)
            handler = self._handler(route, scope["method"])
            caller = await self._authorize(scope, headers, route)
            principal = caller.principal
            return _Outcome(
                route, principal, await handler(Call(self._api, scope, receive, headers, route, caller))
            )
        except RegistryError as error:
            if error.status >= 500:
                log.warning("request refused", extra={"code": error.code, "cause": repr(error.__cause__)})
            refused = error
        except BodyMalformed as error:
            refused = RequestInvalid(str(error))
        except BodyCut as error:
            refused = RequestTimeout(str(error))
        except Exception:
            resource = route.resource.value if route else "none"
            log.exception("request failed", extra={"resource": resource, "method": scope["method"]})
            refused = RegistryError("the registry failed; its log says why")
        return _Outcome(route, principal, refusal(refused), refused)

    def _record(self, scope: Scope, headers: dict[str, str], outcome: _Outcome) -> None:
        """Tell the audit log, before the answer is sent (OPS-11)."""
        event = audited.event(
            audited.Request(
                method=scope["method"],
                route=outcome.route,
                principal=outcome.principal.name,
                client=client_address(scope),
                shows_credentials="authorization" in headers,
                facts=scope.get(audited.FACTS, {}),
                response=outcome.response,
                error=outcome.error,
            )
        )
        if event is not None:
            self._api.audit.record(event)

    async def _authorize(self, scope: Scope, headers: dict[str, str], route: Route) -> Caller:
        """Return who asks, if that one may: before anything of the body is read."""
        if "authorization" in headers and sum(name == b"authorization" for name, _ in scope["headers"]) > 1:
            raise RequestInvalid("a request has one Authorization header")  # AUTH-27
        method = scope["method"]
        need = NEEDS[route.resource][method]
        if need is Need.NOTHING:
            return NOBODY
        access, action, source = self._api.access, ACTIONS[need], _mount_source(scope, route)
        presented = Presented(headers, client_address(scope), _certificate(scope), action, route.name, source)
        if need is Need.ACCOUNT:
            return await log_in(self._api, presented)
        caller = await access.authenticate(presented)
        access.require(caller, action, route.name, source)
        return caller

    def _handler(self, route: Route, method: str) -> Handler:
        handlers = self._handlers[route.resource]
        deletes = method == "DELETE" and route.resource not in _NO_CONTENT
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
