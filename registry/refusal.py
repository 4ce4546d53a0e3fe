"""An error as an answer: the one place that gives it status, headers and the spec's JSON over ASGI."""

from starlette.responses import Response

from storage.oci.errors import RegistryError, render


def refusal(error: RegistryError) -> Response:
    """Build the answer that tells an error. Source: distribution-spec spec.md, "Error Codes"."""
    return Response(
        render(error), status_code=error.status, headers=error.headers, media_type="application/json"
    )
