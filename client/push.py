"""What of the store's images goes out: to a registry or into an archive."""

from dataclasses import dataclass

from client.copy import CopyResult
from client.store.store import Store
from storage.oci import media_types
from storage.oci.digest import Digest
from storage.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a name means when it goes out; `left_out` are platforms of its index that the store lacks."""

    digest: Digest
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Pushed:
    """What is at the registry now, and how many images of the index were left out."""

    result: CopyResult
    left_out: int


def outgoing(store: Store, text: str, platform: Platform | None = None) -> Outgoing:
    """Choose what of an image to push: all that its name means where the store has all of it.

    Of an index that was pulled for some platforms, or when one is given, the one image goes. Raises
    ImageUnknown, ImageIncomplete.
    """
    root = store.manifest(store.find(text))
    if platform is None and not media_types.is_index(root.media_type):
        return Outgoing(root.digest)
    missing = sum(not store.has_manifest(child.digest) for child in root.manifests)
    if platform is None and not missing:
        return Outgoing(root.digest)
    return Outgoing(store.image(text, platform).manifest.digest, missing)
