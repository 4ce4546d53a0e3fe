"""Real images, written as OCI layouts without the code under test, each built once and kept in a cache."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import random
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.e2e.sandbox import Sandbox, program

_OCI = "application/vnd.oci.image"
INDEX_TYPE = f"{_OCI}.index.v1+json"
MANIFEST_TYPE = f"{_OCI}.manifest.v1+json"
CONFIG_TYPE = f"{_OCI}.config.v1+json"
TAR_TYPE = f"{_OCI}.layer.v1.tar"
GZIP_TYPE = f"{TAR_TYPE}+gzip"
ZSTD_TYPE = f"{TAR_TYPE}+zstd"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
ARTIFACT_TYPE = "application/vnd.example.sbom.v1"

_EPOCH = 1_700_000_000
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "s390x": "s390x"}
_PLATFORMS: tuple[dict[str, str], ...] = (
    {"architecture": "s390x", "os": "linux"},
    {"architecture": "arm64", "os": "linux", "variant": "v8"},
    {"architecture": "arm", "os": "linux", "variant": "v7"},
    {"architecture": "amd64", "os": "linux"},
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """An image in an OCI layout, under the tag `latest`."""

    layout: Path
    digest: str

    @property
    def reference(self) -> str:
        """The layout as skopeo, podman and buildah spell it."""
        return f"oci:{self.layout}:latest"

    @property
    def body(self) -> bytes:
        """The bytes of the manifest or index."""
        return self.blob(self.digest)

    def blob(self, digest: str) -> bytes:
        """Read one blob of the layout."""
        return _blob_path(self.layout, digest).read_bytes()

    def manifest(self) -> Json:
        """Parse the manifest or index."""
        return json_object(self.body)

    def diff_ids(self) -> tuple[str, ...]:
        """Read the digests of the uncompressed layers from the configuration."""
        config = json_object(self.blob(self.manifest()["config"]["digest"]))
        return tuple(config["rootfs"]["diff_ids"])


def json_object(body: bytes) -> Json:
    """Parse JSON that is known to be an object."""
    parsed: Json = json.loads(body)
    return parsed


def digest_of(body: bytes) -> str:
    """Compute a digest as the specifications write it."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def host_architecture() -> str:
    """Name this machine's architecture as images do."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def child_of_this_machine(index: bytes) -> str:
    """Select from an index the manifest for this machine's architecture and return its digest."""
    (child,) = [
        child["digest"]
        for child in json_object(index)["manifests"]
        if child["platform"]["architecture"] == host_architecture()
    ]
    return str(child)


def _blob_path(layout: Path, digest: str) -> Path:
    algorithm, _, hexadecimal = digest.partition(":")
    return layout / "blobs" / algorithm / hexadecimal


class LayoutWriter:
    """Writes one OCI layout: blobs first, then `finish` with what carries the tag."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def add(self, media_type: str, body: bytes) -> Json:
        """Store bytes and return their descriptor."""
        digest = digest_of(body)
        _blob_path(self.root, digest).write_bytes(body)
        return {"mediaType": media_type, "digest": digest, "size": len(body)}

    def add_layer(self, tar: IO[bytes], *, compressed: bool) -> tuple[Json, str]:
        """Store a layer from a tar stream and return its descriptor and its DiffID."""
        diff_id = hashlib.sha256()
        temporary = self.root / "layer"
        with temporary.open("wb") as file, _gzip_writer(file, compressed=compressed) as target:
            while block := tar.read(1 << 20):
                diff_id.update(block)
                target.write(block)
        with temporary.open("rb") as written:
            digest = f"sha256:{hashlib.file_digest(written, 'sha256').hexdigest()}"
        media_type = GZIP_TYPE if compressed else TAR_TYPE
        descriptor = {"mediaType": media_type, "digest": digest, "size": temporary.stat().st_size}
        temporary.rename(_blob_path(self.root, digest))
        return descriptor, f"sha256:{diff_id.hexdigest()}"

    def add_image(self, layers: list[tuple[Json, str]], target: dict[str, str]) -> Json:
        """Store the configuration and manifest of an image and return the manifest's descriptor."""
        config = {
            "created": "2023-11-14T22:13:20Z",
            **target,
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
            "history": [{"created_by": "tests/e2e/images.py"} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.add(CONFIG_TYPE, json_bytes(config)),
            "layers": [descriptor for descriptor, _ in layers],
        }
        return self.add(MANIFEST_TYPE, json_bytes(manifest))

    def finish(self, descriptor: Json) -> None:
        """Give the tag `latest` to a manifest or index."""
        named = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": "latest"}}
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [named]}
        (self.root / "index.json").write_bytes(json_bytes(index))


def json_bytes(value: Json) -> bytes:
    """Serialise the same way each time."""
    return json.dumps(value, indent=2).encode()


@contextlib.contextmanager
def _gzip_writer(file: IO[bytes], *, compressed: bool) -> Iterator[IO[bytes] | gzip.GzipFile]:
    if not compressed:
        yield file
        return
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as target:
        yield target


@dataclass(frozen=True, slots=True)
class ImageCache:
    """Builds images on first use and keeps them, named by what they are made of."""

    directory: Path
    sandbox: Sandbox

    def busybox(self) -> Image:
        """One layer: a static busybox and its links."""
        return self._layout("busybox", lambda root: _write_layers(root, [_busybox_tar()], compressed=True))

    def layered(self) -> Image:
        """Four layers with links, odd names, attributes, whiteouts and incompressible data."""
        return self._layout("layered", lambda root: _write_layers(root, _layer_tars(), compressed=True))

    def index(self) -> Image:
        """An index of four platforms."""
        return self._layout("index", _write_index)

    def artifact(self) -> Image:
        """A software bill of materials whose subject is `busybox`."""
        subject = self.busybox()
        return self._layout("artifact", lambda root: _write_artifact(root, subject))

    def zstd(self) -> Image:
        """The image `layered`, its layers compressed by skopeo as zstd."""
        return self._layout("zstd", self._write_zstd)

    def debian(self) -> Image:
        """A whole Debian root file system in one layer, or skip where no mirror can be reached."""
        tar = self.debian_tar()

        def write(root: Path) -> None:
            writer = LayoutWriter(root)
            with tar.open("rb") as file:
                layer = writer.add_layer(file, compressed=True)
            writer.finish(writer.add_image([layer], {"architecture": host_architecture(), "os": "linux"}))

        return self._layout("debian", write)

    def debian_tar(self) -> Path:
        """The Debian root file system as mmdebstrap writes it."""
        mmdebstrap = program("mmdebstrap")

        def write(root: Path) -> None:
            root.mkdir()
            command = [mmdebstrap, "--variant=minbase", "--format=tar", "bookworm", str(root / "debian.tar")]
            environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
            if done.returncode != 0:
                pytest.skip(f"LEFT OUT: mmdebstrap cannot make a root file system: {done.stderr[-500:]}")

        return self._built("debian-bookworm", write) / "debian.tar"

    def _layout(self, name: str, write: Callable[[Path], None]) -> Image:
        layout = self._built(f"{name}-{_recipe()}", write)
        (descriptor,) = json_object((layout / "index.json").read_bytes())["manifests"]
        return Image(layout, descriptor["digest"])

    def _built(self, name: str, write: Callable[[Path], None]) -> Path:
        final = self.directory / name
        if final.exists():
            return final
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / f"{name}.{uuid.uuid4().hex}"
        try:
            write(temporary)
            with contextlib.suppress(OSError):  # Another run has built it meanwhile.
                temporary.rename(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return final

    def _write_zstd(self, root: Path) -> None:
        # skopeo compresses only what is not compressed yet, and only what it cannot find in its cache.
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / "plain"
            _write_layers(plain, _layer_tars(), compressed=False)
            self.sandbox.run(
                program("skopeo"), "copy", "--dest-compress-format", "zstd",
                f"oci:{plain}:latest", f"oci:{root}:latest", cache=Path(scratch) / "cache",
            )  # fmt: skip


def _recipe() -> str:
    made_of = Path(__file__).read_bytes() + Path(program("busybox")).read_bytes()
    return hashlib.sha256(made_of).hexdigest()[:12]


def _write_layers(root: Path, tars: list[bytes], *, compressed: bool) -> None:
    writer = LayoutWriter(root)
    layers = [writer.add_layer(io.BytesIO(tar), compressed=compressed) for tar in tars]
    writer.finish(writer.add_image(layers, {"architecture": host_architecture(), "os": "linux"}))


def _write_index(root: Path) -> None:
    writer = LayoutWriter(root)
    children = []
    for target in _PLATFORMS:
        tars = [_busybox_tar()] if target["architecture"] == host_architecture() else []
        tars.append(_tar([(_entry("platform"), json.dumps(target).encode())]))
        layers = [writer.add_layer(io.BytesIO(tar), compressed=True) for tar in tars]
        children.append({**writer.add_image(layers, target), "platform": target})
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": children}
    writer.finish(writer.add(INDEX_TYPE, json_bytes(index)))


def _write_artifact(root: Path, subject: Image) -> None:
    writer = LayoutWriter(root)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": writer.add(EMPTY_TYPE, b"{}"),
        "layers": [writer.add("application/spdx+json", b'{"spdxVersion":"SPDX-2.3"}')],
        "subject": {"mediaType": MANIFEST_TYPE, "digest": subject.digest, "size": len(subject.body)},
        "annotations": {"org.example.note": "kept byte for byte \u00fc"},
    }
    writer.finish(writer.add(MANIFEST_TYPE, json_bytes(manifest)))


def _busybox_tar() -> bytes:
    busybox = program("busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    links = [_entry(f"bin/{name}", linkname="busybox") for name in sorted(applets) if name != "busybox"]
    return _tar(
        [
            *((_entry(name, directory=True), b"") for name in ("bin", "dev", "etc", "proc", "sys", "tmp")),
            (_entry("bin/busybox", mode=0o755), Path(busybox).read_bytes()),
            *((link, b"") for link in links),
            (_entry("etc/passwd"), b"root:x:0:0:root:/:/bin/sh\n"),
        ]
    )


def _layer_tars() -> list[bytes]:
    hard = _entry("data/hard", linkname="data/plain")
    hard.type = tarfile.LNKTYPE
    attribute = _entry("data/attribute")
    # CAP_NET_RAW, as ping has it: an attribute that every file system keeps.
    attribute.pax_headers = {"SCHILY.xattr.security.capability": "\1\0\0\2\0\x20" + "\0" * 14}
    second = [
        (_entry("data", directory=True), b""),
        (_entry("data/plain"), b"plain\n" * 1000),
        (hard, b""),
        (attribute, b"attribute\n"),
        (_entry("data/d\u00fcr\u00fcm \u65e5\u672c " + "n" * 180), b"name\n"),
        (_entry("data/setuid", mode=0o4755), b"#!/bin/sh\n"),
        (_entry("data/dangling", linkname="/nowhere"), b""),
        (_entry("doomed"), b"doomed\n"),
        (_entry("opaque", directory=True), b""),
        (_entry("opaque/old"), b"old\n"),
    ]
    third = [
        (_entry(".wh.doomed"), b""),
        (_entry("opaque", directory=True), b""),
        (_entry("opaque/.wh..wh..opq"), b""),
        (_entry("opaque/new"), b"new\n"),
    ]
    fourth = [(_entry("random"), random.Random(1).randbytes(3 << 20))]
    return [_busybox_tar(), _tar(second), _tar(third), _tar(fourth)]


def _entry(
    name: str, *, mode: int = 0o644, directory: bool = False, linkname: str | None = None
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime = _EPOCH
    entry.mode = mode
    if directory:
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    elif linkname is not None:
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, linkname, 0o777
    return entry


def _tar(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
