"""Passwords: argon2id for those set here, bcrypt for those that came from elsewhere.

Hashing is slow by design, so it has threads of its own and runs no more than a few at once (AUTH-25). A
failed login costs one hash of each kind in use, whether or not the user exists (AUTH-24).
"""

import base64
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import argon2
import bcrypt

from registry.offload import BoundedThreads
from storage.oci.errors import RequestInvalid

LEAST_CHARACTERS = 8
# Longer ones are refused and never cut: bcrypt itself reads 72 bytes and no more.
BCRYPT_BYTES = 72
MOST_BYTES = 1024

_LEAST_COST, _MOST_COST = 10, 14
_MOST_WAITING = 256
_BCRYPT_LETTERS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_bcrypt_parts = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}", re.ASCII).fullmatch

Verify = Callable[[str, bytes], bool]


class PasswordInvalid(RequestInvalid):
    """A new password that is refused; the message says why, and never what it was."""


class HashUnusable(ValueError):
    """A password hash that is not taken; the message says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is right; `better` is its new hash when the stored one is of an older kind."""

    is_right: bool
    better: str | None = None


WRONG = Verdict(False)


def check_bcrypt(stored: str) -> int:
    """Return the cost of a bcrypt hash. Raises HashUnusable for any other hash, or a cost beyond 10 to 14."""
    parts = _bcrypt_parts(stored)
    if parts is None:
        raise HashUnusable("not a bcrypt hash ($2a$, $2b$ or $2y$); `htpasswd -B -C 12` makes them")
    cost = int(parts[1])
    if not _LEAST_COST <= cost <= _MOST_COST:
        raise HashUnusable(f"bcrypt of cost {cost}; {_LEAST_COST} to {_MOST_COST} are taken")
    return cost


def verify(stored: str, password: bytes) -> bool:
    """Hold a password against a hash, at the full cost of the hash whatever the password is."""
    is_bcrypt = stored.startswith("$2")
    is_sound = 0 < len(password) <= (BCRYPT_BYTES if is_bcrypt else MOST_BYTES) and b"\0" not in password
    candidate = password if is_sound else b"-"
    matches = _verify_bcrypt(stored, candidate) if is_bcrypt else _verify_argon2(stored, candidate)
    return matches and is_sound


def _verify_bcrypt(stored: str, password: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, stored.encode())
    except ValueError:  # a salt with bits where none belong
        return False


def _verify_argon2(stored: str, password: bytes) -> bool:
    try:
        return argon2.PasswordHasher().verify(stored, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def random_password() -> str:
    """Make a password for somebody to write down: 120 bits."""
    return base64.b32encode(secrets.token_bytes(15)).decode().lower()


class Passwords:
    """Hashes and verifies, on threads of its own. Safe on one event loop; `hash_now` is for programs."""

    def __init__(
        self, hasher: argon2.PasswordHasher | None = None, check: Verify = verify, threads: int | None = None
    ) -> None:
        self._hasher = hasher or argon2.PasswordHasher()
        self._check = check
        # One argon2 uses four threads and 64 MiB by itself: half of the machine stays for pulls.
        count = threads or max(1, min(4, (os.cpu_count() or 1) // 2))
        self._threads = BoundedThreads(count, _MOST_WAITING, "logins")
        self._dummy = _dummy_argon2(self._hasher)

    async def verify(
        self,
        stored: str | None,
        password: str,
        *,
        bcrypt_cost: int | None = None,
        rehash: bool = False,
        admit: Callable[[], None] = lambda: None,
    ) -> Verdict:
        """Hold a password against a user's hash; None is a user that does not exist.

        `bcrypt_cost` is that of the bcrypt hashes that other users have, None when nobody has one. `rehash`
        asks for a new hash where the stored one is not what would be made today. `admit` may refuse the
        attempt when its turn comes, by raising. Raises Unavailable when too many logins wait.
        """
        data = _encode(password)
        return await self._threads.run(lambda: self._verify(stored, data, bcrypt_cost, rehash), admit)

    def _verify(self, stored: str | None, password: bytes, bcrypt_cost: int | None, rehash: bool) -> Verdict:
        if stored is not None and self._check(stored, password):
            is_old = rehash and (_is_bcrypt(stored) or self._hasher.check_needs_rehash(stored))
            return Verdict(True, self._hasher.hash(password) if is_old else None)
        self._spend(stored, password, bcrypt_cost)
        return WRONG

    def _spend(self, stored: str | None, password: bytes, bcrypt_cost: int | None) -> None:
        """Compute what the check did not, so that every failure takes the same time (AUTH-24)."""
        if stored is None or _is_bcrypt(stored):
            self._check(self._dummy, password)
        if bcrypt_cost is not None and (stored is None or not _is_bcrypt(stored)):
            self._check(_dummy_bcrypt(bcrypt_cost), password)

    async def hash(self, password: str) -> str:
        """Hash a new password. Raises PasswordInvalid, Unavailable."""
        data = _check_new(password)
        return await self._threads.run(lambda: self._hasher.hash(data))

    def hash_now(self, password: str) -> str:
        """Hash a new password on this thread. Raises PasswordInvalid."""
        return self._hasher.hash(_check_new(password))

    def close(self) -> None:
        self._threads.close()


def _check_new(password: str) -> bytes:
    data = _encode(password)
    if len(password) < LEAST_CHARACTERS:
        raise PasswordInvalid(f"a password has {LEAST_CHARACTERS} characters at least")
    if len(data) > MOST_BYTES:
        raise PasswordInvalid(f"a password has {MOST_BYTES} bytes at most")
    if b"\0" in data:
        raise PasswordInvalid("a password has no NUL in it")
    return data


def _encode(password: str) -> bytes:
    # As it was typed: no normalisation, which other clients would not do. A lone surrogate never matches.
    return password.encode("utf-8", "surrogatepass")


def _is_bcrypt(stored: str) -> bool:
    return stored.startswith("$2")


def _dummy_argon2(hasher: argon2.PasswordHasher) -> str:
    """Write a hash that costs what a real one does, and that nobody knows a password for."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode()
        for size in (hasher.salt_len, hasher.hash_len)
    )
    memory, time, lanes = hasher.memory_cost, hasher.time_cost, hasher.parallelism
    return f"$argon2id$v=19$m={memory},t={time},p={lanes}${salt}${digest}"


def _dummy_bcrypt(cost: int) -> str:
    salt = bcrypt.gensalt(cost).decode()
    return salt + "".join(secrets.choice(_BCRYPT_LETTERS) for _ in range(31))
