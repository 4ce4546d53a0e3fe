"""One registry host: one method a request of the distribution API. Source: distribution-spec spec.md."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from client import listing, uploads
from client.auth import TokenCache
from client.blob_stream import BlobStream
from client.content import BytesContent, Content
from client.credentials import ANONYMOUS, Credential, Credentials
from client.endpoints import Host
from client.errors import AnswerTooLarge, ContentMismatch
from client.exchange import Answer, Exchange, Request, StorageRefused
from client.network import NETWORK, Network, connect
from client.scopes import CATALOG, Scopes, delete, pull, push
from client.uploads import Push, Upload, Watched
from storage.oci import media_types
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import (
    BlobRangeInvalid,
    BlobUnknown,
    DigestInvalid,
    EndpointUnknown,
    ManifestUnknown,
    NameUnknown,
    RangeInvalid,
    RegistryError,
    Unsupported,
)
from storage.oci.manifest import MANIFEST_LIMIT, Manifest
from storage.oci.names import Reference, RepositoryName, Tag, referrers_tag

_ACCEPT = {"Accept": ", ".join(media_types.MANIFESTS)}
_DELETED = (202, 200, 204)
# What storages answer to a Range that they do not serve.
_NO_PARTS = (400, 416, 501)


class Session:
    """Talks to one registry host. Safe to use from several threads; close it, or use it in a `with`.

    Every method raises the errors of storage.oci.errors that the registry answers with, and those of
    client.errors for answers that do not come or cannot be believed.
    """

    def __init__(
        self,
        host: Host,
        credentials: Credentials = ANONYMOUS,
        network: Network = NETWORK,
        tokens: TokenCache | None = None,
    ) -> None:
        self.host = host
        self._credentials = credentials
        self._network = network
        self._tokens = tokens
        self._lock = threading.Lock()
        self._exchange: Exchange | None = None
        self._found: dict[RepositoryName | None, Credential | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._exchange is not None:
            self._exchange.close()

    @property
    def exchange(self) -> Exchange:
        """What sends this session's requests; made by the first one, which may have to ask for TLS."""
        with self._lock:
            if self._exchange is None:
                self._exchange = connect(self.host, self._network, self._tokens)
            return self._exchange

    def ping(self) -> None:
        """Check that this is a registry which lets us in. Source: end-1."""
        self.exchange.perform(self._request("GET", "/"), _drain)

    def login(self, credential: Credential) -> Credential:
        """Check a credential; return what to store: a refresh token where the registry gives one.

        Raises Unauthorized.
        """
        request = replace(self._request("GET", "/"), find_credential=lambda: credential)
        self.exchange.perform(request, _drain)
        return self.exchange.authenticator.login(credential)

    # Manifests

    def get_manifest(self, name: RepositoryName, reference: Reference, size: int | None = None) -> Manifest:
        """Fetch a manifest: its exact bytes, checked against a digest and a descriptor's `size`.

        Raises ManifestUnknown; ContentMismatch for other content than was asked for; ManifestInvalid.
        Source: end-3.
        """
        request = self._request("GET", f"/{name}/manifests/{reference}", pull(name), headers=_ACCEPT)
        with self._missing(ManifestUnknown, name, reference):
            return self.exchange.perform(request, lambda answer: _manifest(answer, reference, size))

    def head_manifest(self, name: RepositoryName, reference: Reference) -> Descriptor:
        """Ask for type, digest and size of a manifest, which nobody has checked. Source: end-3.

        Where an answer lacks one of them the manifest is fetched instead.
        """
        request = self._request("HEAD", f"/{name}/manifests/{reference}", pull(name), headers=_ACCEPT)
        found = None
        with suppress(Unsupported), self._missing(ManifestUnknown, name, reference):
            found = self.exchange.perform(request, _manifest_head)
        if found is not None and isinstance(reference, Digest) and found.digest != reference:
            if found.digest.algorithm == reference.algorithm:
                raise ContentMismatch(f"{self.host.address} answers {found.digest} for {reference}")
            found = None  # nobody can tell whether it is the same
        if found is None:
            manifest = self.get_manifest(name, reference)
            return Descriptor(manifest.media_type, manifest.digest, manifest.size)
        return found

    def put_manifest(self, name: RepositoryName, reference: Reference, manifest: Manifest) -> None:
        """Push the exact bytes of a manifest. Source: end-7.

        Raises ManifestBlobUnknown; ContentMismatch when the registry has stored other bytes.
        """
        request = self._request(
            "PUT",
            f"/{name}/manifests/{reference}",
            push(name),
            headers={"Content-Type": manifest.media_type},
            content=BytesContent(manifest.body),
            expected=(201,),
        )
        self.exchange.perform(request, lambda answer: uploads.check_digest(answer, manifest.digest))

    def delete_manifest(self, name: RepositoryName, reference: Reference) -> None:
        """Delete a tag, or a manifest with its tags. Raises ManifestUnknown, Unsupported. Source: end-9."""
        request = self._request("DELETE", f"/{name}/manifests/{reference}", delete(name), expected=_DELETED)
        with self._missing(ManifestUnknown, name, reference):
            self.exchange.perform(request, _drain)

    # Blobs

    def head_blob(self, name: RepositoryName, digest: Digest) -> int | None:
        """Return the size of a blob, None when nobody says. Raises BlobUnknown. Source: end-2."""
        request = self._request("HEAD", f"/{name}/blobs/{digest}", pull(name))
        with self._missing(BlobUnknown, name, digest):
            return self.exchange.perform(request, lambda answer: answer.length)

    def has_blob(self, name: RepositoryName, digest: Digest) -> bool:
        try:
            self.head_blob(name, digest)
        except BlobUnknown:
            return False
        return True

    def open_blob(
        self,
        name: RepositoryName,
        digest: Digest,
        start: int = 0,
        stop: int | None = None,
        *,
        size: int | None = None,
    ) -> BlobStream:
        """Start to fetch a blob, or its bytes from `start` up to `stop`; nothing checks the digest yet.

        The caller closes the stream. `size` is the descriptor's, with which the answer must agree.
        Raises BlobUnknown, BlobRangeInvalid, AnswerInvalid, ContentMismatch. Source: end-2; RFC 9110, 14.
        """
        is_part = start > 0 or stop is not None
        headers = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"} if is_part else {}
        request = self._request(
            "GET",
            f"/{name}/blobs/{digest}",
            pull(name),
            headers=headers,
            expected=(200, 206) if is_part else (200,),
        )
        try:
            with self._missing(BlobUnknown, name, digest):
                answer = self.exchange.open(request)
        except RangeInvalid as error:  # what a 416 without a body we know is read as
            raise BlobRangeInvalid(error.message, size=size) from error
        except StorageRefused as error:
            if is_part and error.detail["status"] in _NO_PARTS:
                raise BlobRangeInvalid(error.message, size=size) from error
            raise
        return _opened(answer, (start, stop), size)

    def read_blob(self, name: RepositoryName, descriptor: Descriptor) -> bytes:
        """Fetch a small blob, up to 4 MiB, whole and checked. Raises ContentMismatch, BlobUnknown."""
        request = self._request("GET", f"/{name}/blobs/{descriptor.digest}", pull(name))
        with self._missing(BlobUnknown, name, descriptor.digest):
            return self.exchange.perform(request, lambda answer: _checked(answer, descriptor))

    def delete_blob(self, name: RepositoryName, digest: Digest) -> None:
        """Raises BlobUnknown, Unsupported. Source: end-10."""
        request = self._request("DELETE", f"/{name}/blobs/{digest}", delete(name), expected=_DELETED)
        with self._missing(BlobUnknown, name, digest):
            self.exchange.perform(request, _drain)

    def open_foreign(self, url: str, size: int) -> BlobStream:
        """Start to fetch a layer from a URL in its descriptor, which gets no credentials (NET-06)."""
        target = self.exchange.resolve(self.exchange.registry, url, "the layer's URL")
        return _opened(self.exchange.open_anonymous(Request("GET", target)), (0, None), size)

    # Uploads

    def mount_blob(self, name: RepositoryName, digest: Digest, source: RepositoryName) -> Upload | None:
        """Share a blob of another repository: None when done, else the upload that was begun instead.

        Without the right to read there the registry may answer Unauthorized or Denied. Source: end-11.
        """
        query = {"mount": str(digest), "from": source.value}
        return uploads.begin(self.exchange, self._beginning(name, pull(source), query))

    def upload_blob(
        self,
        name: RepositoryName,
        digest: Digest,
        content: Content,
        *,
        upload: Upload | None = None,
        chunk_bytes: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Push a blob, and go on where the registry has got to when the connection breaks.

        `upload` is one that mount_blob began; `chunk_bytes` cuts the content into requests of that size;
        `progress` is told how many bytes have left. Source: end-4 to end-6.
        """
        watched = content if progress is None else Watched(content, progress)
        beginning = self._beginning(name)
        Push(self.exchange, beginning, digest, watched, chunk_bytes).run(
            upload, lambda: self.has_blob(name, digest)
        )

    # Lists

    def tags(self, name: RepositoryName, last: str | None = None, page: int | None = None) -> Iterator[Tag]:
        """Yield the tags after `last` in the registry's order. Raises NameUnknown. Source: end-8."""
        request = self._request("GET", f"/{name}/tags/list", pull(name), query={"last": last, "n": page})
        with self._missing(NameUnknown, name):
            yield from listing.names(self.exchange, request, "tags", Tag.parse)

    def catalog(self, last: str | None = None, page: int | None = None) -> Iterator[RepositoryName]:
        """Yield the repositories. Source: distribution's docs/spec/api.md, "Listing Repositories"."""
        request = self._request("GET", "/_catalog", (CATALOG,), query={"last": last, "n": page})
        yield from listing.names(self.exchange, request, "repositories", RepositoryName.parse)

    def referrers(
        self, name: RepositoryName, digest: Digest, artifact_type: str | None = None
    ) -> list[Descriptor]:
        """List the manifests whose subject is `digest`, of one artifact type if that is given.

        A registry without the referrers API is asked for the tag that stands in. Source: end-12.
        """
        request = self._request(
            "GET", f"/{name}/referrers/{digest}", pull(name), query={"artifactType": artifact_type}
        )
        try:
            found = listing.referrers(self.exchange, request)
        except (EndpointUnknown, NameUnknown, ManifestUnknown, Unsupported):
            found = self._tagged_referrers(name, digest)
        # A registry need not filter, and the tag cannot.
        return [each for each in found if artifact_type in (None, each.artifact_type)]

    def _tagged_referrers(self, name: RepositoryName, digest: Digest) -> list[Descriptor]:
        try:
            return list(self.get_manifest(name, referrers_tag(digest)).manifests)
        except (ManifestUnknown, NameUnknown):
            return []

    def _beginning(
        self, name: RepositoryName, more: Scopes = (), query: Mapping[str, str] | None = None
    ) -> Request:
        """Make the POST that begins an upload: it has no body, so that a 401 to it costs nothing."""
        return self._request(
            "POST",
            f"/{name}/blobs/uploads/",
            (*push(name), *more),
            query=query,
            expected=(201, 202) if query else (202,),
        )

    def _request(
        self,
        method: str,
        path: str,
        scopes: Scopes = (),
        *,
        query: Mapping[str, str | int | None] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        expected: tuple[int, ...] = (200,),
    ) -> Request:
        """Make a request for a path below the API's; the first scope is that of its repository."""
        url = self.exchange.registry.join(self.host.api_path + path)
        for key, value in {**(query or {}), "ns": self.host.namespace}.items():
            if value is not None:
                url = url.copy_add_param(key, value)
        repository = RepositoryName(scopes[0].name) if scopes and scopes[0].kind == "repository" else None
        return Request(
            method,
            url,
            scopes,
            headers or {},
            content,
            expected=expected,
            find_credential=lambda: self._credential(repository),
        )

    def _credential(self, repository: RepositoryName | None) -> Credential | None:
        with self._lock:
            if repository not in self._found:
                self._found[repository] = self._credentials.find(self.host.name, repository)
            return self._found[repository]

    @contextmanager
    def _missing(self, kind: type[RegistryError], name: object, reference: object = "") -> Iterator[None]:
        """Say what is missing: a 404 to a HEAD says nothing, and most others not which one they mean."""
        try:
            yield
        except (EndpointUnknown, kind) as error:
            tag = f'tag "{reference}" in ' if isinstance(reference, Tag) else ""
            what = tag or (f"{reference} in " if reference else "")
            missing = kind(f"no {what}{self.host.name}/{name}")
            missing.detail = error.detail
            raise missing from error


def _drain(answer: Answer) -> None:
    """Read a body that does not matter, so that the connection can be used again."""
    answer.read(MANIFEST_LIMIT)


def _manifest(answer: Answer, reference: Reference, size: int | None) -> Manifest:
    body = answer.read(MANIFEST_LIMIT)
    algorithm = reference.algorithm if isinstance(reference, Digest) else "sha256"
    digest = Digest.of(body, algorithm)
    # Before anything reads the content: that of another digest may be anything (CLI-08).
    if isinstance(reference, Digest) and digest != reference:
        raise ContentMismatch(f"{answer.url.host} answers {digest} for {reference}")
    if size is not None and len(body) != size:
        raise ContentMismatch(f"{reference} has {len(body)} bytes where its descriptor says {size}")
    return Manifest.parse(answer.headers.get("Content-Type"), body, algorithm)


def _manifest_head(answer: Answer) -> Descriptor | None:
    media_type = media_types.essence(answer.headers.get("Content-Type", ""))
    try:
        digest = Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
    except DigestInvalid:
        return None
    if answer.length is None or not media_types.is_manifest(media_type):
        return None
    return Descriptor(media_type, digest, answer.length)


def _checked(answer: Answer, descriptor: Descriptor) -> bytes:
    if descriptor.size > MANIFEST_LIMIT:
        raise AnswerTooLarge(f"{descriptor.digest} has {descriptor.size} bytes, too many to be read at once")
    body = answer.read(descriptor.size)
    if len(body) != descriptor.size or Digest.of(body, descriptor.digest.algorithm) != descriptor.digest:
        raise ContentMismatch(f"{answer.url.host} sends other content than {descriptor.digest}")
    return body


def _opened(answer: Answer, wanted: tuple[int, int | None], size: int | None) -> BlobStream:
    try:
        return BlobStream(answer, wanted, size)
    except BaseException:
        answer.close()
        raise
