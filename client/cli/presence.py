"""Images that a verb needs: here already, or pulled now."""

from typing import TYPE_CHECKING

from client.cli.context import Context

if TYPE_CHECKING:
    from storage.oci.platform import Platform


def ensure(context: Context, image: str, platform: "Platform | None") -> None:
    """Pull an image that the store lacks, or lacks for this platform; not what only an ID could name."""
    from client.pull import PullOptions
    from client.store.errors import ImageIncomplete, ImageUnknown
    from storage.oci.errors import NameInvalid
    from storage.oci.names import ImageReference

    try:
        # Not the context's own: what comes next works with the client's, and one open store is enough.
        store = context.client.store
        store.stack(store.image(image, platform))
    except (ImageUnknown, ImageIncomplete):
        try:
            name = ImageReference.parse(image)
        except NameInvalid:
            name = None
        if name is None or image.startswith("sha256:"):
            raise
        with context.about(name):
            context.client.pull(image, PullOptions(platforms=(platform,) if platform else ()))
