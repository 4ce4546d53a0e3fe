"""Media types of the image spec and of docker's formats, and what they say about content.

Source: image-spec media-types.md; docker's manifest-v2-2.md.
"""

import re

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_IMAGE_CONFIG = "application/vnd.docker.container.image.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
DESCRIPTOR = "application/vnd.oci.descriptor.v1+json"
LAYOUT_HEADER = "application/vnd.oci.layout.header.v1+json"

LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
NONDISTRIBUTABLE_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"
NONDISTRIBUTABLE_LAYER_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
NONDISTRIBUTABLE_LAYER_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_FOREIGN_LAYER_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

OCTET_STREAM = "application/octet-stream"

# In the order in which a client asks for them.
MANIFESTS = (IMAGE_MANIFEST, IMAGE_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, ARTIFACT_MANIFEST)
SCHEMA1 = (DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED)

_FOREIGN_LAYERS = frozenset(
    {
        NONDISTRIBUTABLE_LAYER,
        NONDISTRIBUTABLE_LAYER_GZIP,
        NONDISTRIBUTABLE_LAYER_ZSTD,
        DOCKER_FOREIGN_LAYER,
        DOCKER_FOREIGN_LAYER_GZIP,
    }
)
_LAYERS = _FOREIGN_LAYERS | {
    LAYER,
    LAYER_GZIP,
    LAYER_ZSTD,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
}

_RESTRICTED_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_is_valid = re.compile(rf"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}").fullmatch


def is_valid(media_type: str) -> bool:
    """Tell whether this is a type and subtype without parameters. Source: RFC 6838, 4.2."""
    return _is_valid(media_type) is not None


def essence(content_type: str) -> str:
    """Reduce a Content-Type header to its type and subtype in lower case, without parameters.

    Source: distribution-spec spec.md, "Pushing Manifests"; RFC 9110, 8.3.1.
    """
    return content_type.partition(";")[0].strip(" \t").lower()


def is_manifest(media_type: str) -> bool:
    """Tell whether this is any manifest or index that is stored through the manifests endpoint."""
    return media_type in MANIFESTS


def is_image_manifest(media_type: str) -> bool:
    return media_type in (IMAGE_MANIFEST, DOCKER_MANIFEST)


def is_index(media_type: str) -> bool:
    return media_type in (IMAGE_INDEX, DOCKER_MANIFEST_LIST)


def is_image_config(media_type: str) -> bool:
    return media_type in (IMAGE_CONFIG, DOCKER_IMAGE_CONFIG)


def is_layer(media_type: str) -> bool:
    """Tell whether this is a file system layer, foreign ones included."""
    return media_type in _LAYERS


def is_foreign_layer(media_type: str) -> bool:
    """Tell whether this is a layer that its owner lets nobody redistribute.

    Source: image-spec layer.md, "Non-Distributable Layers".
    """
    return media_type in _FOREIGN_LAYERS
