"""Archives as tar and docker make them, good and odd ones."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.client.places.samples import layer

Members = dict[str, bytes]


def pack(path: Path, members: Members, *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for entry in more:
            tar.addfile(entry)
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def packed(layout: Path, path: Path) -> Path:
    """Make an archive of a layout as other programs do."""
    with tarfile.open(path, "w") as tar:
        tar.add(layout, arcname=".")
    return path


def entry(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = type_, link
    return made


def saved(compress: Callable[[bytes], bytes] = bytes, **changes: object) -> Members:
    layers = [layer("one"), layer("two")]
    diff_ids = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    listed = {"Config": name, "RepoTags": ["app:v1"], "Layers": ["a/layer.tar", "b/layer.tar"], **changes}
    return {
        name: config,
        "a/layer.tar": compress(layers[0]),
        "b/layer.tar": compress(layers[1]),
        "manifest.json": json.dumps([listed]).encode(),
    }
