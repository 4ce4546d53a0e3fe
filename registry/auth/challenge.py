"""The one WWW-Authenticate line of a 401: where to get a token, and for what.

Clients differ in what they can read, so it is their common part: one Bearer challenge on one line, every
value a quoted string. Source: RFC 9110, 11.6.1; RFC 6750, 3; distribution's docs/spec/auth/token.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from registry.auth.scopes import Scope

Error = Literal["invalid_token", "insufficient_scope"]

# What a quoted string may hold: no control characters, and nothing outside ASCII.
_unsayable = re.compile(r"[^\x20-\x7e]").sub
_escaped = re.compile(r'(["\\])').sub


@dataclass(frozen=True, slots=True)
class Challenger:
    """Writes challenges of one registry; the realm is configured, no request has a say in it (AUTH-28)."""

    realm: str
    service: str

    def bearer(self, scopes: Sequence[Scope] = (), error: Error | None = None) -> str:
        """Write a challenge; a ping needs no scope."""
        parameters = [("realm", self.realm), ("service", self.service)]
        if scopes:
            parameters.append(("scope", " ".join(map(str, scopes))))
        if error:
            parameters.append(("error", error))
        return "Bearer " + ",".join(f"{name}={quoted(value)}" for name, value in parameters)


def basic(service: str) -> str:
    """Write the token endpoint's own challenge, for a password that is wrong. Source: RFC 7617, 2."""
    return f'Basic realm={quoted(service)},charset="UTF-8"'


def quoted(value: str) -> str:
    """Write a quoted-string. Source: RFC 9110, 5.6.4."""
    return '"' + _escaped(r"\\\1", _unsayable("?", value)) + '"'
