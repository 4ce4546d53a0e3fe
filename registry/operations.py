"""What operators ask: is it alive, is it ready, how is it doing."""

from collections.abc import Callable
from importlib.metadata import version

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from registry import metrics
from registry.refusal import refusal
from storage.oci.errors import EndpointUnknown, RegistryError, Unsupported


class Operations:
    """Answers /, /livez, /readyz and /metrics. `check` raises a RegistryError when it is not ready."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = self._answer(scope["method"], scope["raw_path"])
        except RegistryError as error:
            response = refusal(error)
        await response(scope, receive, send)

    def _answer(self, method: str, path: bytes) -> Response:
        answers = {b"/": _hello, b"/livez": _alive, b"/readyz": self._ready, b"/metrics": _metrics}
        if path not in answers:
            raise EndpointUnknown("no such path; the registry API starts at /v2/")
        if method not in ("GET", "HEAD"):
            raise Unsupported(f"{method} is not supported here", allow=("GET", "HEAD"))
        return answers[path]()

    def _ready(self) -> Response:
        self._check()
        return PlainTextResponse("ready\n")


def _hello() -> Response:
    return PlainTextResponse(f"cargohold {version('cargohold')}, an OCI registry. Its API starts at /v2/\n")


def _alive() -> Response:
    return PlainTextResponse("alive\n")


def _metrics() -> Response:
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)
