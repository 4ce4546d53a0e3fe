"""The OpenAPI document of the admin API, made from its rows and from the models that read and write."""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from registry.endpoints.admin.asking import Right
from registry.endpoints.admin.operation import Operation
from registry.endpoints.admin.table import OPERATIONS

_VERSION = "3.1.1"
_REFERENCE = "#/components/schemas/{model}"
_DESCRIPTION = (
    "Accounts, rules and keys of a cargohold registry with auth = local. "
    "Log in with Basic: a password, or a personal token without limits."
)
_ERROR_TEXTS = {
    400: "Something about the request is wrong.",
    401: "There are no credentials, or wrong ones.",
    403: "The caller may not do this.",
    404: "There is none of that name, or not for this caller.",
    409: "It contradicts what there is.",
    415: "The body is not JSON.",
    429: "Too many wrong passwords; Retry-After says how long to wait.",
    503: "Something does not answer now; Retry-After says when to try again.",
    507: "The disk is full.",
}
# What every request may meet: see the error tree.
_ALWAYS = (400, 401, 404, 429, 503)
_TEXT = {"type": "string"}
_LINK = {"description": "Where the list goes on, with rel=next (RFC 8288).", "schema": _TEXT}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": _TEXT}},
    429: {"Retry-After": {"required": True, "schema": _TEXT}},
    503: {"Retry-After": {"schema": _TEXT}},
}
# The errors' form. Source: distribution-spec spec.md, "Error Codes".
_ERRORS_SCHEMA = {
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "detail": {},
                },
            },
        }
    },
}


@cache
def document(prefix: str = "") -> dict[str, Any]:
    """Build the document of a registry under a path prefix. Source: OpenAPI 3.1.1."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": _VERSION,
        "info": {"title": "cargohold", "version": version("cargohold"), "description": _DESCRIPTION},
        "servers": [{"url": f"{prefix}/api/v1"}],
        "security": [{"basic": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "schemas": {**_schemas(), "Errors": _ERRORS_SCHEMA},
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": {str(status): answer for status, answer in _responses(operation)},
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    return described


def _path_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for name in operation.names:
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
        }


def _query_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    if operation.query is None:
        return
    schema = operation.query.model_json_schema()
    for name, member in schema["properties"].items():
        required = name in schema.get("required", ())
        yield {"name": name, "in": "query", "required": required, "schema": member}


def _responses(operation: Operation) -> Iterable[tuple[int, dict[str, Any]]]:
    if operation.answer is None:
        yield 204, {"description": "Done."}
    else:
        yield (
            operation.status,
            {
                "description": "Done.",
                "content": _content(operation.answer),
                **({"headers": {"Link": _LINK}} if _has_pages(operation) else {}),
            },
        )
    for status in sorted(errors_of(operation)):
        headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
        yield status, {"description": _ERROR_TEXTS[status], "content": _json("Errors"), **headers}


def _has_pages(operation: Operation) -> bool:
    return operation.query is not None and "last" in operation.query.model_fields


def errors_of(operation: Operation) -> set[int]:
    """Return the refusals that a request may get."""
    errors = {*_ALWAYS, *operation.errors}
    if operation.right is not Right.ANYBODY:
        errors.add(403)
    if operation.body is not None:
        errors.add(415)
    if operation.action:
        errors.add(507)
    return errors


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return _json(model.__name__)


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=name)}}}


def _schemas() -> dict[str, Any]:
    bodies = {each.body for each in OPERATIONS if each.body is not None}
    answers = {each.answer for each in OPERATIONS if each.answer is not None}
    modes: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in sorted(bodies, key=_name)),
        *((model, "serialization") for model in sorted(answers, key=_name)),
    ]
    _, definitions = models_json_schema(modes, ref_template=_REFERENCE)
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _name(model: type[BaseModel]) -> str:
    return model.__name__
