"""`cargohold inspect`: what an image is made of."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from client.cli import output
from client.cli.context import Context, connected
from client.cli.references import PLATFORM, REFERENCE

if TYPE_CHECKING:
    from client.endpoints import Endpoint
    from storage.oci.descriptor import Descriptor
    from storage.oci.manifest import Manifest
    from storage.oci.names import ImageReference
    from storage.oci.platform import Platform


@click.command()
@click.argument("references", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--remote", is_flag=True, help="Ask the registry: two requests, no layers.")
@click.option(
    "--platform", type=PLATFORM, metavar="OS/ARCH", help="Which image of an index. [this machine's]"
)
@click.option("--raw", is_flag=True, help="Print the manifest's or index's exact bytes.")
@click.option("--config", is_flag=True, help="Print the image configuration's exact bytes.")
@click.option("-f", "--format", "template", metavar="TEMPLATE", help="A Go template, for each image.")
@connected
def inspect(
    context: Context,
    references: tuple[str, ...],
    remote: bool,
    platform: "Platform | None",
    raw: bool,
    config: bool,
    template: str | None,
) -> None:
    """Show what images are made of, as docker does: those of the local store, or of their registries.

    \b
    cargohold inspect --format '{{json .Config.Env}}' alpine
    cargohold inspect --remote alpine
    cargohold inspect --remote --format '{{.Os}}/{{.Architecture}}' alpine
    cargohold inspect --remote --raw alpine | jq .manifests
    """
    if (raw or config) and (template is not None or len(references) > 1 or (raw and config)):
        raise click.UsageError("--raw and --config print the bytes of one document, without --format")
    find = Remote if remote else Local
    images = [find(context, each) for each in references]
    if raw:
        output.write_bytes(images[0].top.body)
    elif config:
        output.write_bytes(images[0].config_of(images[0].image(platform)))
    else:
        _print(context, [image.describe(platform) for image in images], template)


def _print(context: Context, documents: list[dict[str, Any]], template: str | None) -> None:
    context.end_progress()
    if template is None:
        output.write(output.pretty(documents))
        return
    for document in documents:
        output.write(output.render(template, document))


class Local:
    """An image of the local store; of an index the images that are here."""

    def __init__(self, context: Context, text: str) -> None:
        self._store = context.store
        self._text = text
        self.top = self._store.manifest(self._store.find(text))

    def image(self, platform: "Platform | None") -> "Manifest":
        return self._store.image(self._text, platform).manifest

    def config_of(self, manifest: "Manifest") -> bytes:
        return self._store.read_blob(_config(manifest, self._text).digest)

    def describe(self, platform: "Platform | None") -> dict[str, Any]:
        from client.cli.describe import describe
        from storage.oci.image_config import ImageConfig
        from storage.oci.names import ImageReference

        image = self._store.image(self._text, platform)
        config = ImageConfig.parse(self.config_of(image.manifest))
        names = [ImageReference.parse(name) for name in image.names]
        return describe(image.manifest, config, names, image.root, image.content)


class Remote:
    """An image at a registry, found at the first endpoint that has it."""

    def __init__(self, context: Context, text: str) -> None:
        self._context = context
        self.reference, self.endpoint, self.top = _find(context, REFERENCE.convert(text, None, None))

    def image(self, platform: "Platform | None") -> "Manifest":
        """Return the manifest of the image for a platform, this machine's if none is wanted."""
        from storage.oci import media_types
        from storage.oci.errors import ManifestUnknown
        from storage.oci.platform import Platform, best_match

        if not media_types.is_index(self.top.media_type):
            return self.top
        wanted = platform or Platform.host()
        children = self.top.manifests
        index = best_match(wanted, [child.platform for child in children])
        if index is None:
            offered = ", ".join(str(child.platform) for child in children if child.platform)
            raise ManifestUnknown(f"{self.reference} has no image for {wanted}; it has {offered or 'none'}")
        child = children[index]
        with self._context.about(replace(self.reference, tag=None, digest=child.digest)):
            session = self._context.sessions.to(self.endpoint)
            return session.get_manifest(self.endpoint.repository, child.digest, child.size)

    def config_of(self, manifest: "Manifest") -> bytes:
        config = _config(manifest, str(self.reference))
        with self._context.about(self.reference):
            return self._context.sessions.to(self.endpoint).read_blob(self.endpoint.repository, config)

    def describe(self, platform: "Platform | None") -> dict[str, Any]:
        from client.cli.describe import describe
        from storage.oci.image_config import ImageConfig

        manifest = self.image(platform)
        config = ImageConfig.parse(self.config_of(manifest))
        return describe(manifest, config, [self.reference], self.top.digest)


def _config(manifest: "Manifest", text: str) -> "Descriptor":
    from storage.oci import media_types
    from storage.oci.errors import ManifestInvalid

    config = manifest.config
    if config is None or not media_types.is_image_config(config.media_type):
        kind = manifest.artifact_type or manifest.media_type
        raise ManifestInvalid(f"{text} is no image but {kind}: --raw shows it")
    return config


def _find(context: Context, text: str) -> "tuple[ImageReference, Endpoint, Manifest]":
    """Get what a reference names: of all that a short one may mean, and all their endpoints, the first.

    Raises the last endpoint's error, which is a registry's own and no mirror's.
    """
    from client.errors import CredentialsUnusable
    from storage.oci.errors import RegistryError

    error: RegistryError | None = None
    for reference in context.hosts.expand(text):
        route = context.hosts.route(reference)
        for endpoint in route.for_digests() if reference.digest else route.for_tags():
            try:
                with context.about(reference):
                    session = context.sessions.to(endpoint)
                    manifest = session.get_manifest(endpoint.repository, reference.reference)
            except CredentialsUnusable:
                raise
            except RegistryError as failure:
                error = failure
            else:
                return reference, endpoint, manifest
    assert error is not None
    raise error
