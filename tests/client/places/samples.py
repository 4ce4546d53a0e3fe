"""Images in OCI layouts, written without the code under test, and readers that check what became of them."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.types import Receive, Scope, Send

from client.endpoints import Endpoint, Host, Route, Scheme
from client.places.registry import RegistryPlace
from client.sessions import Sessions
from registry.app import create_app
from registry.settings import Settings
from storage.oci.digest import Digest
from storage.oci.names import ImageReference, RepositoryName
from tests.client.lying import Received, reply, reply_error, reply_range
from tests.e2e.images import INDEX_TYPE, MANIFEST_TYPE, LayoutWriter, json_bytes
from tests.registry.conftest import serving

REF_NAME = "org.opencontainers.image.ref.name"
ARTIFACT = "application/vnd.example.sbom.v1"
PLATFORMS = ("amd64", "arm64", "s390x")

Json = dict[str, Any]


def layer(text: str, size: int = 0) -> bytes:
    """A tar with one file; `size` more bytes that do not repeat."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        content = text.encode() + hashlib.shake_128(text.encode()).digest(size)
        entry = tarfile.TarInfo(f"files/{text}")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Sample(LayoutWriter):
    """A layout in the making; what was added can be named."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._entries: list[Json] = []

    def image(self, text: str = "image", architecture: str = "amd64", size: int = 0, **more: Any) -> Json:
        """Add an image of two layers; return its descriptor, which has the platform."""
        layers = [
            self.add_layer(io.BytesIO(layer("base")), compressed=True),
            self.add_layer(io.BytesIO(layer(f"{text}-{architecture}", size)), compressed=size == 0),
        ]
        target = {"architecture": architecture, "os": "linux"}
        return {**self.add_image(layers, target), "platform": target}

    def index(self, *children: Json) -> Json:
        """Add an index: of three platforms and an attestation about the first, unless children are given."""
        if not children:
            images = [self.image("multi", architecture) for architecture in PLATFORMS]
            unknown = {"architecture": "unknown", "os": "unknown"}
            about = {"vnd.docker.reference.digest": images[0]["digest"]}
            children = (*images, {**self.artifact("attestation"), "platform": unknown, "annotations": about})
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(children)}
        return self.add(INDEX_TYPE, json_bytes(document))

    def artifact(self, text: str, subject: Json | None = None) -> Json:
        document: Json = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT,
            "config": self.add("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [self.add("application/spdx+json", json.dumps({"about": text}).encode())],
            "annotations": {"org.example.note": f"kept byte for byte \u00fc {text}"},
        }
        if subject is not None:
            document["subject"] = {key: subject[key] for key in ("mediaType", "digest", "size")}
        return {**self.add(MANIFEST_TYPE, json_bytes(document)), "artifactType": ARTIFACT}

    def name(self, descriptor: Json, name: str | None = None) -> Digest:
        annotations = {} if name is None else {"annotations": {REF_NAME: name}}
        plain = {key: value for key, value in descriptor.items() if key != "platform"}
        self._entries.append({**plain, **annotations})
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": self._entries}
        (self.root / "index.json").write_bytes(json_bytes(index))
        return Digest.parse(descriptor["digest"])


@dataclass(frozen=True)
class Everything:
    """A layout with an index, a signature, a referrer of it and of a child, and a referrer of a referrer."""

    root: Path
    index: Digest
    digests: tuple[str, ...]
    cosign: str


def everything(root: Path) -> Everything:
    sample = Sample(root)
    index = sample.index()
    child = json.loads((root / "blobs" / index["digest"].replace(":", "/")).read_bytes())["manifests"][0]
    about_index, about_child = sample.artifact("index", index), sample.artifact("child", child)
    about_referrer = sample.artifact("referrer", about_index)
    digest = sample.name(index, "v1")
    for each in (about_index, about_child, about_referrer):
        sample.name(each)
    cosign = f"sha256-{digest.hex}.sig"
    sample.name(sample.artifact("signature"), cosign)
    blobs = sorted(f"sha256:{path.name}" for path in (root / "blobs/sha256").iterdir())
    return Everything(root, digest, tuple(blobs), cosign)


def blobs_of(layout: Path) -> list[str]:
    """Return the digests of a layout's blobs, each of which must be right."""
    found = []
    for path in (layout / "blobs/sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        found.append(f"sha256:{path.name}")
    return sorted(found)


def blobs_in(archive: Path) -> list[str]:
    """Return the digests of an archive's blobs, each of which must be right."""
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.startswith("blobs/") and member.isfile():
                file = tar.extractfile(member)
                assert file is not None
                name = member.name.rpartition("/")[2]
                assert hashlib.sha256(file.read()).hexdigest() == name
                found.append(f"sha256:{name}")
    return sorted(found)


def served(address: str, name: RepositoryName, digest: str) -> bytes:
    """Get a manifest or blob, which must be what its digest says."""
    base = f"http://{address}/v2/{name}"
    accept = {"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}"}
    answer = httpx.get(f"{base}/manifests/{digest}", headers=accept)
    if answer.status_code != 200:
        answer = httpx.get(f"{base}/blobs/{digest}")
    assert answer.status_code == 200, digest
    assert f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == digest
    return answer.content


def route(address: str, name: RepositoryName, *mirrors: str) -> Route:
    endpoints = [
        Endpoint(Host(each, each, Scheme.HTTP), name, is_mirror=each != address)
        for each in (*mirrors, address)
    ]
    return Route(ImageReference(address, name), tuple(endpoints))


def repository(sessions: Sessions, address: str, name: RepositoryName, *mirrors: str) -> RegistryPlace:
    return RegistryPlace(sessions, route(address, name, *mirrors))


def serving_layout(root: Path) -> Callable[[Received], Iterable[bytes]]:
    """Answer as a registry does that has this layout's blobs, and its first image as every tag."""

    def answer(received: Received) -> Iterable[bytes]:
        kind, _, reference = received.path.rpartition("/")
        if reference == "list" or "/referrers/" in received.path:
            return reply_error(404, "NAME_UNKNOWN")
        digest = json.loads((root / "index.json").read_bytes())["manifests"][0]["digest"]
        path = root / "blobs" / (reference if ":" in reference else digest).replace(":", "/")
        if not path.exists():
            return reply_error(404, "BLOB_UNKNOWN")
        content = path.read_bytes()
        if kind.endswith("/manifests"):
            return reply(200, content, Content_Type=json.loads(content)["mediaType"])
        return reply_range(received, content)

    return answer


@dataclass
class Counted:
    """A registry of ours, and the requests that it got."""

    address: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def seen(self, method: str, part: str = "") -> list[tuple[str, str, str]]:
        return [each for each in self.requests if each[0] == method and part in f"{each[1]}?{each[2]}"]


@contextmanager
def counted(data: Path) -> Iterator[Counted]:
    settings = Settings(data=data, access_log=False, collect_every_seconds=0)
    app, found = create_app(settings), Counted()

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found.requests.append((scope["method"], scope["path"], scope["query_string"].decode()))
        await app(scope, receive, send)

    with serving(settings, counting) as url:
        found.address = url.removeprefix("http://")
        yield found
