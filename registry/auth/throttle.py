"""Throttling of guesses: so many failed logins for an account or from a source, then a pause (AUTH-25).

Each pause is twice the one before it. Who logged in before, from where they did, is not paused by the guesses
of others: else anybody could lock anybody out. Every worker counts for itself.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from storage.oci.errors import TooManyRequests

# So many at once; one is forgotten a minute.
MOST_FAILURES = 10

_FORGET_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 900.0
# Without a failure for so long, the next pause is a first one again.
_FORGIVE_SECONDS = 3600.0
_KNOWN_SECONDS = 30 * 86400.0
_MOST_RECORDS = 20_000


@dataclass(slots=True)
class _Record:
    """What is held against one account or source."""

    failures: float = 0.0
    pauses: int = 0
    paused_until: float = 0.0
    failed_at: float = float("-inf")

    def fail(self, now: float, most: int) -> None:
        """Count a failure, and start a pause when it is one too many."""
        passed = now - self.failed_at
        self.failures = max(0.0, self.failures - passed / _FORGET_SECONDS) + 1
        self.failed_at = now
        if passed > _FORGIVE_SECONDS:
            self.pauses = 0
        # What was forgotten of a minute that is not over does not count.
        if self.failures > most - 1 and self.paused_until <= now:
            pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(self.pauses, 10), _LONGEST_PAUSE_SECONDS)
            self.paused_until = now + pause
            self.pauses += 1
            self.failures = 0.0


class Throttle:
    """Counts the failed logins of one worker, in bounded memory. Not for several threads."""

    def __init__(
        self,
        most_failures: int = MOST_FAILURES,
        *,
        most_records: int = _MOST_RECORDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most_failures
        self._most_records = most_records
        self._clock = clock
        self._records: OrderedDict[tuple[str, ...], _Record] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records) + len(self._known)

    def check(self, account: str | None, client: str) -> None:
        """Raise TooManyRequests during a pause. `account` None is a secret that belongs to no name."""
        source, now = network(client), self._clock()
        keys = _keys(account, source)
        if account is not None and self._known.get((account, source), 0.0) > now:
            keys = iter([(account, source)])
        records = (self._records.get(key) for key in keys)
        pause = max((record.paused_until - now for record in records if record), default=0.0)
        if pause > 0:
            raise TooManyRequests("too many failed logins, try again later", retry_after_seconds=pause)

    def fail(self, account: str | None, client: str) -> None:
        """Count a failed login against the account, the source, and the two together."""
        source = network(client)
        pair = [] if account is None else [(account, source)]
        for key in chain(_keys(account, source), pair):
            record = self._records.setdefault(key, _Record())
            self._records.move_to_end(key)
            record.fail(self._clock(), self._most)
        while len(self._records) > self._most_records:
            self._records.popitem(last=False)

    def succeed(self, account: str, client: str) -> None:
        """Remember from where an account's owner comes. Earlier failures stay: a guess may be the success."""
        source = network(client)
        if not source:
            return
        self._known[account, source] = self._clock() + _KNOWN_SECONDS
        self._known.move_to_end((account, source))
        while len(self._known) > self._most_records:
            self._known.popitem(last=False)


def _keys(account: str | None, source: str) -> Iterator[tuple[str, ...]]:
    if source:
        yield ("source", "", source)
    if account is not None:
        yield ("account", account, "")


def network(client: str) -> str:
    """Return what one client may have of addresses: an IPv4 address, or the /64 of an IPv6 address.

    Empty for what is no address: the far end of a unix socket.
    """
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
