"""Random histories of pushes, moves and deletes against a model that is a few dictionaries (TEST-03)."""

import uuid
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from storage.oci.digest import Digest
from storage.oci.media_types import IMAGE_INDEX
from tests.registry.pushing import OCTETS, Repository, artifact, image, index, with_digest

CONTENTS = st.binary(min_size=0, max_size=40)
TAGS = st.sampled_from(["v1", "v2", "latest", "a.b-c_d"])
SIDES = st.sampled_from([0, 1])


class Model(RuleBasedStateMachine):
    """Two repositories; what each holds, and which tag names what."""

    http: httpx.Client
    blobs = Bundle("blobs")
    images = Bundle("images")

    def __init__(self) -> None:
        super().__init__()
        run = uuid.uuid4().hex[:12]
        self.repositories = [Repository(self.http, f"model/{run}/{side}") for side in "ab"]
        self.held: list[set[bytes]] = [set(), set()]
        self.manifests: list[dict[Digest, bytes]] = [{}, {}]
        self.tags: list[dict[str, Digest]] = [{}, {}]
        self.parts: dict[Digest, set[Digest]] = {}
        self.subjects: dict[Digest, Digest] = {}

    @rule(target=blobs, side=SIDES, content=CONTENTS, cuts=st.lists(st.integers(0, 40), max_size=3))
    def push_blob(self, side: int, content: bytes, cuts: list[int]) -> bytes:
        repository = self.repositories[side]
        location = repository.begin()
        edges = sorted({0, *(min(cut, len(content)) for cut in cuts)})
        for start, stop in zip(edges, [*edges[1:], len(content)], strict=True):
            response = self.http.patch(location, content=content[start:stop], headers=OCTETS)
            assert response.status_code == 202
            location = response.headers["Location"]
        assert self.http.put(with_digest(location, Digest.of(content))).status_code == 201
        self.held[side].add(content)
        return content

    @rule(side=SIDES, content=blobs)
    def mount(self, side: int, content: bytes) -> None:
        source = self.repositories[1 - side]
        response = self.http.post(
            f"{self.repositories[side].url}/blobs/uploads/?mount={Digest.of(content)}&from={source.name}"
        )
        assert response.status_code == (201 if content in self.held[1 - side] else 202)
        if response.status_code == 201:
            self.held[side].add(content)

    @rule(target=images, side=SIDES, config=blobs, layer=blobs, tag=TAGS)
    def put_image(self, side: int, config: bytes, layer: bytes, tag: str) -> object:
        body = image(config, layer)
        response = self.repositories[side].put_manifest(tag, body)
        whole = {config, layer} <= self.held[side]
        assert response.status_code == (201 if whole else 400), response.text
        if not whole:
            return multiple()
        self._stored(side, body, {Digest.of(config), Digest.of(layer)})
        self.tags[side][tag] = Digest.of(body)
        return body

    @rule(side=SIDES, child=images, tag=TAGS)
    def put_index(self, side: int, child: bytes, tag: str) -> None:
        body = index(child)
        response = self.repositories[side].put_manifest(tag, body, IMAGE_INDEX)
        whole = Digest.of(child) in self.manifests[side]
        assert response.status_code == (201 if whole else 400)
        if whole:
            self._stored(side, body, {Digest.of(child)})
            self.tags[side][tag] = Digest.of(body)

    @rule(side=SIDES, subject=images)
    def attach(self, side: int, subject: bytes) -> None:
        self.repositories[side].push_blob(b"{}")
        self.held[side].add(b"{}")
        body = artifact(subject, "application/vnd.example")
        response = self.repositories[side].put_manifest(Digest.of(body), body)
        assert response.headers["OCI-Subject"] == str(Digest.of(subject))
        self._stored(side, body, {Digest.of(b"{}")})
        self.subjects[Digest.of(body)] = Digest.of(subject)

    def _stored(self, side: int, body: bytes, parts: set[Digest]) -> None:
        self.manifests[side][Digest.of(body)] = body
        self.parts[Digest.of(body)] = parts

    @rule(side=SIDES, tag=TAGS)
    def delete_tag(self, side: int, tag: str) -> None:
        response = self.http.delete(f"{self.repositories[side].url}/manifests/{tag}")
        assert response.status_code == (202 if self.tags[side].pop(tag, None) else 404)

    @rule(side=SIDES, body=images)
    def delete_manifest(self, side: int, body: bytes) -> None:
        digest = Digest.of(body)
        response = self.http.delete(f"{self.repositories[side].url}/manifests/{digest}")
        if digest not in self.manifests[side]:
            # A part of an index that a crash of names left: there is none, so it is simply unknown.
            assert response.status_code == 404
        elif self._is_held(side, digest):
            assert response.status_code == 409
        else:
            assert response.status_code == 202
            del self.manifests[side][digest]
            self.tags[side] = {tag: named for tag, named in self.tags[side].items() if named != digest}

    @rule(side=SIDES, content=consumes(blobs))
    def delete_blob(self, side: int, content: bytes) -> None:
        digest = Digest.of(content)
        response = self.http.delete(f"{self.repositories[side].url}/blobs/{digest}")
        if self._is_held(side, digest):
            assert response.status_code == 409
        elif content in self.held[side]:
            assert response.status_code == 202
            self.held[side].discard(content)
        else:
            assert response.status_code == 404

    def _is_held(self, side: int, digest: Digest) -> bool:
        return any(digest in self.parts[parent] for parent in self.manifests[side])

    @rule(side=SIDES, content=blobs)
    def pull_blob(self, side: int, content: bytes) -> None:
        response = self.repositories[side].get(f"blobs/{Digest.of(content)}")
        if content in self.held[side]:
            assert response.content == content
        else:
            assert response.status_code == 404

    @rule(side=SIDES, subject=images)
    def list_referrers(self, side: int, subject: bytes) -> None:
        found = self.repositories[side].get(f"referrers/{Digest.of(subject)}").json()["manifests"]
        expected = [
            str(digest) for digest in self.manifests[side] if self.subjects.get(digest) == Digest.of(subject)
        ]
        assert sorted(item["digest"] for item in found) == sorted(expected)

    @invariant()
    def every_tag_names_what_it_was_given(self) -> None:
        for side, repository in enumerate(self.repositories):
            response = repository.get("tags/list")
            listed = response.json()["tags"] if response.status_code == 200 else []
            assert listed == sorted(self.tags[side])
            for tag, digest in self.tags[side].items():
                assert repository.get(f"manifests/{tag}").content == self.manifests[side][digest]


@pytest.fixture
def model(http: httpx.Client) -> Iterator[type[Model]]:
    Model.http = http
    yield Model
    del Model.http


@pytest.mark.timeout(180)
def test_every_history_agrees_with_the_model(model: type[Model]) -> None:
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
