import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.oci.descriptor import Descriptor
from storage.oci.digest import ALGORITHMS, Digest
from storage.oci.errors import ManifestInvalid
from storage.oci.platform import Platform

DIGEST = "sha256:" + "a" * 64
MINIMAL: dict[str, Any] = {"mediaType": "application/octet-stream", "digest": DIGEST, "size": 3}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
platforms = st.builds(
    Platform, texts, texts, st.none() | texts, st.none() | texts, st.lists(texts, max_size=2).map(tuple)
)
media_types = st.from_regex(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,9}/[a-z0-9][a-z0-9.+-]{0,9}", fullmatch=True)


@st.composite
def descriptors(draw: st.DrawFn) -> Descriptor:
    content = draw(st.binary(max_size=20))
    return Descriptor(
        draw(media_types),
        Digest.of(content, draw(st.sampled_from(ALGORITHMS))),
        len(content),
        draw(st.none() | platforms),
        draw(st.dictionaries(texts, st.text(max_size=5), max_size=3)),
        draw(st.none() | media_types),
        draw(st.just(()) | st.just(("https://example.com/layer?x=1", "HTTP://[::1]:5000/a%20b#c"))),
        draw(st.sampled_from([None, content])),
    )


@given(descriptors())
def test_reads_what_it_writes(descriptor: Descriptor) -> None:
    value = descriptor.to_json()

    assert Descriptor.from_json(json.loads(json.dumps(value))) == descriptor
    assert Descriptor.from_json(value).to_json() == value
    assert hash(descriptor) == hash(Descriptor.from_json(value))


@given(
    st.dictionaries(
        st.sampled_from(
            ["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"]
        ),
        st.sampled_from(
            [DIGEST, "a/b", 0, 1, -1, True, None, "", [], {}, ["http://a"], {"a": "b"}, {"os": 1}, 1.5]
        ),
    )
)
def test_api_11_reads_any_object_or_refuses_it(value: dict[str, Any]) -> None:
    try:
        descriptor = Descriptor.from_json(value)
    except ManifestInvalid:
        return

    assert Descriptor.from_json(descriptor.to_json()) == descriptor


def test_reads_everything() -> None:
    content = b"{}"
    digest = Digest.of(content, "sha512")

    descriptor = Descriptor.from_json(
        {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": str(digest),
            "size": 2,
            "urls": ["https://example.com/x"],
            "annotations": {"a": "", "A": "b"},
            "data": "e30=",
            "artifactType": "application/vnd.example",
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
            "unknown": {"digest": 1},
        }
    )

    assert descriptor == Descriptor(
        "application/vnd.oci.empty.v1+json",
        digest,
        2,
        Platform("linux", "arm64", "v8"),
        {"a": "", "A": "b"},
        "application/vnd.example",
        ("https://example.com/x",),
        content,
    )


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_api_11_accepts_the_size(size: int) -> None:
    assert Descriptor.from_json(MINIMAL | {"size": size}).size == size


@pytest.mark.parametrize("name", ["urls", "annotations", "data", "artifactType", "platform"])
def test_takes_null_for_absent(name: str) -> None:
    assert Descriptor.from_json(MINIMAL | {name: None}) == Descriptor.from_json(MINIMAL)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"size": -1}, id="size-negative"),
        pytest.param({"size": 2**63}, id="size-over-64-bits"),
        pytest.param({"size": True}, id="size-boolean"),
        pytest.param({"size": 3.0}, id="size-float"),
        pytest.param({"size": "3"}, id="size-string"),
        pytest.param({"size": None}, id="size-null"),
        pytest.param({"digest": "sha256:abc"}, id="digest-short"),
        pytest.param({"digest": DIGEST.upper()}, id="digest-upper-case"),
        pytest.param({"digest": "blake3:" + "a" * 64}, id="digest-algorithm"),
        pytest.param({"digest": None}, id="digest-null"),
        pytest.param({"digest": 1}, id="digest-number"),
        pytest.param({"mediaType": ""}, id="media-type-empty"),
        pytest.param({"mediaType": None}, id="media-type-null"),
        pytest.param({"mediaType": "text"}, id="media-type-bad"),
        pytest.param({"mediaType": "text/plain; a=b"}, id="media-type-parameters"),
        pytest.param({"mediaType": "text/plain\n"}, id="media-type-newline"),
        pytest.param({"artifactType": "text"}, id="artifact-type-bad"),
        pytest.param({"artifactType": 1}, id="artifact-type-number"),
        pytest.param({"annotations": {"a": 1}}, id="annotation-number"),
        pytest.param({"annotations": {"a": None}}, id="annotation-null"),
        pytest.param({"annotations": ["a"]}, id="annotations-array"),
        pytest.param({"urls": "https://example.com"}, id="urls-string"),
        pytest.param({"urls": [1]}, id="urls-number"),
        pytest.param({"platform": "linux/amd64"}, id="platform-string"),
        pytest.param({"platform": {"os": []}}, id="platform-os"),
        pytest.param({"data": "AAAA"}, id="data-of-another-digest"),
        pytest.param({"data": 1}, id="data-number"),
        pytest.param({"Digest": DIGEST}, id="digest-case-variant"),
        pytest.param({"MediaType": "a/b"}, id="media-type-case-variant"),
        pytest.param({"SIZE": 4}, id="size-case-variant"),
        pytest.param({"Urls": ["https://example.com"]}, id="urls-case-variant"),
        pytest.param({"u": 1, "U": 2}, id="unknown-case-variants"),
    ],
)
def test_api_11_refuses(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalid, match=r"^layers\[3\]"):
        Descriptor.from_json(MINIMAL | change, "layers[3]")


@pytest.mark.parametrize("name", ["mediaType", "digest", "size"])
def test_api_11_requires(name: str) -> None:
    with pytest.raises(ManifestInvalid, match=name):
        Descriptor.from_json({key: value for key, value in MINIMAL.items() if key != name})


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/x",
        "javascript:alert(1)",
        "//example.com/x",
        "/x",
        "",
        "http:",
        "https://",
        "https:///x",
        " https://example.com",
        "https://example.com/\n",
        "https://example.com/a b",
        "https://exämple.com/",
        'https://example.com/"',
        "http://example.com\\@other",
    ],
)
def test_net_06_refuses_the_url(url: str) -> None:
    with pytest.raises(ManifestInvalid, match="urls"):
        Descriptor.from_json(MINIMAL | {"urls": ["https://example.com/x", url]})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("e30", id="no-padding"),
        pytest.param("e30==", id="much-padding"),
        pytest.param("e30=\n", id="newline"),
        pytest.param("e 30=", id="space"),
        pytest.param("e31=", id="stray-bits"),
        pytest.param("e30=é", id="outside-ascii"),
        pytest.param("", id="empty"),
    ],
)
def test_refuses_data_that_is_not_base_64(data: str) -> None:
    with pytest.raises(ManifestInvalid, match="data"):
        Descriptor.from_json(MINIMAL | {"digest": str(Digest.of(b"{}")), "size": 2, "data": data})


def test_refuses_data_of_another_size() -> None:
    value = MINIMAL | {"digest": str(Digest.of(b"{}")), "data": base64.b64encode(b"{}").decode()}

    assert Descriptor.from_json(value | {"size": 2}).data == b"{}"
    with pytest.raises(ManifestInvalid, match="data"):
        Descriptor.from_json(value | {"size": 3})


def test_keeps_empty_data_of_empty_content() -> None:
    value = MINIMAL | {"digest": str(Digest.of(b"")), "size": 0, "data": ""}

    assert Descriptor.from_json(value).data == b""
    assert Descriptor.from_json(value).to_json()["data"] == ""


@pytest.mark.parametrize(
    ("change", "is_foreign"),
    [
        pytest.param({}, False, id="plain"),
        pytest.param({"urls": []}, False, id="empty-urls"),
        pytest.param({"urls": ["https://example.com/x"]}, True, id="urls"),
        pytest.param(
            {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, True, id="docker"
        ),
        pytest.param(
            {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar"}, True, id="oci"
        ),
    ],
)
def test_knows_foreign_content(change: dict[str, Any], is_foreign: bool) -> None:
    assert Descriptor.from_json(MINIMAL | change).is_foreign is is_foreign


def test_cuts_long_texts_in_messages() -> None:
    for change in ({"mediaType": "x" * 10**6}, {"digest": "x" * 10**6}, {"urls": ["x" * 10**6]}):
        with pytest.raises(ManifestInvalid) as caught:
            Descriptor.from_json(MINIMAL | change)
        assert len(caught.value.message) < 300
