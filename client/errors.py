"""What can go wrong on the way to a registry, in the one error tree: no answer, a lie, a local fault."""

from storage.oci.errors import Denied, RegistryError, RequestInvalid, Unauthorized, Unavailable


class Unreachable(Unavailable):
    """No answer, or one that broke off: the name, the connection, TLS or the bytes failed on the way."""


class TimedOut(Unreachable):
    """An answer that stalled or crawled, or an operation that used up its time."""


class CertificateRejected(Unavailable):
    """A server that is not who its name says; trying again would not change that."""


class ProxyRefused(Unavailable):
    """A proxy that does not let us through, for want of a password perhaps; asking again would not help."""


class AnswerInvalid(RegistryError):
    """An answer that the distribution spec or our limits do not allow."""

    code, status = "UNAVAILABLE", 502


class AnswerTooLarge(AnswerInvalid):
    """A body beyond what its kind may have (NET-09)."""


class ContentMismatch(AnswerInvalid):
    """Content that is not what its digest or size says: it is never kept nor shown."""

    code = "DIGEST_INVALID"


class DestinationRefused(Denied):
    """An address to which no answer and no configuration may send us (NET-01..NET-05)."""


class CredentialsUnusable(Unauthorized):
    """A credential that exists but cannot be had: its helper failed or its file is not to be trusted.

    Nothing is tried in its place: neither another credential nor none (CLI-09).
    """


class ConfigurationInvalid(RequestInvalid):
    """A configuration file that cannot be understood; the message names file and line."""


class Blocked(Denied):
    """A registry that the configuration forbids."""


class DiskFailed(RegistryError):
    """A local disk that does not keep what it is given; one that is full raises InsufficientStorage."""


class Cancelled(Exception):
    """Work that was stopped from outside. It is no failure, so that nothing tries it again."""
