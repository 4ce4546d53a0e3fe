"""A small image to run: busybox, some users, and whatever a test adds."""

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from client.bundle.bundle import write_bundle
from client.bundle.options import BundleOptions
from client.unpack.layer import apply_layers
from client.unpack.options import Form, Options
from storage.oci.image_config import ImageConfig
from tests.client.unpack.archives import archive, directory, file, symlink

BUSYBOX = Path("/usr/bin/busybox")
needs_runc = pytest.mark.skipif(
    shutil.which("runc") is None or not BUSYBOX.exists(), reason="runc or busybox-static is not installed"
)

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# comment:x:1:1:::
broken
worker:x:1000:1001:Worker:/home/worker:/bin/sh
huge:x:4294967296:1:::
daemon:x:2:2::relative:
short:x:7:8
"""
GROUP = b"""root:x:0:
worker:x:1001:
wheel:x:10:root,worker
audio:x:29:worker,other
staff:x:50:worker
staff:x:50:worker
huge:x:4294967296:worker
short:x:60
"""


def layer(*more: bytes) -> bytes:
    applets = [symlink(f"bin/{name}", "busybox") for name in ("sh", "cat", "id", "env", "pwd", "ls", "stat")]
    return archive(
        directory("./", mode=0o755),
        directory("bin"),
        file("bin/busybox", BUSYBOX.read_bytes(), mode=0o755),
        *applets,
        directory("etc"),
        file("etc/passwd", PASSWD),
        file("etc/group", GROUP),
        *more,
    )


def filler(*layers: bytes) -> Callable[[Path], None]:
    def fill(root: Path) -> None:
        streams = [(io.BytesIO(data), None) for data in layers]
        apply_layers(streams, root, options=Options(form=Form.FLAT))

    return fill


def image(config: dict[str, object] | None = None, **members: object) -> ImageConfig:
    document = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": config or {},
        **members,
    }
    return ImageConfig.parse(json.dumps(document).encode())


def bundle(
    place: Path, config: dict[str, object], *more: bytes, options: BundleOptions | None = None
) -> Path:
    write_bundle(place, image(config), filler(layer(*more)), options)
    return place


def run(place: Path) -> subprocess.CompletedProcess[str]:
    """Start a bundle with runc and wait for its end; its state is beside it."""
    command = [
        "runc",
        "--root",
        f"{place}-runc",
        "run",
        "--bundle",
        str(place),
        f"cargohold-{place.parent.name}",
    ]
    return subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def output(place: Path) -> str:
    result = run(place)
    assert result.returncode == 0, result.stderr
    return result.stdout
