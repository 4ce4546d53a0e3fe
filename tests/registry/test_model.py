"""Random histories of pushes, moves and deletes against a model that is a few dictionaries (TEST-03)."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from storage.oci.digest import Digest
from storage.oci.media_types import IMAGE_CONFIG, IMAGE_INDEX, IMAGE_MANIFEST
from tests.registry.pushing import OCTETS, Repository, artifact, descriptor, error_code, image, with_digest

CONTENTS = st.binary(min_size=0, max_size=40)
ALGORITHMS = st.sampled_from(["sha256", "sha256", "sha256", "sha512"])
TAGS = st.sampled_from(["v1", "latest", "a.b-c_d"])
# Most happens in one repository, so that its manifests find their parts; the other is for what must not mix.
SIDES = st.sampled_from([0, 0, 0, 1])
TYPES = st.sampled_from(["application/vnd.example.sbom", "application/vnd.example.signature"])


@dataclass(frozen=True)
class Document:
    """A manifest that may be pushed anywhere: its bytes, and what the model knows of them."""

    body: bytes
    media_type: str
    parts: frozenset[Digest]
    subject: Digest | None = None
    artifact_type: str | None = None

    @property
    def digest(self) -> Digest:
        return Digest.of(self.body)


class Model(RuleBasedStateMachine):
    """Two repositories; what each holds, and which tag names what."""

    http: httpx.Client
    blobs = Bundle("blobs")
    documents = Bundle("documents")

    def __init__(self) -> None:
        super().__init__()
        run = uuid.uuid4().hex[:12]
        self.repositories = [Repository(self.http, f"model/{run}/{side}") for side in "ab"]
        self.held: list[set[Digest]] = [set(), set()]
        self.manifests: list[dict[Digest, Document]] = [{}, {}]
        self.tags: list[dict[str, Digest]] = [{}, {}]

    # Blobs

    @initialize(target=blobs)
    def begin(self) -> MultipleResults[bytes]:
        """Start with something to build of."""
        return multiple(*(self._push(0, content) for content in (b"{}", b"", b"layer")))

    @rule(
        target=blobs,
        side=SIDES,
        content=CONTENTS,
        cuts=st.lists(st.integers(0, 40), max_size=3),
        algorithm=ALGORITHMS,
    )
    def push_in_chunks(self, side: int, content: bytes, cuts: list[int], algorithm: str) -> bytes:
        location = self.repositories[side].begin(f"?digest-algorithm={algorithm}")
        edges = sorted({0, *(min(cut, len(content)) for cut in cuts), len(content)})
        *chunks, last = [content[start:stop] for start, stop in pairwise(edges)] or [b""]
        for chunk in chunks:
            response = self.http.patch(location, content=chunk, headers=OCTETS)
            assert response.status_code == 202
            location = response.headers["Location"]
        digest = Digest.of(content, algorithm)
        assert self.http.put(with_digest(location, digest), content=last).status_code == 201
        self.held[side].add(digest)
        return content

    @rule(target=blobs, side=SIDES, content=CONTENTS)
    def push_at_once(self, side: int, content: bytes) -> bytes:
        return self._push(side, content)

    def _push(self, side: int, content: bytes) -> bytes:
        target = f"{self.repositories[side].url}/blobs/uploads/?digest={Digest.of(content)}"
        assert self.http.post(target, content=content, headers=OCTETS).status_code == 201
        self.held[side].add(Digest.of(content))
        return content

    @rule(side=SIDES, content=CONTENTS)
    def push_what_is_something_else(self, side: int, content: bytes) -> None:
        location = self.repositories[side].begin()
        response = self.http.put(with_digest(location, Digest.of(content + b"!")), content=content)
        assert (response.status_code, error_code(response)) == (400, "DIGEST_INVALID")
        assert self.http.delete(location).status_code == 204
        assert self.http.get(location).status_code == 404

    @rule(side=SIDES, content=blobs, algorithm=ALGORITHMS, says_where=st.booleans())
    def mount(self, side: int, content: bytes, algorithm: str, says_where: bool) -> None:
        digest = Digest.of(content, algorithm)
        source = f"&from={self.repositories[1 - side].name}" if says_where else ""
        response = self.http.post(f"{self.repositories[side].url}/blobs/uploads/?mount={digest}{source}")
        if digest in self.held[1 - side] or (digest in self.held[side] and not says_where):
            assert response.status_code == 201
            self.held[side].add(digest)
        elif says_where:
            assert response.status_code == 202
        elif response.status_code == 201:
            self.held[side].add(digest)  # another run's repository had it

    @rule(side=SIDES, content=blobs, algorithm=ALGORITHMS)
    def delete_blob(self, side: int, content: bytes, algorithm: str) -> None:
        digest = Digest.of(content, algorithm)
        response = self.http.delete(f"{self.repositories[side].url}/blobs/{digest}")
        if self._is_part(side, digest):
            assert response.status_code == 409
        else:
            assert response.status_code == (202 if digest in self.held[side] else 404)
            self.held[side].discard(digest)

    @rule(side=SIDES, content=blobs, algorithm=ALGORITHMS, start=st.integers(0, 40))
    def pull_blob(self, side: int, content: bytes, algorithm: str, start: int) -> None:
        digest = Digest.of(content, algorithm)
        path, is_held = f"blobs/{digest}", digest in self.held[side]
        whole = self.repositories[side].get(path)
        head = self.http.head(f"{self.repositories[side].url}/{path}")
        assert whole.status_code == head.status_code == (200 if is_held else 404)
        if is_held:
            assert whole.content == content
            part = self.repositories[side].get(path, Range=f"bytes={start}-")
            assert part.status_code == (206 if start < len(content) else 416)
            assert part.status_code == 416 or part.content == content[start:]

    # Manifests

    @rule(target=documents, side=SIDES, config=blobs, layers=st.lists(blobs, max_size=2), tag=TAGS)
    def put_image(self, side: int, config: bytes, layers: list[bytes], tag: str) -> Document:
        parts = frozenset(Digest.of(part) for part in (config, *layers))
        document = Document(image(config, *layers), IMAGE_MANIFEST, parts, artifact_type=IMAGE_CONFIG)
        self._put(side, document, [tag])
        return document

    @rule(
        target=documents,
        side=SIDES,
        children=st.lists(documents, max_size=2),
        about=st.none() | documents,
        tag=TAGS,
    )
    def put_index(self, side: int, children: list[Document], about: Document | None, tag: str) -> Document:
        listed = [descriptor(child.media_type, child.body) for child in children]
        content = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": listed}
        if about is not None:
            content["subject"] = descriptor(about.media_type, about.body)
        parts = frozenset(child.digest for child in children)
        body = json.dumps(content).encode()
        document = Document(body, IMAGE_INDEX, parts, subject=about.digest if about else None)
        self._put(side, document, [tag])
        return document

    @rule(target=documents, side=SIDES, subject=documents, artifact_type=TYPES)
    def attach(self, side: int, subject: Document, artifact_type: str) -> Document:
        self.repositories[side].push_blob(b"{}")
        self.held[side].add(Digest.of(b"{}"))
        body = artifact(subject.body, artifact_type)
        parts = frozenset({Digest.of(b"{}")})
        document = Document(body, IMAGE_MANIFEST, parts, subject.digest, artifact_type)
        self._put(side, document, [])
        return document

    @rule(side=SIDES, document=documents, tags=st.lists(TAGS, max_size=3, unique=True))
    def push_again(self, side: int, document: Document, tags: list[str]) -> None:
        self._put(side, document, tags)

    def _put(self, side: int, document: Document, tags: list[str]) -> None:
        """Push by its tag, or by digest with several; a repository that lacks a part refuses."""
        reference = tags[0] if len(tags) == 1 else str(document.digest)
        query = "&".join(f"tag={tag}" for tag in tags) if len(tags) > 1 else ""
        response = self.repositories[side].put_manifest(
            f"{reference}?{query}", document.body, document.media_type
        )
        if not document.parts <= self.held[side] | self.manifests[side].keys():
            assert (response.status_code, error_code(response)) == (400, "MANIFEST_BLOB_UNKNOWN")
            return
        assert response.status_code == 201, response.text
        assert response.headers.get("OCI-Subject") == (str(document.subject) if document.subject else None)
        self.manifests[side][document.digest] = document
        self.tags[side] |= dict.fromkeys(tags, document.digest)

    @rule(side=SIDES, document=documents, tag=TAGS)
    def create_only(self, side: int, document: Document, tag: str) -> None:
        if tag not in self.tags[side]:
            return
        response = self.repositories[side].put_manifest(
            tag, document.body, document.media_type, **{"If-None-Match": "*"}
        )
        assert (response.status_code, error_code(response)) == (412, "DENIED")

    @rule(side=SIDES, tag=TAGS)
    def delete_tag(self, side: int, tag: str) -> None:
        response = self.http.delete(f"{self.repositories[side].url}/manifests/{tag}")
        assert response.status_code == (202 if self.tags[side].pop(tag, None) else 404)

    @rule(side=SIDES, document=documents)
    def delete_manifest(self, side: int, document: Document) -> None:
        digest = document.digest
        response = self.http.delete(f"{self.repositories[side].url}/manifests/{digest}")
        if digest not in self.manifests[side]:
            assert response.status_code == 404
        elif self._is_part(side, digest):
            assert response.status_code == 409
        else:
            assert response.status_code == 202
            del self.manifests[side][digest]
            self.tags[side] = {tag: named for tag, named in self.tags[side].items() if named != digest}

    def _is_part(self, side: int, digest: Digest) -> bool:
        return any(digest in document.parts for document in self.manifests[side].values())

    # Lists

    @rule(side=SIDES, document=documents, artifact_type=st.none() | TYPES, n=st.integers(1, 3))
    def list_referrers(self, side: int, document: Document, artifact_type: str | None, n: int) -> None:
        path = f"{self.repositories[side].url}/referrers/{document.digest}?n={n}"
        found = self._all(f"{path}&artifactType={artifact_type}" if artifact_type else path, "manifests")
        expected = {
            str(each.digest): each
            for each in self.manifests[side].values()
            if each.subject == document.digest and artifact_type in (None, each.artifact_type)
        }
        assert [item["digest"] for item in found] == sorted(expected)
        for item in found:
            assert item.get("artifactType") == expected[item["digest"]].artifact_type

    @rule(side=SIDES, n=st.integers(1, 4))
    def list_tags(self, side: int, n: int) -> None:
        if self.held[side] or self.manifests[side]:
            found = self._all(f"{self.repositories[side].url}/tags/list?n={n}", "tags")
            assert found == sorted(self.tags[side])

    def _all(self, path: str, member: str) -> list[Any]:
        found: list[Any] = []
        while path:
            response = self.http.get(path)
            assert response.status_code == 200, response.text
            found += response.json()[member]
            path = response.links.get("next", {}).get("url", "")
        return found

    @invariant()
    def every_tag_names_what_it_was_given(self) -> None:
        for side, repository in enumerate(self.repositories):
            for tag, digest in self.tags[side].items():
                response = repository.get(f"manifests/{tag}")
                assert response.content == self.manifests[side][digest].body
                assert response.headers["Docker-Content-Digest"] == str(digest)

    def teardown(self) -> None:
        """Look at everything once, at the end of a history."""
        documents = {document for side in self.manifests for document in side.values()}
        catalog = self.http.get("/v2/_catalog").json()["repositories"]
        for side, repository in enumerate(self.repositories):
            assert (repository.name in catalog) == bool(self.manifests[side])
            for document in documents:
                response = repository.get(f"manifests/{document.digest}")
                is_here = document.digest in self.manifests[side]
                assert response.status_code == (200 if is_here else 404)
                assert not is_here or response.content == document.body
            for part in {part for document in self.manifests[side].values() for part in document.parts}:
                kind = "manifests" if part in self.manifests[side] else "blobs"
                assert repository.get(f"{kind}/{part}").status_code == 200, "INV-01"


@pytest.fixture
def model(http: httpx.Client) -> Iterator[type[Model]]:
    Model.http = http
    yield Model
    del Model.http


@pytest.mark.timeout(180)
def test_inv_01_every_history_agrees_with_the_model(model: type[Model]) -> None:
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
