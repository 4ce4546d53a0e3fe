"""References on the command line."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from storage.oci.platform import Platform


class ReferenceText(click.ParamType[str]):
    """A reference as users write it, checked but not yet expanded: that takes configuration."""

    name = "reference"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from storage.oci.errors import RegistryError
        from storage.oci.names import ImageReference

        try:
            ImageReference.parse(value)
        except RegistryError as error:
            self.fail(error.message, param, ctx)
        return str(value)


class RegistryHost(click.ParamType[str]):
    """A registry: host and port, or the URL that people copy from elsewhere."""

    name = "registry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from storage.oci.errors import RegistryError
        from storage.oci.names import ImageReference

        text = str(value).removeprefix("https://").removeprefix("http://").rstrip("/")
        text = text.removesuffix("/v1").removesuffix("/v2")
        try:
            host = ImageReference.parse(f"{text}/name").host
        except RegistryError:
            host = ""
        if (host == "docker.io" and text.lower() not in _HUB) or not host or "/" in text:
            self.fail(f"not a registry, host[:port]: {value!r}", param, ctx)
        return host


class PlatformText(click.ParamType["Platform"]):
    """os/architecture[/variant], as a Platform."""

    name = "platform"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Platform":
        from storage.oci.errors import RegistryError
        from storage.oci.platform import Platform

        try:
            return value if isinstance(value, Platform) else Platform.parse(value)
        except RegistryError as error:
            self.fail(error.message, param, ctx)


_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
REFERENCE = ReferenceText()
REGISTRY = RegistryHost()
PLATFORM = PlatformText()

one_platform = click.option("--platform", type=PLATFORM, metavar="OS/ARCH", help="Which image of an index.")
