"""A load generator that costs little: raw sockets, prepared buffers, and no copies beyond the kernel's."""

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

MIB = 1 << 20
REPOSITORY = "bench/app"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
# What docker and podman send.
_CHUNK = 32 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """A status, the headers in lower case, and the bytes of the body that came with them."""

    status: int
    headers: dict[str, str]
    body: bytes

    def location(self) -> str:
        """Give the path and query of the Location header."""
        parts = urlsplit(self.headers["location"])
        return f"{parts.path}?{parts.query}" if parts.query else parts.path


class Connection:
    """One keep-alive connection to a server on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = f"127.0.0.1:{port}"

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | memoryview = b"") -> None:
        """Send a request whose headers say how long its body is."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        if body:
            self._socket.sendall(body)

    def receive(self) -> Response:
        """Read a response with all its body."""
        head, rest = self._receive_head()
        body = bytearray(rest)
        while len(body) < int(head.headers.get("content-length", "0")):
            body += self._received()
        return Response(head.status, head.headers, bytes(body))

    def receive_into(self, buffer: memoryview) -> int:
        """Read a response, drop its body through a buffer, and return the body's size."""
        head, rest = self._receive_head()
        if head.status != 200:
            raise SystemExit(f"error: GET answered {head.status}")
        size = int(head.headers["content-length"])
        remaining = size - len(rest)
        while remaining:
            count = self._socket.recv_into(buffer, min(remaining, len(buffer)))
            if not count:
                raise SystemExit("error: the body was cut")
            remaining -= count
        return size

    def _receive_head(self) -> tuple[Response, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._received()
        head, _, rest = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return Response(int(status_line.split()[1]), headers, b""), rest

    def _received(self) -> bytes:
        data = self._socket.recv(64 * 1024)
        if not data:
            raise SystemExit("error: the server closed the connection")
        return data


@contextmanager
def connected(port: int) -> Iterator[Connection]:
    """Connect while the block lasts."""
    connection = Connection(port)
    try:
        yield connection
    finally:
        connection.close()


class Payload:
    """Random bytes, also framed as a chunked body; `renew` makes them a blob that no server has seen."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._data = bytearray(os.urandom(size))
        self._framed = bytearray()
        for start in range(0, size, _CHUNK):
            block = self._data[start : start + _CHUNK]
            self._framed += b"%x\r\n" % len(block) + block + b"\r\n"
        self._framed += b"0\r\n\r\n"
        self.digest = ""
        self.renew()

    @property
    def data(self) -> memoryview:
        """The bytes of the blob."""
        return memoryview(self._data)

    @property
    def framed(self) -> memoryview:
        """The blob in chunks of 32 KiB, to the end of the body."""
        return memoryview(self._framed)

    def renew(self) -> None:
        """Change the first bytes and the digest."""
        start = self._framed.index(b"\r\n") + 2
        fresh = os.urandom(16)
        self._data[:16] = fresh
        self._framed[start : start + 16] = fresh
        self.digest = f"sha256:{hashlib.sha256(self._data).hexdigest()}"


def put_blob(port: int, payload: Payload) -> None:
    """Upload as containerd does: POST, then one PUT with the whole body, on one connection."""
    with connected(port) as connection:
        location = _begin(connection)
        path = _with_digest(location, payload.digest)
        headers = {"Content-Length": str(payload.size), "Content-Type": "application/octet-stream"}
        connection.send("PUT", path, headers, payload.data)
        _expect(connection.receive(), 201)


def patch_blob(port: int, payload: Payload) -> None:
    """Upload as docker does: POST, one chunked PATCH, an empty PUT, each on a connection of its own."""
    close = {"Connection": "close"}
    with connected(port) as connection:
        location = _begin(connection, **close)
    with connected(port) as connection:
        connection.send("PATCH", location, {"Transfer-Encoding": "chunked", **close}, payload.framed)
        location = _expect(connection.receive(), 202).location()
    with connected(port) as connection:
        connection.send("PUT", _with_digest(location, payload.digest), {"Content-Length": "0", **close})
        _expect(connection.receive(), 201)


def put_manifest(port: int, layer: Payload, *, tag: str) -> int:
    """Tag an image of one layer that is there already, and return the size of its manifest."""
    config = b'{"architecture":"amd64","os":"linux"}'
    config_digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    layer_type = f"{MANIFEST_TYPE.replace('manifest.v1+json', 'layer.v1.tar')}+gzip"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": MANIFEST_TYPE.replace("manifest", "config"),
                "digest": config_digest,
                "size": len(config),
            },
            "layers": [{"mediaType": layer_type, "digest": layer.digest, "size": layer.size}],
        }
    ).encode()
    with connected(port) as connection:
        path = _with_digest(_begin(connection), config_digest)
        connection.send("PUT", path, {"Content-Length": str(len(config))}, config)
        _expect(connection.receive(), 201)
        headers = {"Content-Length": str(len(manifest)), "Content-Type": MANIFEST_TYPE}
        connection.send("PUT", f"/v2/{REPOSITORY}/manifests/{tag}", headers, manifest)
        _expect(connection.receive(), 201)
    return len(manifest)


def _begin(connection: Connection, **headers: str) -> str:
    connection.send("POST", f"/v2/{REPOSITORY}/blobs/uploads/", {"Content-Length": "0", **headers})
    return _expect(connection.receive(), 202).location()


def _with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={re.sub(':', '%3A', digest)}"


def _expect(response: Response, status: int) -> Response:
    if response.status != status:
        raise SystemExit(f"error: expected {status}, got {response.status}: {response.body!r}")
    return response
