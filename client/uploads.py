"""Pushing a blob: begin or mount, send, find out where the registry has got to, go on, close.

Source: distribution-spec spec.md, "Pushing blobs", end-4 to end-6, end-11.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import quote

import httpx

from client.content import Content
from client.errors import ContentMismatch
from client.exchange import Answer, Exchange, Request
from client.retry import is_transient
from storage.oci.digest import Digest
from storage.oci.errors import (
    BlobUploadUnknown,
    Denied,
    EndpointUnknown,
    ManifestTooLarge,
    RangeInvalid,
    RegistryError,
    Unauthorized,
)

# Up to here the blob goes with the request that closes the upload, which saves one.
SINGLE_REQUEST_BYTES = 4 * 1024 * 1024
# What is sent when a proxy refuses a whole blob as too large.
FALLBACK_CHUNK_BYTES = 16 * 1024 * 1024
# A connection that got this far has earned another try.
_PROGRESS_BYTES = 1024 * 1024

_range = re.compile(r"(?:bytes=)?0-(\d{1,19})", re.ASCII).fullmatch
_OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload session: where its next request goes, and how large the registry wants chunks at least."""

    url: httpx.URL
    least_chunk: int = 0


def begin(exchange: Exchange, request: Request) -> Upload | None:
    """Send a POST that begins an upload: None when it mounted the blob instead."""
    return exchange.perform(request, lambda answer: _begun(exchange, answer))


def check_digest(answer: Answer, digest: Digest) -> None:
    """Compare what the registry says it stored. Raises ContentMismatch; silence is no objection."""
    told = answer.headers.get("Docker-Content-Digest", "")
    if told.startswith(f"{digest.algorithm}:") and told != str(digest):
        raise ContentMismatch(f"{answer.url.host} stored {told[:100]} where {digest} was pushed")


def _begun(exchange: Exchange, answer: Answer) -> Upload | None:
    if answer.status == 201:
        return None
    least = answer.headers.get("OCI-Chunk-Min-Length", "")
    return Upload(_location(exchange, answer), int(least[:12]) if least.isascii() and least.isdigit() else 0)


def _location(exchange: Exchange, answer: Answer) -> httpx.URL:
    return exchange.resolve(answer.url, answer.headers.get("Location", ""), "the upload location")


def _closing(url: httpx.URL, digest: Digest) -> httpx.URL:
    """Add the digest to an upload's URL, every other byte of which may be signed."""
    added = f"digest={quote(str(digest), safe='')}".encode("ascii")
    return url.copy_with(query=b"&".join(filter(None, (url.query, added))))


class Push:
    """One blob on its way to a repository."""

    def __init__(
        self,
        exchange: Exchange,
        beginning: Request,
        digest: Digest,
        content: Content,
        chunk_bytes: int | None = None,
    ) -> None:
        """Take the POST that begins an upload, whose scopes and credential the other requests need too."""
        self._exchange = exchange
        self._beginning = beginning
        self._digest = digest
        self._content = content
        self._chunk_bytes = chunk_bytes
        self._upload: Upload | None = None
        self._offset = 0

    def run(self, upload: Upload | None, is_there: Callable[[], bool]) -> None:
        """Push until the registry has the blob; `is_there` asks it, when an answer got lost."""
        self._upload, failures, furthest = upload, 0, 0
        while True:
            try:
                self._send()
                return
            except RegistryError as error:
                failures += 1
                if not self._cure(error):
                    self._cancel()
                    raise
                self._exchange.backoff.fail(error, failures, is_cured=True)
                if self._find_offset(is_there):
                    return
            if self._offset >= furthest + _PROGRESS_BYTES:
                failures, furthest = 0, self._offset

    def _cure(self, error: RegistryError) -> bool:
        """Tell whether going on makes sense, in smaller pieces perhaps."""
        if isinstance(error, ManifestTooLarge) and self._chunk_bytes is None:
            # What a proxy in front of the registry answers to a body above its limit.
            self._chunk_bytes, self._upload = FALLBACK_CHUNK_BYTES, None
            return True
        if self._upload is None:
            return False  # the POST was repeated already
        return is_transient(error) or isinstance(error, RangeInvalid | BlobUploadUnknown | EndpointUnknown)

    def _send(self) -> None:
        if self._upload is None:
            self._upload, self._offset = begin(self._exchange, self._beginning), 0
            if self._upload is None:
                return
        size = self._content.size
        if self._offset == 0 and size <= SINGLE_REQUEST_BYTES and self._chunk_bytes is None:
            self._close(self._upload, self._content)
            return
        while self._offset < size:
            self._append(self._upload, size)
        self._close(self._upload, None)

    def _append(self, upload: Upload, size: int) -> None:
        """Send the rest, or a chunk of it, on the one connection that it takes."""
        stop = size
        if self._chunk_bytes is not None:
            stop = min(size, self._offset + max(self._chunk_bytes, upload.least_chunk))
        headers = dict(_OCTETS)
        if self._offset or stop < size:
            # Left out where everything goes at once, as docker does: not every registry reads it.
            headers["Content-Range"] = f"{self._offset}-{stop - 1}"
        request = replace(
            self._beginning.at(upload.url),
            method="PATCH",
            headers=headers,
            content=self._content,
            start=self._offset,
            until=stop,
            expected=(202,),
            is_repeatable=False,
        )
        self._upload = self._exchange.perform(
            request, lambda answer: replace(upload, url=_location(self._exchange, answer))
        )
        self._offset = stop

    def _close(self, upload: Upload, content: Content | None) -> None:
        request = replace(
            self._beginning.at(_closing(upload.url, self._digest)),
            method="PUT",
            headers=_OCTETS,
            content=content,
            expected=(201,),
            is_repeatable=False,
        )
        self._exchange.perform(request, lambda answer: check_digest(answer, self._digest))

    def _find_offset(self, is_there: Callable[[], bool]) -> bool:
        """Ask where the upload has got to, or forget it; true when the blob turns out to be there."""
        if self._upload is None:
            return False
        request = replace(self._beginning.at(self._upload.url), method="GET", expected=(204,))
        try:
            self._upload, self._offset = self._exchange.perform(request, self._status)
        except RegistryError as error:
            if is_transient(error) or isinstance(error, Unauthorized | Denied):
                raise
            # Nobody knows. Perhaps because it was closed, and only the answer did not arrive.
            self._upload, self._offset = None, 0
            return is_there()
        return False

    def _status(self, answer: Answer) -> tuple[Upload | None, int]:
        match = _range(answer.headers.get("Range", "").strip())
        last = int(match[1]) if match else 0
        # `0-0` is what registries say of one byte and of none.
        offset = last + 1 if last else 0
        if match is None or offset > self._content.size:
            return None, 0
        assert self._upload is not None
        return replace(self._upload, url=_location(self._exchange, answer)), offset

    def _cancel(self) -> None:
        if self._upload is not None:
            request = replace(self._beginning.at(self._upload.url), method="DELETE", expected=(204,))
            with suppress(RegistryError):
                self._exchange.perform(replace(request, is_repeatable=False), lambda _: None)


@dataclass(frozen=True, slots=True)
class Watched:
    """Content whose readers are watched: `progress` is told up to where it was read."""

    content: Content
    progress: Callable[[int], None]

    @property
    def size(self) -> int:
        return self.content.size

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        for block in self.content.read(start, stop):
            yield block
            start += len(block)
            self.progress(start)
