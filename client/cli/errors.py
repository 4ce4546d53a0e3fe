"""What to say about each class of error, and the exit codes that scripts rely on.

0  done                  4  not let in              7  broken off; what arrived is kept
1  failed                5  too many requests       9  no space
2  misused               6  wrong content           128 + n  ended by signal n
3  not found
"""

import errno
import signal
import sys
import traceback
from typing import NamedTuple

from client.cli.run import Run
from client.cli.text import printable
from client.errors import (
    AnswerInvalid,
    Blocked,
    Cancelled,
    CertificateRejected,
    ContentMismatch,
    CredentialsUnusable,
    DestinationRefused,
    Unreachable,
)
from client.store.errors import ImageIncomplete, ImageInUse, ImageUnknown, StoreBusy
from client.unpack import errors as unpack
from client.view.errors import PathUnknown
from storage.oci.errors import (
    BlobUnknown,
    Denied,
    InsufficientStorage,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

FAILED = 1
NOT_FOUND = 3
NOT_LET_IN = 4
RATE_LIMITED = 5
WRONG_CONTENT = 6
PARTIAL = 7
NO_SPACE = 9


class Meaning(NamedTuple):
    """How a run ends that such an error ended, and what its user may try."""

    code: int
    hint: str = ""


_ABSENT = "the spelling, or cargohold login {host}: what you may not read looks absent"
_AGAIN = "the same again; cargohold doctor {reference} tries each step of the way"
_KEPT = "the same again: what arrived is kept"
_ROOM = "freeing some space there, or another disk with --store"

# The first row that an error is an instance of counts, so a class stands before those it derives from.
_MEANINGS: dict[type[BaseException], Meaning] = {
    CredentialsUnusable: Meaning(NOT_LET_IN),
    Unauthorized: Meaning(NOT_LET_IN, "cargohold login {host}"),
    DestinationRefused: Meaning(FAILED),
    Blocked: Meaning(FAILED),
    Denied: Meaning(NOT_LET_IN, "cargohold doctor {reference}, which says whose credential is used"),
    ManifestUnknown: Meaning(NOT_FOUND, _ABSENT),
    NameUnknown: Meaning(NOT_FOUND, _ABSENT),
    BlobUnknown: Meaning(NOT_FOUND),
    ImageUnknown: Meaning(NOT_FOUND, "cargohold images, which lists what there is, or cargohold pull"),
    ImageIncomplete: Meaning(NOT_FOUND, "cargohold pull, which fetches what is missing"),
    PathUnknown: Meaning(NOT_FOUND),
    TooManyRequests: Meaning(RATE_LIMITED, "it later; most registries allow more after a login"),
    ContentMismatch: Meaning(WRONG_CONTENT, "cargohold doctor {reference}, which says who answers"),
    CertificateRejected: Meaning(FAILED, "--ca-file with its authority, or --insecure to trust anyone"),
    Unreachable: Meaning(FAILED, _AGAIN),
    InsufficientStorage: Meaning(NO_SPACE, _ROOM),
    unpack.VerificationFailed: Meaning(WRONG_CONTENT),
    unpack.NoSpace: Meaning(NO_SPACE, _ROOM),
    RegistryError: Meaning(FAILED),
    unpack.UnpackError: Meaning(FAILED),
}
# What goes on where it was when it is tried again.
_RESUMABLE = (Unreachable, Cancelled)
# Of these the store has its own, with codes that are a registry's to its callers only.
_WITHOUT_CODE = (ImageInUse, StoreBusy)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def report(error: BaseException, run: Run) -> int:
    """Print what is to be said about an error; return the exit code."""
    if run.verbose:
        traceback.print_exception(error)
    if run.failure is not error:
        run.subject = None
    meaning = _meaning(error, run)
    print(f"error: {printable(_message(error, run))}", file=sys.stderr)
    if meaning.hint:
        print(f"try: {printable(_filled(meaning.hint, run))}", file=sys.stderr)
    return meaning.code


def exit_code(error: BaseException) -> int:
    """Return the code of an error by its class alone."""
    return _meaning(error, Run()).code


def _meaning(error: BaseException, run: Run) -> Meaning:
    if isinstance(error, _RESUMABLE) and run.has_kept:
        return Meaning(PARTIAL, _KEPT)
    if isinstance(error, Cancelled):
        return Meaning(128 + (run.signal or signal.SIGINT))
    if isinstance(error, OSError):
        return Meaning(NO_SPACE if error.errno in _FULL else FAILED)
    for kind, meaning in _MEANINGS.items():
        if isinstance(error, kind):
            return meaning
    return Meaning(FAILED, "the same with -v, as in cargohold -v pull, and tell us what it prints")


def _message(error: BaseException, run: Run) -> str:
    match error:
        case RegistryError():
            return _code(error) + _about(error, run)
        case unpack.UnpackError() | Cancelled():
            return str(error)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}"
        case _:
            return f"internal: {type(error).__name__}: {error}"


def _code(error: RegistryError) -> str:
    """Give the code of what a registry could have said; what is wrong here has one only by inheritance."""
    kind = type(error)
    is_its_own = kind.__module__ == RegistryError.__module__ or "code" in vars(kind)
    is_remote = is_its_own or isinstance(error, Unavailable | AnswerInvalid)
    if not is_remote or isinstance(error, _WITHOUT_CODE) or error.code == RegistryError.code:
        return ""
    return f"{error.code}: "


def _about(error: RegistryError, run: Run) -> str:
    """Say which image is meant where the message, which may be a registry's, does not."""
    if run.subject is None:
        return error.message
    where = f"{run.subject.host}/{run.subject.repository}"
    is_said = where in error.message or str(run.subject.host) in error.message
    return error.message if is_said else f"{error.message} ({where})"


def _filled(hint: str, run: Run) -> str:
    subject = run.subject
    return hint.format(host=subject.host if subject else "REGISTRY", reference=subject or "REF")
