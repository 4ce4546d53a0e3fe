"""From the bytes of a request to the model that describes them, or to what is wrong with them."""

from typing import TypeVar

from pydantic import ValidationError
from starlette.datastructures import QueryParams

from registry.endpoints.admin.models import Query, Reads
from registry.endpoints.call import Call
from storage.oci import strict_json
from storage.oci.errors import ManifestInvalid, RequestInvalid, UnsupportedMediaType

BODY_LIMIT = 64 * 1024

B = TypeVar("B", bound=Reads)
Q = TypeVar("Q", bound=Query)

_JSON = "application/json"
_MOST_FAULTS = 10


async def read_body(call: Call, model: type[B]) -> B:
    """Read a JSON object. Raises UnsupportedMediaType, RequestInvalid.

    A page of somebody else can make a browser send a form with the user's password, but no JSON.
    """
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise UnsupportedMediaType(f"the body is to be {_JSON}")
    body = await call.read_small(BODY_LIMIT)
    try:
        strict_json.loads(body)  # a member named twice, or no UTF-8
    except ManifestInvalid as error:
        raise RequestInvalid(error.message) from error
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from None  # what was sent may be a password


def read_query(query: QueryParams, model: type[Q] | None) -> Q | None:
    """Read a query. Raises RequestInvalid, for a parameter that is not one of the model's too."""
    given = query.multi_items()
    if model is None:
        if given:
            raise RequestInvalid(f"this takes no parameter {given[0][0][:50]!r}")
        return None
    if len(given) != len(dict(given)):
        raise RequestInvalid("a parameter is given twice")
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> RequestInvalid:
    """Say where and what is wrong, and nothing of what was sent."""
    faults = [
        {"where": ".".join(map(str, fault["loc"]))[:100], "what": fault["msg"][:200]}
        for fault in error.errors(include_input=False, include_url=False, include_context=False)
    ]
    first = faults[0]
    return RequestInvalid(f"{first['where'] or 'the body'}: {first['what']}", faults=faults[:_MOST_FAULTS])
