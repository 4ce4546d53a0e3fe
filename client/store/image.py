"""An image of the store."""

from dataclasses import dataclass

from client.store.errors import NotAnImage
from storage.oci.digest import Digest
from storage.oci.image_config import ImageConfig
from storage.oci.manifest import Manifest
from storage.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Image:
    """An image of one platform, or an artifact, which has no `config` that we know.

    `root` is what its names mean: the image itself, or an index that lists it. Sizes are bytes.
    """

    root: Digest
    manifest: Manifest
    config: ImageConfig | None
    names: tuple[str, ...]
    added_at: float
    chain: tuple[Digest, ...]
    """The chainIDs of its unpacked layers, lowest first; none where it was not unpacked."""
    content: int | None
    """Bytes of the files in its layers, where those are whole."""

    @property
    def id(self) -> Digest:
        """What docker calls the image's ID: the digest of its configuration."""
        return self.manifest.config.digest if self.manifest.config else self.manifest.digest

    def require_config(self) -> ImageConfig:
        """Return the configuration. Raises NotAnImage for an artifact."""
        if self.config is None:
            kind = self.manifest.artifact_type or self.manifest.media_type
            raise NotAnImage(
                f"{self.manifest.digest} is no image but {kind}: `inspect --raw` shows what is in it"
            )
        return self.config

    @property
    def platform(self) -> Platform | None:
        return self.config.platform if self.config else None

    @property
    def compressed(self) -> int:
        """Bytes that a pull of it transfers."""
        return self.manifest.size + sum(blob.size for blob in self.manifest.blobs)
