"""What people write for a place."""

from pathlib import Path

import pytest

from client.places.names import Kind, Location, parse
from client.places.place import RefName
from storage.oci.digest import Digest
from storage.oci.errors import DigestInvalid, NameInvalid
from storage.oci.names import Tag

DIGEST = Digest.of(b"image")


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("oci:dir", Location(Kind.OCI_LAYOUT, Path("dir"))),
        ("oci:/a/dir:v1", Location(Kind.OCI_LAYOUT, Path("/a/dir"), None, Tag("v1"))),
        (f"oci:dir@{DIGEST}", Location(Kind.OCI_LAYOUT, Path("dir"), None, DIGEST)),
        (f"oci:dir:v1@{DIGEST}", Location(Kind.OCI_LAYOUT, Path("dir"), None, DIGEST)),
        ("oci:a@b:v1", Location(Kind.OCI_LAYOUT, Path("a@b"), None, Tag("v1"))),
        (
            "oci:dir:docker.io/library/app:v1",
            Location(Kind.OCI_LAYOUT, Path("dir"), None, RefName("docker.io/library/app:v1")),
        ),
        ("oci-archive:x.tar:v1", Location(Kind.OCI_ARCHIVE, Path("x.tar"), None, Tag("v1"))),
        ("oci-archive:-", Location(Kind.OCI_ARCHIVE, Path("-"))),
        ("docker-archive:x.tar", Location(Kind.DOCKER_ARCHIVE, Path("x.tar"))),
        (
            "docker-archive:x.tar:app:v1",
            Location(Kind.DOCKER_ARCHIVE, Path("x.tar"), None, RefName("docker.io/library/app:v1")),
        ),
        (f"docker-archive:x.tar@{DIGEST}", Location(Kind.DOCKER_ARCHIVE, Path("x.tar"), None, DIGEST)),
        ("app", Location(Kind.REGISTRY, None, "app", Tag("latest"))),
        ("docker://host:5000/app:v1", Location(Kind.REGISTRY, None, "host:5000/app:v1", Tag("v1"))),
        (f"host/app:v1@{DIGEST}", Location(Kind.REGISTRY, None, f"host/app:v1@{DIGEST}", DIGEST)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_reads(text: str, location: Location) -> None:
    assert parse(text) == location


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oci:",
        "oci::v1",
        "oci:-",
        "oci-archive:",
        "oci:dir:a b",
        "docker-archive:x.tar:host/UPPER",
        "dir:/tmp/x",
        "containers-storage:app",
        "docker-daemon:app:v1",
        "ocidir://x",
        "host/UPPER",
        "app:a b",
        "a\0b",
        "oci:a\0b",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(NameInvalid):
        parse(text)


def test_refuses_a_digest_that_is_none() -> None:
    with pytest.raises(DigestInvalid):
        parse("oci:dir@sha256:12")


def test_a_digest_is_no_name_for_a_target() -> None:
    assert parse(f"host/app@{DIGEST}").name is None
    assert parse("host/app:v1").name == Tag("v1")


@pytest.mark.parametrize("text", ["oci:/a/dir:v1", f"oci:dir@{DIGEST}", "host/app:v1", "oci-archive:x.tar"])
def test_writes_what_it_read(text: str) -> None:
    assert str(parse(text)) == text
