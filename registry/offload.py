"""The one door from the event loop to blocking code.

A hop to a thread costs about 0.35 ms, so a point read runs inline and a unit of work is one hop.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from storage.database import Busy, Database, Unit
from storage.oci.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 16
# A tenth of a processor's share beside a busy thread: logins go on, slowly, where pulls take all there is.
_NICE = 10


async def finish(future: asyncio.Future[T]) -> T:
    """Wait for what runs on a thread. A cancelled caller first lets it end.

    What follows a cancellation closes what the thread is still using.
    """
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


class BoundedThreads:
    """A few threads for one costly kind of work, and a limit on how much of it may wait for them."""

    def __init__(self, threads: int, most_waiting: int, what: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=what, initializer=_stand_back)
        self._free = asyncio.Semaphore(threads)
        self._most = threads + most_waiting
        self._accepted = 0
        self._what = what

    async def run(self, work: Callable[[], T], admit: Callable[[], None] = lambda: None) -> T:
        """Run blocking work on one of the threads; `admit` may still refuse it when its turn comes.

        Raises Unavailable when too much waits already, and what `admit` raises.
        """
        if self._accepted >= self._most:
            raise Unavailable(f"too many {self._what} at once, try again", retry_after_seconds=2)
        self._accepted += 1
        try:
            async with self._free:
                admit()
                return await finish(asyncio.get_running_loop().run_in_executor(self._threads, work))
        finally:
            self._accepted -= 1

    def close(self) -> None:
        self._threads.shutdown()


def _stand_back() -> None:
    """Let every other thread of the machine have a processor before this one and those that it starts.

    Without it the event loop waits for a hash to have had its turn, and pulls take twenty times as long while
    many people log in. Source: setpriority(2), "C library/kernel differences": Linux keeps it per thread.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, _NICE)
        processors = sorted(os.sched_getaffinity(0))
        # Half of them are enough, and leave the event loop one that no hash is on.
        os.sched_setaffinity(thread, processors[len(processors) // 2 :])


class Offload:
    """Runs blob work on its own threads, and units of work where the database wants them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")

    async def blobs(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work on a thread. A cancelled caller still waits for it to end."""
        loop = asyncio.get_running_loop()
        return await finish(loop.run_in_executor(self.threads, lambda: work(*args, **kwargs)))

    async def point_read(self, unit: Unit[T]) -> T:
        """Run a read of a few rows on the event loop, or on a thread when it meets a lock."""
        try:
            return self._database.read_inline(unit)
        except Busy:
            return await self.read(unit)

    async def read(self, unit: Unit[T]) -> T:
        """Run a read of many or large rows on a thread."""
        return await self.blobs(self._database.read, unit)

    async def transaction(self, unit: Unit[T]) -> T:
        """Run a unit of work; when this returns its commit is durable."""
        return await asyncio.wrap_future(self._database.submit(unit))

    def close(self) -> None:
        self.threads.shutdown()
