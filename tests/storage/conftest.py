"""The stores that every contract test runs on (TEST-05). A new backend is one line in BACKENDS."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from storage.blobs import BlobStore
from storage.filesystem import FilesystemBlobs, oci_layout_location
from tests.storage.pushing import OpenStore


def filesystem(path: Path) -> OpenStore:
    return partial(FilesystemBlobs, path)


def oci_layout(path: Path) -> OpenStore:
    return partial(FilesystemBlobs, path, locate=oci_layout_location)


BACKENDS = [
    pytest.param(filesystem, id="filesystem"),
    pytest.param(oci_layout, id="oci-layout"),
]


@pytest.fixture(params=BACKENDS)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    backend: Callable[[Path], OpenStore] = request.param
    return backend(tmp_path / "store")


@pytest.fixture
def store(open_store: OpenStore) -> BlobStore:
    return open_store()
