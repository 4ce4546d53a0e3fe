"""What an image is, computed from the bytes that one side really holds."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.e2e.images import digest_of, json_object


@dataclass(frozen=True, slots=True)
class Contents:
    """The digests of an image; the manifest's digest stands for those of the compressed layers too."""

    manifest: str
    config: str
    diff_ids: tuple[str, ...]


def of_blobs(manifest: bytes, open_blob: Callable[[str], IO[bytes]]) -> Contents:
    """Compute the digests of an image whose blobs are at hand as they were transferred."""
    parsed = json_object(manifest)
    with open_blob(parsed["config"]["digest"]) as file:
        config = digest_of(file.read())
    assert config == parsed["config"]["digest"]
    diff_ids = []
    for layer in parsed["layers"]:
        with open_blob(layer["digest"]) as file:
            compressed, diff_id = _layer_digests(file)
        assert compressed == layer["digest"]
        diff_ids.append(diff_id)
    return Contents(digest_of(manifest), config, tuple(diff_ids))


def of_archive(archive: Path, manifest: str) -> Contents:
    """Compute the digests of an image from a docker archive, whose layers are made of files again."""
    with tarfile.open(archive) as tar:
        # tarfile resolves the symbolic links by which docker writes a layer that occurs twice.
        def member(name: str) -> IO[bytes]:
            file = tar.extractfile(name)
            assert file is not None
            return file

        entry = json_object(b'{"all":' + member("manifest.json").read() + b"}")["all"][0]
        config = digest_of(member(entry["Config"]).read())
        diff_ids = [_sha256(member(name)) for name in entry["Layers"]]
    return Contents(manifest, config, tuple(diff_ids))


def _layer_digests(file: IO[bytes]) -> tuple[str, str]:
    """Compute the digest of a layer and its DiffID; only plain and gzip layers are understood."""
    body = file.read()
    if not body.startswith(b"\x1f\x8b"):
        return digest_of(body), digest_of(body)
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as tar:
        return digest_of(body), _sha256(tar)


def _sha256(file: IO[bytes] | gzip.GzipFile) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"
