"""Every request of the distribution API against real registries."""

import os
from pathlib import Path

import pytest

from client.content import BytesContent, FileContent
from client.session import Session
from storage.oci.descriptor import Descriptor
from storage.oci.digest import Digest
from storage.oci.errors import (
    BlobRangeInvalid,
    BlobUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
)
from storage.oci.manifest import Manifest
from storage.oci.media_types import IMAGE_MANIFEST, OCTET_STREAM
from storage.oci.names import Reference, RepositoryName, Tag, referrers_tag
from tests.client.conftest import Open
from tests.registry.pushing import artifact, image, index

CONFIG = b'{"architecture":"amd64","os":"linux"}'
LARGE = os.urandom(9 * 1024 * 1024 + 11)


@pytest.fixture
def session(registry: str, open_session: Open) -> Session:
    return open_session(registry)


def push(session: Session, name: RepositoryName, content: bytes) -> Digest:
    digest = Digest.of(content)
    session.upload_blob(name, digest, BytesContent(content))
    return digest


def push_image(session: Session, name: RepositoryName, *references: str) -> Manifest:
    push(session, name, CONFIG)
    push(session, name, b"layer")
    manifest = Manifest.parse(IMAGE_MANIFEST, image(CONFIG, b"layer"))
    for reference in references:
        session.put_manifest(name, Tag(reference), manifest)
    return manifest


def read(
    session: Session, name: RepositoryName, digest: Digest, *part: int, size: int | None = None
) -> bytes:
    with session.open_blob(name, digest, *part, size=size) as stream:
        return b"".join(stream)


def test_pings(session: Session) -> None:
    session.ping()


@pytest.mark.parametrize(
    "chunk_bytes",
    [
        pytest.param(None, id="as-one"),
        pytest.param(4 * 1024 * 1024, id="in-chunks"),
    ],
)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x", id="one-byte"),
        pytest.param(LARGE, id="large"),
    ],
)
def test_pushes_and_fetches_a_blob(
    session: Session, name: RepositoryName, content: bytes, chunk_bytes: int | None
) -> None:
    digest = Digest.of(content)

    session.upload_blob(name, digest, BytesContent(content), chunk_bytes=chunk_bytes)

    assert session.has_blob(name, digest)
    assert session.head_blob(name, digest) == len(content)
    assert read(session, name, digest, size=len(content)) == content


def test_tells_how_much_of_a_blob_has_left(session: Session, name: RepositoryName) -> None:
    told: list[int] = []

    session.upload_blob(name, Digest.of(LARGE), BytesContent(LARGE), progress=told.append)

    assert told == sorted(told)
    assert told[-1] == len(LARGE)


def test_pushes_a_file(session: Session, name: RepositoryName, tmp_path: Path) -> None:
    file = tmp_path / "layer"
    file.write_bytes(LARGE)

    session.upload_blob(name, Digest.of(LARGE), FileContent(file))

    assert session.has_blob(name, Digest.of(LARGE))


def test_is_refused_a_blob_of_another_digest(session: Session, name: RepositoryName) -> None:
    with pytest.raises(DigestInvalid):
        session.upload_blob(name, Digest.of(b"other"), BytesContent(b"content"))


@pytest.mark.parametrize(
    ("part", "stop"),
    [
        pytest.param((5,), None, id="rest"),
        pytest.param((0, 10), 10, id="head"),
        pytest.param((7, 4_000_000), 4_000_000, id="middle"),
    ],
)
def test_fetches_a_part(
    session: Session, name: RepositoryName, part: tuple[int, ...], stop: int | None
) -> None:
    digest = push(session, name, LARGE)

    with session.open_blob(name, digest, *part, size=len(LARGE)) as stream:
        assert (stream.is_range, stream.start, stream.stop) == (True, part[0], stop or len(LARGE))
        assert b"".join(stream) == LARGE[part[0] : stop]


def test_is_refused_a_part_behind_the_end(session: Session, name: RepositoryName) -> None:
    digest = push(session, name, b"short")

    with pytest.raises(BlobRangeInvalid):
        session.open_blob(name, digest, 5)


def test_reads_a_small_blob_at_once(session: Session, name: RepositoryName) -> None:
    digest = push(session, name, CONFIG)

    assert session.read_blob(name, Descriptor(OCTET_STREAM, digest, len(CONFIG))) == CONFIG


def test_mounts_a_blob(session: Session, name: RepositoryName) -> None:
    digest = push(session, name, LARGE)
    target = RepositoryName(f"{name}/target")

    assert session.mount_blob(target, digest, name) is None
    assert session.has_blob(target, digest)


def test_goes_on_with_the_upload_that_a_mount_became(session: Session, name: RepositoryName) -> None:
    digest = Digest.of(b"content")

    upload = session.mount_blob(name, digest, RepositoryName("no/such"))
    assert upload is not None
    session.upload_blob(name, digest, BytesContent(b"content"), upload=upload)

    assert session.has_blob(name, digest)


def test_deletes_a_blob(session: Session, name: RepositoryName) -> None:
    digest = push(session, name, CONFIG)

    session.delete_blob(name, digest)

    assert not session.has_blob(name, digest)
    with pytest.raises(BlobUnknown):
        session.delete_blob(name, digest)


def test_pushes_and_fetches_a_manifest(session: Session, name: RepositoryName) -> None:
    manifest = push_image(session, name, "v1")

    assert session.get_manifest(name, Tag("v1")) == manifest
    assert session.get_manifest(name, manifest.digest, manifest.size) == manifest
    for reference in (Tag("v1"), manifest.digest):
        assert session.head_manifest(name, reference) == Descriptor(
            IMAGE_MANIFEST, manifest.digest, manifest.size
        )


def test_pushes_an_index(session: Session, name: RepositoryName) -> None:
    child = push_image(session, name, "child")
    manifest = Manifest.parse(None, index(child.body))

    session.put_manifest(name, Tag("all"), manifest)

    assert session.get_manifest(name, Tag("all")) == manifest


def test_is_refused_a_manifest_without_its_blobs(session: Session, name: RepositoryName) -> None:
    manifest = Manifest.parse(None, image(b"no config", b"no layer"))

    with pytest.raises(ManifestBlobUnknown):
        session.put_manifest(name, Tag("v1"), manifest)


def test_deletes_a_manifest(session: Session, name: RepositoryName) -> None:
    manifest = push_image(session, name, "v1")

    session.delete_manifest(name, manifest.digest)

    with pytest.raises(ManifestUnknown):
        session.get_manifest(name, manifest.digest)


def test_lists_tags_page_by_page(session: Session, name: RepositoryName) -> None:
    push_image(session, name, "a", "b", "c", "d", "e")

    # docker-registry does not sort.
    assert sorted(str(tag) for tag in session.tags(name, page=2)) == ["a", "b", "c", "d", "e"]


def test_lists_tags_from_a_place_on(our_registry: str, open_session: Open, name: RepositoryName) -> None:
    session = open_session(our_registry)
    push_image(session, name, "a", "b", "c", "d", "e")

    assert [str(tag) for tag in session.tags(name, last="c")] == ["d", "e"]


def test_lists_repositories(session: Session, name: RepositoryName) -> None:
    push_image(session, name, "v1")
    push_image(session, RepositoryName(f"{name}/second"), "v1")

    found = list(session.catalog(page=1))

    assert {name, RepositoryName(f"{name}/second")} <= set(found)
    assert len(found) == len(set(found))


def test_lists_referrers(session: Session, name: RepositoryName) -> None:
    """Ours has the API; docker-registry knows only the tag that a client keeps."""
    subject = push_image(session, name, "v1")
    push(session, name, b"{}")
    one, two = (Manifest.parse(None, artifact(subject.body, kind)) for kind in ("app/one", "app/two"))
    for each in (one, two):
        session.put_manifest(name, each.digest, each)
    expected = {one.digest, two.digest}
    found = session.referrers(name, subject.digest)
    if not found:
        children = Manifest.parse(None, index(one.body, two.body))
        session.put_manifest(name, referrers_tag(subject.digest), children)
        found = session.referrers(name, subject.digest)

    assert {each.digest for each in found} == expected


def test_filters_referrers(our_registry: str, open_session: Open, name: RepositoryName) -> None:
    session = open_session(our_registry)
    subject = push_image(session, name, "v1")
    push(session, name, b"{}")
    for kind in ("app/one", "app/two"):
        manifest = Manifest.parse(None, artifact(subject.body, kind))
        session.put_manifest(name, manifest.digest, manifest)

    (found,) = session.referrers(name, subject.digest, "app/two")

    assert found.artifact_type == "app/two"


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        pytest.param(Tag("none"), ManifestUnknown, id="tag"),
        pytest.param(Digest.of(b"none"), ManifestUnknown, id="digest"),
    ],
)
def test_says_what_is_missing(
    session: Session, name: RepositoryName, reference: Reference, error: type[RegistryError]
) -> None:
    push_image(session, name, "v1")

    with pytest.raises(error):
        session.get_manifest(name, reference)
    with pytest.raises(error, match=str(reference)):
        session.head_manifest(name, reference)


def test_says_that_there_is_no_such_repository(session: Session) -> None:
    with pytest.raises(NameUnknown):
        list(session.tags(RepositoryName("no/such")))
    with pytest.raises(BlobUnknown):
        session.open_blob(RepositoryName("no/such"), Digest.of(b""))
