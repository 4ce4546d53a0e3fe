"""The URLs the registry hands out: relative, under the path prefix, uploads signed."""

import base64
import hashlib
import hmac
from urllib.parse import quote, urlencode

from registry.uploads import Session
from storage.blobs import UploadId
from storage.oci.digest import Digest
from storage.oci.names import RepositoryName

_SIGNATURE_BYTES = 16


class Links:
    """Builds `Location` and `Link` values. Relative ones are right behind every proxy."""

    def __init__(self, prefix: str, key: bytes) -> None:
        self._prefix = prefix
        self._key = key

    def manifest(self, name: RepositoryName, digest: Digest) -> str:
        return f"{self._prefix}/v2/{name}/manifests/{digest}"

    def blob(self, name: RepositoryName, digest: Digest) -> str:
        return f"{self._prefix}/v2/{name}/blobs/{digest}"

    def upload(self, session: Session) -> str:
        """Link to an upload, signed so that ids cannot be tried (ISO-04)."""
        state = self._sign(session.name, session.upload)
        return f"{self._prefix}/v2/{session.name}/blobs/uploads/{session.upload}?_state={state}"

    def is_signed(self, name: RepositoryName, upload: UploadId, state: str) -> bool:
        """Say whether `state` is what `upload` put into the link of this repository's upload."""
        return hmac.compare_digest(self._sign(name, upload).encode(), state.encode())

    def next_page(self, path: str, **query: str | int | None) -> str:
        """Link to the next page. Source: RFC 8288 (which replaced RFC 5988), relation `next`."""
        given = {key: value for key, value in query.items() if value is not None}
        return f'<{self._prefix}{quote(path)}?{urlencode(given)}>; rel="next"'

    def _sign(self, name: RepositoryName, upload: UploadId) -> str:
        signature = hmac.digest(self._key, f"{name}\n{upload}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(signature[:_SIGNATURE_BYTES]).rstrip(b"=").decode()
