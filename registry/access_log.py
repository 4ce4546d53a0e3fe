"""The access log: one JSON line a request on stdout, without secrets.

Lines are gathered and written at most ten times a second: a write per request would cost more than
answering a small one.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as _quote
from typing import TextIO

from registry import metrics
from registry.head import METHODS
from storage.oci.errors import RegistryError

_FLUSH_SECONDS = 0.1
_MOST_LINES = 1000


class AccessLog:
    """Gathers lines on the event loop. `close` writes what is left."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._second = 0
        self._time = ""
        self._timer: asyncio.TimerHandle | None = None

    def write(
        self,
        *,
        method: str,
        path: str,
        status: int,
        size: int,
        seconds: float,
        client: str,
        agent: str,
        user: str,
    ) -> None:
        """Add a line. `size` is the answer's body in bytes; the path comes without its query."""
        # JSON escapes control characters, so a name or agent can never forge a line (OPS-03).
        self._lines.append(
            f'{{"time":"{self._now()}","client":{_quote(client)},"user":{_quote(user)},"method":{_quote(method)},'
            f'"path":{_quote(path)},"status":{status},"bytes":{size},"ms":{seconds * 1000:.2f},'
            f'"agent":{_quote(agent[:200])}}}\n'
        )
        if len(self._lines) >= _MOST_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        stream = self._stream or sys.stdout
        stream.write("".join(lines))
        stream.flush()

    def _now(self) -> str:
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._time = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        return f"{self._time}.{int(now * 1000) % 1000:03d}Z"


class Refusals:
    """Tells what was refused before it was a request: no application ever heard of it."""

    def __init__(self, access_log: AccessLog | None) -> None:
        self._access_log = access_log

    def report(self, error: RegistryError, client: str, method: bytes, target: bytes) -> None:
        """Count and log a refusal; method and target are what was understood until then."""
        is_known = method in METHODS
        metrics.count_request("none", method.decode() if is_known else "other", error.status, 0.0)
        if self._access_log is not None:
            self._access_log.write(
                method=method.decode("ascii", "backslashreplace"),
                path=target.partition(b"?")[0].decode("ascii", "backslashreplace"),
                status=error.status,
                size=0,
                seconds=0.0,
                client=client,
                agent="",
                user="",
            )

    def flush(self) -> None:
        if self._access_log is not None:
            self._access_log.flush()


def client_address(scope: Mapping[str, object]) -> str:
    """Return the address a request came from; a unix socket has none."""
    client = scope.get("client")
    return str(client[0]) if isinstance(client, tuple | list) and client else "-"
