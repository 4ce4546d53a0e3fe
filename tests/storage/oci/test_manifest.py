import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.oci import media_types
from storage.oci.digest import ALGORITHMS, Digest
from storage.oci.errors import DigestInvalid, ManifestInvalid, ManifestTooLarge
from storage.oci.manifest import DESCRIPTOR_LIMIT, MANIFEST_LIMIT, Manifest
from tests.storage.oci.documents import (
    ABSENT,
    CHILDREN,
    CONFIG,
    DOCUMENTS,
    IMAGE,
    INDEX,
    LAYERS,
    descriptor,
    digests,
    encode,
    every_kind,
    referenced,
)


@every_kind
def test_reads_every_kind(kind: str) -> None:
    body = encode(DOCUMENTS[kind], mediaType=kind)

    manifest = Manifest.parse(kind, body)

    assert manifest.media_type == kind
    assert manifest.body is body
    assert manifest.digest == Digest.of(body)
    assert manifest.size == len(body)


def test_reads_an_image_manifest() -> None:
    manifest = Manifest.parse(None, encode(IMAGE, subject=CHILDREN[0], annotations={"a": "b"}))

    assert manifest.config is not None
    assert manifest.config.to_json() == CONFIG
    assert [layer.to_json() for layer in manifest.layers] == LAYERS
    assert manifest.manifests == ()
    assert manifest.blobs == (manifest.config, *manifest.layers)
    assert manifest.subject is not None
    assert manifest.subject.to_json() == CHILDREN[0]
    assert manifest.annotations == {"a": "b"}


def test_reads_an_index() -> None:
    manifest = Manifest.parse(None, encode(INDEX, subject=CHILDREN[1], artifactType="a/b"))

    assert [child.to_json() for child in manifest.manifests] == CHILDREN
    assert (manifest.config, manifest.layers, manifest.blobs) == (None, (), ())
    assert manifest.subject is not None
    assert manifest.artifact_type == "a/b"


def test_reads_an_artifact_manifest() -> None:
    body = encode(
        DOCUMENTS[media_types.ARTIFACT_MANIFEST], mediaType=media_types.ARTIFACT_MANIFEST, subject=CHILDREN[0]
    )

    manifest = Manifest.parse(media_types.ARTIFACT_MANIFEST, body)

    assert [blob.to_json() for blob in manifest.blobs] == LAYERS
    assert (manifest.layers, manifest.config) == ((), None)
    assert manifest.artifact_type == "application/vnd.example"
    assert manifest.subject is not None


def test_keeps_the_body_out_of_its_repr() -> None:
    assert "schemaVersion" not in repr(Manifest.parse(None, encode(IMAGE)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_computes_the_digest_that_is_asked_for(algorithm: str) -> None:
    body = encode(IMAGE)

    assert Manifest.parse(None, body, algorithm).digest == Digest.of(body, algorithm)


def test_api_02_refuses_another_algorithm() -> None:
    with pytest.raises(DigestInvalid):
        Manifest.parse(None, encode(IMAGE), "md5")


@every_kind
def test_ignores_unknown_members(kind: str) -> None:
    body = encode(DOCUMENTS[kind], mediaType=kind, unknown={"layers": []}, history=[1])

    assert Manifest.parse(kind, body).media_type == kind


@pytest.mark.parametrize("blobs", [[{}], 5], ids=repr)
def test_ignores_blobs_outside_artifact_manifests(blobs: object) -> None:
    assert digests(Manifest.parse(None, encode(IMAGE, blobs=blobs))) == referenced([CONFIG, *LAYERS])


def test_refuses_artifact_blobs_that_are_no_array() -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(None, encode({"mediaType": media_types.ARTIFACT_MANIFEST, "blobs": 5}))


@pytest.mark.parametrize(
    ("document", "change"),
    [
        pytest.param(IMAGE, {"config": ABSENT}, id="no-config"),
        pytest.param(IMAGE, {"config": None}, id="null-config"),
        pytest.param(IMAGE, {"config": []}, id="array-config"),
        pytest.param(IMAGE, {"config": {}}, id="empty-config"),
        pytest.param(IMAGE, {"layers": ABSENT}, id="no-layers"),
        pytest.param(IMAGE, {"layers": {}}, id="object-layers"),
        pytest.param(IMAGE, {"layers": [None]}, id="null-layer"),
        pytest.param(IMAGE, {"layers": [1]}, id="number-layer"),
        pytest.param(IMAGE, {"layers": [descriptor("x", size=-1)]}, id="bad-layer"),
        pytest.param(IMAGE, {"subject": "sha256:x"}, id="string-subject"),
        pytest.param(IMAGE, {"subject": {}}, id="empty-subject"),
        pytest.param(IMAGE, {"annotations": {"a": 1}}, id="number-annotation"),
        pytest.param(IMAGE, {"annotations": []}, id="array-annotations"),
        pytest.param(IMAGE, {"artifactType": "x"}, id="bad-artifact-type"),
        pytest.param(IMAGE, {"artifactType": 1}, id="number-artifact-type"),
        pytest.param(INDEX, {"manifests": {}}, id="object-manifests"),
        pytest.param(INDEX, {"manifests": [descriptor("x", platform=1)]}, id="bad-platform"),
        pytest.param(INDEX, {"artifactType": "a/b/c"}, id="bad-index-artifact-type"),
    ],
)
def test_refuses_a_bad_structure(document: dict[str, Any], change: dict[str, Any]) -> None:
    body = encode(document, mediaType=media_types.IMAGE_MANIFEST if document is IMAGE else ABSENT, **change)

    with pytest.raises(ManifestInvalid):
        Manifest.parse(None, body)


@pytest.mark.parametrize("document", [[], "x", 1, None, True, [IMAGE]], ids=repr)
def test_refuses_what_is_no_object(document: object) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(None, encode(document))


@pytest.mark.parametrize("nothing", [[], None], ids=["empty", "null"])
def test_accepts_empty_lists(nothing: object) -> None:
    assert digests(Manifest.parse(None, encode(IMAGE, layers=nothing))) == referenced([CONFIG])
    assert Manifest.parse(None, encode(INDEX, manifests=nothing)).manifests == ()


@pytest.mark.parametrize(
    ("document", "artifact_type"),
    [
        pytest.param(IMAGE, media_types.IMAGE_CONFIG, id="image"),
        pytest.param(IMAGE | {"artifactType": "a/b"}, "a/b", id="image-with-artifact-type"),
        pytest.param(
            IMAGE | {"artifactType": ""}, media_types.IMAGE_CONFIG, id="image-with-empty-artifact-type"
        ),
        # The spec asks clients for an artifactType here; a registry stores what lacks it.
        pytest.param(
            IMAGE | {"config": descriptor("{}", media_types.EMPTY)}, media_types.EMPTY, id="empty-config"
        ),
        pytest.param(INDEX, None, id="index"),
        pytest.param(INDEX | {"artifactType": "a/b"}, "a/b", id="index-with-artifact-type"),
        pytest.param(INDEX | {"artifactType": ""}, None, id="index-with-empty-artifact-type"),
    ],
)
def test_knows_the_artifact_type(document: dict[str, Any], artifact_type: str | None) -> None:
    assert Manifest.parse(None, encode(document)).artifact_type == artifact_type


def test_net_06_accepts_foreign_layers_absent() -> None:
    foreign = [
        descriptor("a", urls=["https://example.com/a"]),
        descriptor("b", media_types.DOCKER_FOREIGN_LAYER_GZIP),
        descriptor("c", media_types.NONDISTRIBUTABLE_LAYER_ZSTD, urls=["http://example.com/c"]),
    ]

    manifest = Manifest.parse(None, encode(IMAGE, layers=[*foreign, *LAYERS]))

    assert [layer.to_json() for layer in manifest.layers] == [*foreign, *LAYERS]
    assert digests(manifest) == referenced([CONFIG, *LAYERS])


def test_net_06_refuses_other_urls() -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(None, encode(IMAGE, layers=[descriptor("a", urls=["file:///a"])]))


def test_requires_a_blob_that_is_foreign_in_one_place_only() -> None:
    layers = [descriptor("a", urls=["https://example.com/a"]), descriptor("a")]

    assert digests(Manifest.parse(None, encode(IMAGE, layers=layers))) == referenced([CONFIG, layers[1]])


def test_names_each_blob_once() -> None:
    manifest = Manifest.parse(None, encode(IMAGE, layers=[LAYERS[0], CONFIG, LAYERS[0]]))

    assert len(manifest.layers) == 3
    assert digests(manifest) == referenced([CONFIG, LAYERS[0]])


def test_keeps_one_blob_of_two_sizes_twice_so_that_a_check_of_sizes_sees_both() -> None:
    layers = [descriptor("a"), descriptor("a", size=2)]

    assert [blob.size for blob in Manifest.parse(None, encode(IMAGE, layers=layers)).blobs] == [6, 1, 2]


def test_takes_a_layer_for_a_blob_whatever_its_type() -> None:
    layers = [descriptor("a", media_types.IMAGE_MANIFEST)]

    assert digests(Manifest.parse(None, encode(IMAGE, layers=layers))) == referenced([CONFIG, *layers])


def test_takes_what_is_no_manifest_in_an_index_for_a_blob() -> None:
    cache = [descriptor("layer"), descriptor("x", "application/vnd.buildkit.cacheconfig.v0")]

    manifest = Manifest.parse(None, encode(INDEX, manifests=[*CHILDREN, *cache]))

    assert [child.to_json() for child in manifest.manifests] == CHILDREN
    assert digests(manifest) == referenced(cache)


def many(count: int) -> list[dict[str, Any]]:
    return [descriptor(str(number)) for number in range(count)]


def test_api_11_accepts_10000_descriptors_and_no_more() -> None:
    assert (
        len(Manifest.parse(None, encode(IMAGE, layers=many(DESCRIPTOR_LIMIT - 1))).blobs) == DESCRIPTOR_LIMIT
    )
    with pytest.raises(ManifestInvalid, match="10000 descriptors"):
        Manifest.parse(None, encode(IMAGE, layers=many(DESCRIPTOR_LIMIT)))
    with pytest.raises(ManifestInvalid, match="10000 descriptors"):
        Manifest.parse(None, encode(IMAGE, layers=many(DESCRIPTOR_LIMIT - 1), subject=CHILDREN[0]))


def test_api_08_accepts_4_mebibytes_and_no_more() -> None:
    body = encode(IMAGE, annotations={"padding": ""})
    body = body.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (MANIFEST_LIMIT - len(body))))

    assert Manifest.parse(None, body).size == MANIFEST_LIMIT
    with pytest.raises(ManifestTooLarge):
        Manifest.parse(None, body + b" ")


def test_reads_the_largest_manifest_quickly() -> None:
    layers = [descriptor(str(n), annotations={"padding": "é" * 36}) for n in range(DESCRIPTOR_LIMIT - 1)]
    body = encode(IMAGE, layers=layers)
    assert MANIFEST_LIMIT * 0.9 < len(body) <= MANIFEST_LIMIT

    start = time.process_time()
    Manifest.parse(media_types.IMAGE_MANIFEST, body)

    assert time.process_time() - start < 3  # about 0.15 s here, without coverage


def test_api_09_refuses_duplicate_members() -> None:
    body = encode(IMAGE)

    with pytest.raises(ManifestInvalid):
        Manifest.parse(None, body[:-1] + b',"layers":[]}')


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "a/b", *DOCUMENTS, CONFIG["digest"]]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*CONFIG, "platform", "Digest"]), inner, max_size=4)
    ),
    max_leaves=6,
)
documents = st.builds(
    lambda document, changes: {**document, **changes},
    st.sampled_from(list(DOCUMENTS.values())),
    st.dictionaries(
        st.sampled_from(
            ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations"]
        ),
        values | st.sampled_from([CONFIG, LAYERS, CHILDREN]),
        max_size=3,
    ),
)


@given(st.none() | st.text(max_size=10) | st.sampled_from([*DOCUMENTS, "application/json"]), documents)
def test_any_document_is_a_manifest_of_one_type_or_refused(
    content_type: str | None, document: dict[str, Any]
) -> None:
    body = encode(document)
    try:
        manifest = Manifest.parse(content_type, body)
    except ManifestInvalid:
        return

    assert manifest.body == body
    # The media type is a function of the bytes.
    assert Manifest.parse(None, body) == Manifest.parse(manifest.media_type, body) == manifest


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_in_kind(body: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(None, body)
