"""Identities over a real database, with a cheap hash and clocks that a test moves."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import argon2

from registry.app import MIGRATIONS
from registry.auth import accounts, passwords
from registry.auth.access import Identity
from registry.auth.htpasswd import Htpasswd
from registry.auth.identities import Federation, LocalIdentities
from registry.auth.passwords import Passwords
from registry.auth.throttle import Throttle
from registry.offload import Offload
from storage.database import Database, Unit, connect

T = TypeVar("T")
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HOME = "192.0.2.1"


@dataclass
class Hand:
    """A clock's hand."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Counted:
    """Verifies for real, and counts hashes by their kind."""

    kinds: list[str] = field(default_factory=list)

    def __call__(self, stored: str, password: bytes) -> bool:
        self.kinds.append("bcrypt" if stored.startswith("$2") else "argon2")
        return passwords.verify(stored, password)

    def taken(self) -> list[str]:
        kinds, self.kinds = sorted(self.kinds), []
        return kinds


@dataclass
class People:
    """A registry's people, without the registry."""

    database: Database
    offload: Offload
    identities: LocalIdentities
    counted: Counted
    hand: Hand

    def do(self, unit: Unit[T]) -> T:
        return self.database.transaction(unit)

    def login(self, username: str, password: str, client: str = HOME) -> Identity:
        return self.run(lambda: self.identities.login(username, password, client))

    def renew(self, handle: str, since: float) -> Identity:
        return self.run(lambda: self.identities.renew(handle, since))

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(work())

    def add(self, name: str, password: str, *, is_admin: bool = False) -> None:
        stored = CHEAP.hash(password)
        self.do(lambda db: accounts.create_user(db, name, stored, is_admin=is_admin))


@contextmanager
def people(
    directory: Path,
    *,
    htpasswd: Path | None = None,
    federation: Callable[[Offload, Hand], Federation] | None = None,
) -> Iterator[People]:
    hand, counted = Hand(), Counted()
    database = connect(f"sqlite:{directory / 'people.db'}", MIGRATIONS, hand)
    offload = Offload(database)
    identities = LocalIdentities(
        offload,
        Passwords(CHEAP, counted, threads=1),
        Throttle(clock=hand),
        Htpasswd(htpasswd) if htpasswd else None,
        federation(offload, hand) if federation else None,
    )
    try:
        yield People(database, offload, identities, counted, hand)
    finally:
        identities.close()
        offload.close()
        database.close()
