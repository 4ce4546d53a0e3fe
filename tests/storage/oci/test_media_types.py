import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.oci import media_types


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        pytest.param("application/vnd.oci.image.manifest.v1+json", True, id="oci"),
        pytest.param("text/plain", True, id="plain"),
        pytest.param("a/b", True, id="shortest"),
        pytest.param("a" * 127 + "/" + "b" * 127, True, id="longest"),
        pytest.param("a" * 128 + "/b", False, id="long-type"),
        pytest.param("a/" + "b" * 128, False, id="long-subtype"),
        pytest.param("text", False, id="no-subtype"),
        pytest.param("text/", False, id="empty-subtype"),
        pytest.param("/plain", False, id="empty-type"),
        pytest.param("a/b/c", False, id="two-slashes"),
        pytest.param("text/plain; charset=utf-8", False, id="parameter"),
        pytest.param("text/.plain", False, id="leading-dot"),
        pytest.param("text/plain\n", False, id="trailing-newline"),
        pytest.param("text/*", False, id="wildcard"),
        pytest.param("text/pläin", False, id="outside-ascii"),
        pytest.param("", False, id="empty"),
    ],
)
def test_knows_a_media_type(text: str, is_valid: bool) -> None:
    assert media_types.is_valid(text) is is_valid


@pytest.mark.parametrize(
    ("header", "essence"),
    [
        pytest.param("text/plain", "text/plain", id="plain"),
        pytest.param("Text/Plain", "text/plain", id="case"),
        pytest.param("text/plain;charset=utf-8", "text/plain", id="parameter"),
        pytest.param(" text/plain ; a=b; c=d", "text/plain", id="spaces"),
        pytest.param("", "", id="empty"),
        pytest.param(";", "", id="only-parameters"),
    ],
)
def test_reduces_a_content_type(header: str, essence: str) -> None:
    assert media_types.essence(header) == essence


@given(st.text(max_size=50))
def test_reduces_a_content_type_once(header: str) -> None:
    once = media_types.essence(header)

    assert media_types.essence(once) == once


def test_every_constant_is_a_media_type() -> None:
    constants = [
        value for name, value in vars(media_types).items() if name.isupper() and isinstance(value, str)
    ]

    assert len(constants) == len(set(constants)) > 20
    assert all(media_types.is_valid(value) for value in constants if not value.startswith("[A-Z"))


def test_sorts_manifests_into_kinds() -> None:
    assert [media_types.is_image_manifest(each) for each in media_types.MANIFESTS] == [1, 0, 1, 0, 0]
    assert [media_types.is_index(each) for each in media_types.MANIFESTS] == [0, 1, 0, 1, 0]
    assert all(media_types.is_manifest(each) for each in media_types.MANIFESTS)
    assert not any(media_types.is_manifest(each) for each in media_types.SCHEMA1)


def test_knows_layers_and_configs() -> None:
    assert media_types.is_layer(media_types.LAYER_ZSTD)
    assert media_types.is_layer(media_types.DOCKER_FOREIGN_LAYER_GZIP)
    assert not media_types.is_layer(media_types.IMAGE_CONFIG)
    assert media_types.is_foreign_layer(media_types.NONDISTRIBUTABLE_LAYER_ZSTD)
    assert not media_types.is_foreign_layer(media_types.LAYER)
    assert media_types.is_image_config(media_types.DOCKER_IMAGE_CONFIG)
    assert not media_types.is_image_config(media_types.EMPTY)
