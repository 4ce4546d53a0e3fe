"""/token: access tokens for a login, as docker, containerd and podman ask for them; and the keys behind them.

Source: distribution's docs/spec/auth/token.md (GET) and oauth.md (POST); RFC 6749, 5.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse, PlainTextResponse, Response

from registry.access_log import client_address
from registry.auth import scopes
from registry.auth.access import Identity
from registry.auth.challenge import basic
from registry.auth.guard import read_basic
from registry.auth.token_service import Granted, TokenService
from registry.endpoints.call import Call
from storage.oci.errors import (
    EndpointUnknown,
    RegistryError,
    RequestInvalid,
    Unauthorized,
    UnsupportedMediaType,
    render,
)

_FORM = "application/x-www-form-urlencoded"
_FORM_LIMIT = 64 * 1024
_MOST_FIELDS = 200
_NOTED = 200
_KEYS_HEADERS = {"Cache-Control": "public, max-age=300"}
# Source: RFC 6749, 5.1.
_TOKEN_HEADERS = {"Cache-Control": "no-store", "Pragma": "no-cache"}
# What OAuth2 calls our errors. Source: RFC 6749, 5.2; RFC 6749, 4.1.2.1 for the last two.
_OAUTH_ERRORS = {401: "invalid_grant", 429: "temporarily_unavailable", 503: "temporarily_unavailable"}

_ID_TOKENS = ("urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt")
# What an exchange has to say of its token. Source: RFC 8693, 2.2.1.
_EXCHANGED = {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer"}

# Parameters by name, as often as they came.
Parameters = Mapping[str, Sequence[str]]


class TokenEndpoint:
    """/token. Its errors are the registry's and OAuth2's in one document."""

    async def get(self, call: Call) -> Response:
        return await _answer(call, _get)

    async def post(self, call: Call) -> Response:
        return await _answer(call, _post)


class JwksEndpoint:
    """/token/jwks and /.well-known/jwks.json: the public keys. Source: RFC 7517, 5."""

    async def get(self, call: Call) -> Response:
        keys = _service(call).keys
        await keys.refresh()
        return JSONResponse(keys.jwks(), headers=_KEYS_HEADERS, media_type="application/jwk-set+json")


class CertificatesEndpoint:
    """/token/certificates: the same keys as distribution before 3 wants them, in its rootcertbundle."""

    async def get(self, call: Call) -> Response:
        service = _service(call)
        await service.keys.refresh()
        bundle = "".join(key.certificate(service.terms.issuer) for key in service.keys.live())
        return PlainTextResponse(bundle, headers=_KEYS_HEADERS, media_type="application/x-pem-file")


async def _answer(call: Call, handle: Callable[[Call, TokenService], Awaitable[Response]]) -> Response:
    service = _service(call)
    try:
        return await handle(call, service)
    except RegistryError as error:
        call.note(code=error.code, reason=error.message[:300])
        return _refusal(error, service.terms.service)


async def _get(call: Call, service: TokenService) -> Response:
    given = {name: call.query.getlist(name) for name in call.query}
    service.check_service(_one(given, "service"))
    identity = None
    if (authorization := call.headers.get("authorization")) is not None:
        call.note(grant="basic")
        identity = await _login(call, service, *_basic_of(authorization))
    granted = await _issue(call, service, identity, given)
    answer = _document(granted)
    if _one(given, "offline_token").lower() in ("true", "1") and identity is not None:
        answer |= await _remembered(service, identity, given)
    return JSONResponse(answer, headers=_TOKEN_HEADERS)


async def _post(call: Call, service: TokenService) -> Response:
    given = await _read_form(call)
    service.check_service(_one(given, "service"))
    identity, known = await _identify(call, service, given)
    granted = await _issue(call, service, identity, given)
    answer = _document(granted) | {"scope": _granted_scope(granted)}
    if "subject_token" in given:
        answer |= _EXCHANGED
    if _one(given, "access_type") == "offline":
        # Refreshing gives the same token again. Source: oauth.md, "access_type".
        answer |= {"refresh_token": known} if known else await _remembered(service, identity, given)
    return JSONResponse(answer, headers=_TOKEN_HEADERS)


async def _identify(call: Call, service: TokenService, given: Parameters) -> tuple[Identity, str | None]:
    """Return who asks, and the refresh token that said so."""
    grant = _one(given, "grant_type")
    call.note(grant=grant[:_NOTED])
    match grant:
        case "password":
            name, password = _required(given, "username"), _required(given, "password")
            return await _login(call, service, name, password), None
        case "refresh_token":
            text = _required(given, "refresh_token")
            return await service.refresh(text), text
        case "urn:ietf:params:oauth:grant-type:token-exchange":
            return await _exchange(call, service, given), None
        case "":
            raise RequestInvalid("the form has no grant_type", error="invalid_request")
        case other:
            raise RequestInvalid(f"no such grant here: {other[:50]!r}", error="unsupported_grant_type")


async def _login(call: Call, service: TokenService, name: str, password: str) -> Identity:
    call.note(account=name[:_NOTED])
    return await service.login(name, password, client_address(call.scope))


async def _exchange(call: Call, service: TokenService, given: Parameters) -> Identity:
    """Take the ID token of a CI job. Source: RFC 8693, 2.1."""
    if _required(given, "subject_token_type") not in _ID_TOKENS:
        raise RequestInvalid("only an ID token can be exchanged", error="invalid_request")
    return await service.exchange(_required(given, "subject_token"), client_address(call.scope))


async def _issue(call: Call, service: TokenService, identity: Identity | None, given: Parameters) -> Granted:
    """Make the token, and tell the audit log whom it is for and what it opens (OPS-11)."""
    granted = await service.issue(identity, scopes.parse(given.get("scope", ())))
    subject = identity.principal.name if identity else ""
    call.note(subject=subject, jti=granted.token.id, scopes=[str(scope) for scope in granted.scopes])
    return granted


async def _remembered(service: TokenService, identity: Identity, given: Parameters) -> dict[str, object]:
    token = await service.remember(identity, _one(given, "client_id"))
    return {} if token is None else {"refresh_token": token}


def _document(granted: Granted) -> dict[str, object]:
    token = granted.token
    return {
        "token": token.text,
        "access_token": token.text,
        "expires_in": token.expires_in,
        "issued_at": f"{datetime.fromtimestamp(token.issued_at, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _granted_scope(granted: Granted) -> str:
    """Write what was granted in the words of the grammar, which knows no tag rights apart from push."""
    found = (
        scopes.Scope(scope.type, scope.name, scopes.canonical(map(_word, scope.actions)))
        for scope in granted.scopes
    )
    return " ".join(map(str, found))


def _word(action: str) -> str:
    return "push" if action.startswith("tag-") else action


async def _read_form(call: Call) -> Parameters:
    """Read a form, whole or chunked. Raises RequestInvalid, UnsupportedMediaType."""
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise UnsupportedMediaType(f"a token is asked for with {_FORM}")
    body = await call.read_small(_FORM_LIMIT)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise RequestInvalid("the form cannot be read", error="invalid_request") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _one(given: Parameters, name: str) -> str:
    """Return a parameter that may come once; empty when it does not. Source: RFC 6749, 3.2."""
    values = given.get(name, ())
    if len(values) > 1:
        raise RequestInvalid(f"{name} is given {len(values)} times", error="invalid_request")
    return values[0] if values else ""


def _required(given: Parameters, name: str) -> str:
    if name not in given:
        raise RequestInvalid(f"the form has no {name}", error="invalid_request")
    return _one(given, name)


def _basic_of(authorization: str) -> tuple[str, str]:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthorized("a token is asked for with Basic credentials")
    return read_basic(credentials.strip(" "))


def _service(call: Call) -> TokenService:
    if call.api.tokens is None:
        raise EndpointUnknown("this registry makes no tokens")
    return call.api.tokens


def _refusal(error: RegistryError, service: str) -> Response:
    document = json.loads(render(error))
    named = error.detail.get("error")
    document["error"] = named or _OAUTH_ERRORS.get(error.status, "invalid_request")
    document["error_description"] = document["errors"][0]["message"]
    headers = {**error.headers, **_TOKEN_HEADERS}
    if error.status == 401:
        headers["WWW-Authenticate"] = basic(service)
    return JSONResponse(document, status_code=error.status, headers=headers)
