"""An image as `docker image inspect` shows it."""

from collections.abc import Iterable, Sequence
from typing import Any

from client.cli.template.functions import Open
from storage.oci.digest import Digest
from storage.oci.image_config import Execution, ImageConfig
from storage.oci.manifest import Manifest
from storage.oci.names import ImageReference


def describe(
    manifest: Manifest,
    config: ImageConfig,
    names: Sequence[ImageReference],
    index: Digest | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    """Return the object of one image, all fields there; `index` is what its names mean, if not the manifest.

    Without a `size`, that of its files in bytes, it is that of the layers as they are distributed.
    """
    assert manifest.config is not None
    platform, named = config.platform, index or manifest.digest
    return {
        "Id": str(manifest.config.digest),
        "RepoTags": [f"{_repository(name)}:{name.tag}" for name in names if name.tag],
        "RepoDigests": list(dict.fromkeys(f"{_repository(name)}@{named}" for name in names)),
        "Created": config.created or "",
        "Author": config.author or "",
        "Architecture": platform.architecture,
        "Variant": platform.variant or "",
        "Os": platform.os,
        "OsVersion": platform.os_version or "",
        "Size": sum(layer.size for layer in manifest.layers) if size is None else size,
        "Config": _execution(config.execution),
        "RootFS": {"Type": "layers", "Layers": [str(each) for each in config.diff_ids]},
        "Descriptor": {
            "mediaType": manifest.media_type,
            "digest": str(manifest.digest),
            "size": manifest.size,
        },
    }


def _repository(reference: ImageReference) -> str:
    """Write the repository as docker does: short at Docker Hub."""
    return ImageReference(reference.host, reference.repository).familiar()


def _execution(execution: Execution) -> dict[str, Any]:
    return {
        "User": execution.user or "",
        "ExposedPorts": _set(execution.exposed_ports),
        "Env": list(execution.env),
        "Cmd": list(execution.cmd),
        "Entrypoint": list(execution.entrypoint),
        "Volumes": _set(execution.volumes),
        "WorkingDir": execution.working_dir or "",
        "Labels": Open(execution.labels),
        "StopSignal": execution.stop_signal or "",
    }


def _set(names: Iterable[str]) -> Open:
    return Open({name: {} for name in names})
