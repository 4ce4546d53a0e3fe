"""Connecting to whichever of a name's addresses answers first. Source: RFC 8305, 5."""

import errno
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from client.clock import Deadline
from client.errors import Unreachable

# How long an address may be silent before the next is tried beside it: one dead IPv6 route holds nobody up.
_HEAD_START_SECONDS = 0.25
# How soon a stop is noticed.
_LONGEST_WAIT = 1.0
_UNDER_WAY = (0, errno.EINPROGRESS)


def resolved(resolve: Callable[[], Iterable[str]], seconds: float, deadline: Deadline) -> Iterable[str]:
    """Look a name up in a thread of its own, because the system gives no way to end that.

    Raises Unreachable when it takes too long, Cancelled, and what `resolve` does.
    """
    answer: Future[Iterable[str]] = Future()

    def ask() -> None:
        try:
            answer.set_result(resolve())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    left = seconds
    while left > 0:
        wait = min(_LONGEST_WAIT, deadline.limit(left))
        try:
            return answer.result(wait)
        except TimeoutError:
            left -= wait
    raise Unreachable(f"its name was not resolved in {seconds:.0f} s")


def connect(addresses: Iterable[str], port: int, seconds: float, deadline: Deadline) -> socket.socket:
    """Return a connected socket. Raises Unreachable with what every address said, TimedOut, Cancelled."""
    race = _Race()
    waiting, left = deque(addresses), seconds
    try:
        while waiting or race.runners:
            if waiting:
                race.start(waiting.popleft(), port)
            wait = min(_HEAD_START_SECONDS if waiting else _LONGEST_WAIT, deadline.limit(left))
            winner, is_silent = race.watch(wait)
            if winner is not None:
                return winner
            left -= wait if is_silent else 0
            if left <= 0:
                race.failures.append(f"no answer in {seconds:.0f} s")
                break
    finally:
        race.end()
    raise Unreachable("; ".join(race.failures) or "it has no address")


class _Race:
    """Connections that are on their way, each with its address."""

    def __init__(self) -> None:
        self.runners: dict[int, tuple[str, socket.socket]] = {}
        self.failures: list[str] = []
        self._poll = select.poll()

    def start(self, address: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            family, kind, protocol, _, target = found[0]
            runner = socket.socket(family, kind, protocol)
        except OSError as error:
            self.failures.append(f"{address}: {error.strerror or error}")
            return
        runner.setblocking(False)
        self.runners[runner.fileno()] = (address, runner)
        self._poll.register(runner, select.POLLOUT)
        error_number = runner.connect_ex(target)
        if error_number not in _UNDER_WAY:
            self._fail(runner.fileno(), error_number)

    def watch(self, seconds: float) -> tuple[socket.socket | None, bool]:
        """Wait for something to happen; return who has arrived, and whether nothing happened at all."""
        ready = self._poll.poll(seconds * 1000) if self.runners else []
        for fd, _ in ready:
            error_number = self.runners[fd][1].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error_number == 0:
                return self.runners.pop(fd)[1], False
            self._fail(fd, error_number)
        return None, bool(self.runners) and not ready

    def end(self) -> None:
        for _, runner in self.runners.values():
            runner.close()

    def _fail(self, fd: int, error_number: int) -> None:
        address, runner = self.runners.pop(fd)
        self._poll.unregister(fd)
        runner.close()
        self.failures.append(f"{address}: {os.strerror(error_number)}")
