"""The store's index.json, made from its rows: by it other programs read the store as an OCI image layout.

Source: image-spec image-layout.md, "index.json File".
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.partial import disk_errors
from client.store import locks
from storage.database import Connection
from storage.oci import media_types

if TYPE_CHECKING:
    from client.store.store import Store

_REF_NAME = "org.opencontainers.image.ref.name"
# What `ctr images import` takes for the name; it would put its own before the other one.
_CONTAINERD_NAME = "io.containerd.image.name"

_STATEMENT = (
    "SELECT manifest.media_type, image.digest, manifest.size, tag.name FROM image"
    " JOIN manifest ON manifest.digest = image.digest LEFT JOIN tag ON tag.digest = image.digest"
    " ORDER BY tag.name, image.digest"
)


def write(store: "Store") -> None:
    """Bring index.json up to date. Of several processes the last one to write has seen all rows."""
    directory = store.directory
    with disk_errors(directory.root):
        fd = locks.lock(directory.index_lock)
    with locks.released(fd):
        data = render(store)
        if _read(directory.index_file) != data:
            directory.write(directory.index_file, data)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def render(store: "Store") -> bytes:
    """Write the index as the rows are now."""
    manifests = store.database.read(_descriptors)
    document = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": manifests}
    return json.dumps(document, indent=2).encode()


def _descriptors(connection: Connection) -> list[dict[str, Any]]:
    return [_descriptor(*row) for row in connection.execute(_STATEMENT)]


def _descriptor(media_type: str, digest: str, size: int, name: str | None) -> dict[str, Any]:
    descriptor: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": size}
    if name is not None:
        descriptor["annotations"] = {_REF_NAME: name, _CONTAINERD_NAME: name}
    return descriptor
