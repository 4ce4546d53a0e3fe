"""When to try again, and how long to wait: shared by all requests to one registry.

Source: RFC 9110, 10.2.3 (Retry-After), 5.6.7 (dates).
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from client.clock import Clock, Deadline
from client.errors import AnswerInvalid, CertificateRejected, DiskFailed, ProxyRefused, Unreachable
from storage.oci.errors import RegistryError

# Statuses that say more than these classes' do: the next attempt would end the same way.
_FINAL = (AnswerInvalid, CertificateRejected, DiskFailed, ProxyRefused)
_RETRIED_STATUSES = (408, 429, 500, 503)  # errors.parse reads 502 and 504 as 503


@dataclass(frozen=True, slots=True)
class Patience:
    """How stubborn to be. A registry that asks to wait longer than the cap is believed, and given up."""

    attempts: int = 5
    first_delay_seconds: float = 0.2
    longest_delay_seconds: float = 30.0
    longest_retry_after_seconds: float = 120.0
    # Retries that may be owed at once, and what each success pays back: an outage is not hammered.
    budget: float = 20.0
    repaid_by_success: float = 0.2


PATIENCE = Patience()


class Backoff:
    """Delays for one registry; when it asks one request to wait, all wait."""

    def __init__(self, patience: Patience, deadline: Deadline) -> None:
        self._patience = patience
        self._deadline = deadline
        self._clock: Clock = deadline.clock
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self._budget = patience.budget

    def wait(self) -> None:
        """Wait while the registry wants no requests. Raises TimedOut when the deadline comes first."""
        with self._lock:
            pause = self._paused_until - self._clock.monotonic()
        if pause > 0:
            self._deadline.sleep(pause + self._clock.random() * min(pause, 1.0))

    def succeed(self) -> None:
        with self._lock:
            self._budget = min(self._patience.budget, self._budget + self._patience.repaid_by_success)

    def fail(self, error: RegistryError, failures: int, *, is_cured: bool = False) -> None:
        """Wait before another attempt after `failures` ones, or raise `error` if there is to be none.

        `is_cured` says that the next attempt will differ, so that it makes sense after any error.
        """
        if not (is_cured or is_transient(error)) or failures >= self._patience.attempts:
            raise error
        asked = error.detail.get("retry_after_seconds")
        delay = float(asked) if isinstance(asked, int | float) else self._delay(failures)
        if delay > self._patience.longest_retry_after_seconds:
            raise error
        with self._lock:
            if self._budget < 1:
                raise error
            self._budget -= 1
            if error.status in (429, 503) and not isinstance(error, Unreachable):
                self._paused_until = max(self._paused_until, self._clock.monotonic() + delay)
        self._deadline.sleep(delay)

    def _delay(self, failures: int) -> float:
        longest = self._patience.first_delay_seconds * 2.0 ** min(failures - 1, 20)
        # Not down to zero: a failure that comes at once would use up all attempts in a moment.
        return min(longest, self._patience.longest_delay_seconds) * (0.5 + self._clock.random() / 2)


def is_transient(error: RegistryError) -> bool:
    """Tell whether the same request may succeed later."""
    return error.status in _RETRIED_STATUSES and not isinstance(error, _FINAL)


def retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Read Retry-After, seconds or a date, as seconds from now; what is neither is None."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    moment = _date(text)
    if moment is None:
        return None
    # The registry's own clock, where it shows: ours may differ.
    return max(0.0, moment - (_date(headers.get("Date", "")) or clock.wall()))


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
