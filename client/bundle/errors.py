"""Why there is no bundle."""

from storage.oci.errors import RequestInvalid


class BundleRefused(RequestInvalid):
    """An image, or options for it, of which no runtime configuration can be made."""


class UserUnknown(BundleRefused):
    """A user or group that the image's /etc/passwd or /etc/group does not have."""
