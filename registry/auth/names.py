"""Names of users, groups and robots: what Basic can carry, and what no other principal is called."""

import re

from storage.oci.errors import RequestInvalid

# No colon, which ends the name in Basic (RFC 7617, 2); e-mail addresses are fine.
_is_name = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@+-]{0,126}[A-Za-z0-9])?", re.ASCII).fullmatch
# `oidc` is the user name beside an ID token, `robot` what clients make of robot:NAME.
_RESERVED = frozenset({"anonymous", "cert", "group", "oidc", "robot", "user"})


class AccountNameInvalid(RequestInvalid):
    """A name that no user, group or robot may have."""


def check(name: str) -> str:
    """Return a name if a user, group or robot may have it. Raises AccountNameInvalid."""
    if not _is_name(name):
        raise AccountNameInvalid("a name is up to 128 letters and digits, with . _ @ + - between them")
    if name.lower() in _RESERVED:
        raise AccountNameInvalid(f"{name!r} has a meaning of its own and cannot be a name")
    return name


def is_name(name: str) -> bool:
    """Say the same without raising."""
    return _is_name(name) is not None and name.lower() not in _RESERVED
