"""Pauses after failed logins."""

import pytest

from registry.auth.throttle import MOST_FAILURES, Throttle, network
from storage.oci.errors import TooManyRequests
from tests.registry.auth.people import Hand

OFFICE, STRANGER = "192.0.2.1", "203.0.113.9"


def fail(throttle: Throttle, account: str | None, client: str, times: int = MOST_FAILURES) -> None:
    for _ in range(times):
        throttle.check(account, client)
        throttle.fail(account, client)


def pause(throttle: Throttle, account: str | None, client: str) -> int:
    """Return Retry-After, 0 without a pause."""
    try:
        throttle.check(account, client)
    except TooManyRequests as error:
        return int(error.headers["Retry-After"])
    return 0


def test_AUTH_25_pauses_an_account_after_ten_failures_from_anywhere() -> None:
    throttle = Throttle(clock=Hand())
    for number in range(9):
        fail(throttle, "alice", f"203.0.113.{number}", 1)
    assert pause(throttle, "alice", STRANGER) == 0

    fail(throttle, "alice", "203.0.113.10", 1)

    assert pause(throttle, "alice", STRANGER) == 60
    assert pause(throttle, "bob", STRANGER) == 0


def test_AUTH_25_pauses_a_source_after_ten_failures_of_any_accounts() -> None:
    throttle = Throttle(clock=Hand())
    for number in range(10):
        fail(throttle, f"user{number}", STRANGER, 1)

    assert pause(throttle, "alice", STRANGER) == 60
    assert pause(throttle, "alice", OFFICE) == 0


def test_AUTH_25_the_tenth_failure_pauses_however_slowly_it_was_computed() -> None:
    hand = Hand()
    throttle = Throttle(clock=hand)
    for _ in range(10):
        fail(throttle, "alice", STRANGER, 1)
        hand.now += 5.9

    assert pause(throttle, "alice", STRANGER) == 55


def test_AUTH_25_doubles_each_pause_up_to_a_quarter_of_an_hour() -> None:
    hand = Hand()
    throttle = Throttle(clock=hand)
    pauses = []
    for _ in range(6):
        fail(throttle, "alice", STRANGER)
        pauses.append(pause(throttle, "alice", STRANGER))
        hand.now += pauses[-1]

    assert pauses == [60, 120, 240, 480, 900, 900]


def test_AUTH_25_forgets_a_failure_a_minute_and_pauses_after_an_hour() -> None:
    hand = Hand()
    throttle = Throttle(clock=hand)
    for _ in range(50):
        fail(throttle, "alice", STRANGER, 1)
        hand.now += 61
    assert pause(throttle, "alice", STRANGER) == 0

    fail(throttle, "alice", STRANGER)
    hand.now += 3700
    fail(throttle, "alice", STRANGER)

    assert pause(throttle, "alice", STRANGER) == 60


def test_AUTH_25_does_not_let_a_stranger_lock_an_owner_out() -> None:
    throttle = Throttle(clock=Hand())
    throttle.succeed("alice", OFFICE)

    fail(throttle, "alice", STRANGER)

    assert pause(throttle, "alice", STRANGER) == 60
    assert pause(throttle, "alice", OFFICE) == 0
    # The place alone is no licence to guess.
    fail(throttle, "alice", OFFICE)
    assert pause(throttle, "alice", OFFICE) == 60


def test_AUTH_25_a_success_does_not_wipe_failures() -> None:
    throttle = Throttle(clock=Hand())
    for _ in range(9):
        fail(throttle, "alice", STRANGER, 1)
    throttle.succeed("mallory", STRANGER)
    fail(throttle, "alice", STRANGER, 1)

    assert pause(throttle, "alice", STRANGER) == 60


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("-", ""),
        ("", ""),
        ("unix:", ""),
    ],
)
def test_AUTH_25_counts_an_ipv6_client_by_its_network(client: str, expected: str) -> None:
    assert network(client) == expected


def test_AUTH_25_remembers_in_bounded_memory() -> None:
    throttle = Throttle(most_records=100, clock=Hand())

    for number in range(1000):
        throttle.fail(f"user{number}", f"2001:db8:0:{number:x}::1")
        throttle.succeed(f"user{number}", f"2001:db8:0:{number:x}::1")

    assert len(throttle) <= 200


def test_AUTH_25_counts_no_source_where_there_is_none() -> None:
    throttle = Throttle(clock=Hand())
    for number in range(50):
        fail(throttle, f"user{number}", "-", 1)

    assert pause(throttle, "alice", "-") == 0
