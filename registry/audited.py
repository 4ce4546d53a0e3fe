"""Which requests of the registry's API the audit log tells, and how."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from registry.audit import Event, Outcome
from registry.routes import Resource, Route
from storage.oci.errors import RegistryError

# What handlers add, as in `Call.note`; kept in the scope, which outlives an error.
FACTS = "cargohold.audit"

_READS = ("GET", "HEAD", "OPTIONS")
_VERBS = {
    (Resource.MANIFEST, "PUT"): "manifest.push",
    (Resource.MANIFEST, "DELETE"): "manifest.delete",
    (Resource.BLOB, "DELETE"): "blob.delete",
    (Resource.UPLOADS, "POST"): "blob.push",
    (Resource.UPLOAD, "PATCH"): "blob.push",
    (Resource.UPLOAD, "PUT"): "blob.push",
    (Resource.UPLOAD, "DELETE"): "blob.cancel",
}
# A part of an upload is no event: its end is.
_BEGUN = 202


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its answer, which is not sent yet. `error` is what the answer tells."""

    method: str
    route: Route | None
    principal: str
    client: str
    shows_credentials: bool
    facts: Mapping[str, object]
    response: Response
    error: RegistryError | None


def event(request: Request) -> Event | None:
    """Return what the audit log tells of a request; nothing of a read that was allowed.

    Nobody who shows nothing and is sent to log in was refused anything: every pull begins so.
    """
    route, status = request.route, request.response.status_code
    if route is not None and route.resource is Resource.TOKEN:
        return _token(request, status)
    if status == 401 and not request.shows_credentials:
        return None
    if route is not None and route.resource is Resource.ADMIN:
        return _administration(request, status)
    if request.method in _READS:
        return _build(request, "access", Outcome.REFUSED) if status in (401, 403) else None
    action = _VERBS.get((route.resource, request.method)) if route else None
    if action is None or route is None:
        return None
    if status == _BEGUN and route.resource in (Resource.UPLOADS, Resource.UPLOAD):
        return None
    return _build(request, action, _outcome(status))


def _token(request: Request, status: int) -> Event:
    action = "login" if status in (401, 429) else "token.issue"
    return _build(request, action, _outcome(status))


def _administration(request: Request, status: int) -> Event | None:
    """Tell of every change that was tried, by the name that its row has, and of reads that were refused."""
    action = request.facts.get("action")
    if action is None and status in (401, 403, 429):
        action = "access" if status == 403 else "login"
    return None if action is None else _build(request, str(action), _outcome(status))


def _outcome(status: int) -> Outcome:
    if status < 400:
        return Outcome.DONE
    return Outcome.REFUSED if status in (401, 403, 429) else Outcome.FAILED


def _build(request: Request, action: str, outcome: Outcome) -> Event:
    details: dict[str, object] = {}
    if request.route is not None and request.route.name is not None:
        details["repository"] = request.route.name.value
    if request.route is not None and request.route.resource in (Resource.MANIFEST, Resource.BLOB):
        details["reference"] = request.route.tail[:200]
    if request.route is not None and request.route.resource is Resource.ADMIN:
        details["path"] = request.route.tail[:200]
    digest = request.response.headers.get("docker-content-digest")
    if digest is not None and outcome is Outcome.DONE:
        details["digest"] = digest
    if action == "access":
        details["method"] = request.method
    details |= {key: value for key, value in request.facts.items() if key != "action"}
    if request.error is not None:
        details["code"] = request.error.code
        if outcome is Outcome.REFUSED:
            details["reason"] = request.error.message[:300]
    principal = str(details.pop("subject", request.principal))
    return Event(action, outcome, principal, request.client, details)
