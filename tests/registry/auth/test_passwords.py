"""Hashes of passwords: their kinds, their limits, and what a failure costs."""

import asyncio
import threading
import unicodedata

import argon2
import bcrypt
import pytest

from registry.auth import passwords
from registry.auth.passwords import HashUnusable, PasswordInvalid, Passwords
from storage.oci.errors import Unavailable
from tests.registry.auth.people import CHEAP, Counted

OF_BCRYPT = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(10)).decode()
OF_ARGON2 = CHEAP.hash("correct horse")


def test_TOK_05_hashes_new_passwords_with_argon2id_and_its_defaults() -> None:
    stored = Passwords().hash_now("correct horse")

    parameters = argon2.extract_parameters(stored)
    assert parameters == argon2.PasswordHasher()._parameters
    assert parameters.type is argon2.Type.ID
    assert passwords.verify(stored, b"correct horse")


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_TOK_05_verifies_every_spelling_of_bcrypt(prefix: str) -> None:
    stored = prefix + OF_BCRYPT[4:]

    assert passwords.check_bcrypt(stored) == 10
    assert passwords.verify(stored, b"correct horse")
    assert not passwords.verify(stored, b"correct horsf")


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param("$2x$" + OF_BCRYPT[4:], id="2x-the-broken-one"),
        pytest.param("$2$" + OF_BCRYPT[4:], id="2-without-letter"),
        pytest.param("$2b$09" + OF_BCRYPT[6:], id="cost-9"),
        pytest.param("$2b$15" + OF_BCRYPT[6:], id="cost-15"),
        pytest.param("$2b$31" + OF_BCRYPT[6:], id="cost-31-a-day-of-cpu"),
        pytest.param(OF_BCRYPT[:-1], id="too-short"),
        pytest.param(OF_BCRYPT + "a", id="too-long"),
        pytest.param("$apr1$salt$hash", id="md5"),
        pytest.param("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", id="sha1"),
        pytest.param("$6$salt$hash", id="sha512-crypt"),
        pytest.param("rqXexS6ZhobKA", id="des-crypt"),
        pytest.param("plaintext", id="plain"),
        pytest.param(OF_ARGON2, id="argon2"),
        pytest.param("", id="empty"),
    ],
)
def test_TOK_05_takes_no_other_hash_from_a_file(stored: str) -> None:
    with pytest.raises(HashUnusable):
        passwords.check_bcrypt(stored)


def test_TOK_05_never_cuts_a_long_password_for_bcrypt() -> None:
    first = b"x" * 72
    stored = bcrypt.hashpw(first, bcrypt.gensalt(10)).decode()

    assert passwords.verify(stored, first)
    assert not passwords.verify(stored, first + b"anything")


@pytest.mark.parametrize("stored", [OF_BCRYPT, OF_ARGON2], ids=["bcrypt", "argon2"])
@pytest.mark.parametrize("tail", [b"\0", b"\0more"], ids=["at-the-end", "inside"])
def test_TOK_05_refuses_nul_at_login(stored: str, tail: bytes) -> None:
    assert not passwords.verify(stored, b"correct horse" + tail)


@pytest.mark.parametrize(
    "password",
    [
        pytest.param("short", id="short"),
        pytest.param("", id="empty"),
        pytest.param("with\0nul inside", id="nul"),
        pytest.param("x" * 1025, id="long"),
    ],
)
def test_TOK_05_refuses_at_setting(password: str) -> None:
    with pytest.raises(PasswordInvalid) as refused:
        Passwords(CHEAP).hash_now(password)

    assert not password or password not in refused.value.message


def test_TOK_05_takes_long_passwords_where_nothing_is_cut() -> None:
    stored = Passwords(CHEAP).hash_now("y" * 100)

    assert passwords.verify(stored, b"y" * 100)
    assert not passwords.verify(stored, b"y" * 99)


def test_TOK_05_applies_no_normalisation_silently() -> None:
    composed = unicodedata.normalize("NFC", "cafe\u0301 noir")
    stored = Passwords(CHEAP).hash_now(composed)

    assert passwords.verify(stored, composed.encode())
    assert not passwords.verify(stored, unicodedata.normalize("NFD", composed).encode())


@pytest.mark.parametrize(
    ("stored", "is_old"),
    [
        pytest.param(OF_BCRYPT, True, id="bcrypt"),
        pytest.param(OF_ARGON2, False, id="todays"),
        pytest.param(
            argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash("correct horse"),
            True,
            id="other-parameters",
        ),
    ],
)
def test_TOK_05_makes_a_better_hash_at_login(stored: str, is_old: bool) -> None:
    verdict = asyncio.run(Passwords(CHEAP).verify(stored, "correct horse", rehash=True))

    assert verdict.is_right
    assert (verdict.better is not None) == is_old
    if verdict.better is not None:
        assert verdict.better.startswith("$argon2id$v=19$m=8,t=1,p=1$")
        assert passwords.verify(verdict.better, b"correct horse")


@pytest.mark.parametrize(
    ("stored", "bcrypt_cost", "expected"),
    [
        pytest.param(None, None, ["argon2"], id="unknown-user"),
        pytest.param(OF_ARGON2, None, ["argon2"], id="user"),
        pytest.param(None, 10, ["argon2", "bcrypt"], id="unknown-user-beside-a-file"),
        pytest.param(OF_ARGON2, 10, ["argon2", "bcrypt"], id="user-beside-a-file"),
        pytest.param(OF_BCRYPT, 10, ["argon2", "bcrypt"], id="user-of-a-file"),
    ],
)
def test_AUTH_24_every_failure_computes_the_same_hashes(
    stored: str | None, bcrypt_cost: int | None, expected: list[str]
) -> None:
    counted = Counted()

    verdict = asyncio.run(Passwords(CHEAP, counted).verify(stored, "wrong", bcrypt_cost=bcrypt_cost))

    assert not verdict.is_right
    assert counted.taken() == expected


def test_AUTH_24_the_dummies_cost_what_real_hashes_do() -> None:
    seen: list[str] = []

    def check(stored: str, password: bytes) -> bool:
        seen.append(stored)
        return passwords.verify(stored, password)

    asyncio.run(Passwords(CHEAP, check).verify(None, "wrong", bcrypt_cost=10))

    of_argon2, of_bcrypt = seen
    assert argon2.extract_parameters(of_argon2) == argon2.extract_parameters(OF_ARGON2)
    assert passwords.check_bcrypt(of_bcrypt) == 10


def test_AUTH_25_hashes_off_the_event_loop_a_few_at_once_and_bounds_the_queue() -> None:
    running, most, release = 0, 0, threading.Event()
    started = threading.Semaphore(0)
    threads: set[str] = set()

    def check(stored: str, password: bytes) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        threads.add(threading.current_thread().name)
        started.release()
        release.wait(30)
        running -= 1
        return True

    async def scenario() -> list[object]:
        slow = Passwords(CHEAP, check, threads=1)
        logins = [asyncio.create_task(slow.verify(OF_ARGON2, "x")) for _ in range(300)]
        await asyncio.to_thread(started.acquire, timeout=30)
        # The loop answers while one hash runs and the others wait.
        await asyncio.sleep(0)
        refused = [task for task in logins if task.done()]
        release.set()
        results = await asyncio.gather(*logins, return_exceptions=True)
        assert len(refused) == 300 - 257
        slow.close()
        return list(results)

    results = asyncio.run(scenario())

    assert most == 1
    assert threading.main_thread().name not in threads
    refusals = [each for each in results if isinstance(each, Unavailable)]
    assert len(refusals) == 300 - 257
    assert refusals[0].headers["Retry-After"] == "2"


def test_AUTH_25_asks_once_more_when_a_waiting_login_gets_its_turn() -> None:
    class Paused(Exception):
        pass

    def admit() -> None:
        raise Paused

    counted = Counted()
    with pytest.raises(Paused):
        asyncio.run(Passwords(CHEAP, counted).verify(OF_ARGON2, "x", admit=admit))

    assert counted.taken() == []


def test_hashes_on_its_threads_too() -> None:
    stored = asyncio.run(Passwords(CHEAP).hash("correct horse"))

    assert passwords.verify(stored, b"correct horse")
    with pytest.raises(PasswordInvalid):
        asyncio.run(Passwords(CHEAP).hash("short"))


def test_a_hash_with_a_spoilt_salt_matches_nothing() -> None:
    assert not passwords.verify("$2b$10$" + "z" * 53, b"correct horse")
