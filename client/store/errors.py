"""What can go wrong in the local store, beside what the specs have codes for."""

from storage.oci.errors import RegistryError, Unavailable


class StoreUnusable(RegistryError):
    """A directory that cannot be, or must not be, a store; the message says why."""


class StoreBusy(Unavailable):
    """Another process uses what this one needs for itself."""


class ImageInUse(RegistryError):
    """An image that something mounted needs."""

    code, status = "DENIED", 409


class ImageUnknown(RegistryError):
    """No such image in the store."""

    code, status = "MANIFEST_UNKNOWN", 404


class ImageIncomplete(RegistryError):
    """An image of which the store lacks a part: it was pulled for another platform, or something is lost."""

    code, status = "MANIFEST_BLOB_UNKNOWN", 404


class NotAnImage(RegistryError):
    """An artifact where the files of an image are wanted."""

    code, status = "MANIFEST_INVALID", 422
