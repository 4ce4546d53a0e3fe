"""An error as an answer, over ASGI or on a connection: its status, its headers and the spec's JSON."""

from collections.abc import Iterable

from starlette.responses import Response

from storage.oci.errors import RegistryError, render


def refusal(error: RegistryError) -> Response:
    """Build the answer that tells an error. Source: distribution-spec spec.md, "Error Codes"."""
    return Response(
        render(error), status_code=error.status, headers=error.headers, media_type="application/json"
    )


def on_the_wire(error: RegistryError, more_headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Write down the answer that tells an error and ends its connection. Source: RFC 9112 §2.1."""
    body = render(error)
    head = [f"HTTP/1.1 {error.status} Refused", "content-type: application/json"]
    head += [f"{name.lower()}: {value}" for name, value in error.headers.items()]
    head += [f"{name.decode()}: {value.decode()}" for name, value in more_headers]
    head += [f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(head).encode("latin-1") + body
