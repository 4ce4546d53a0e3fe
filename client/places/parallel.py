"""The same work on many things, several at once, until the first failure."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from client.errors import Cancelled

T = TypeVar("T")
R = TypeVar("R")


def each(
    work: Callable[[T], R], items: Iterable[T], count: int, stop: threading.Event | None = None
) -> list[R]:
    """Return what `work` makes of each item, in their order.

    After a failure `stop` is set, at which running work is to end; then the first error is raised, which is
    not that of work that was stopped.
    """
    with ThreadPoolExecutor(count, "places") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if stop is not None and not all(
                future.done() and future.exception() is None for future in futures
            ):
                stop.set()
            pool.shutdown(cancel_futures=True)
    errors = [future.exception() for future in futures if not future.cancelled()]
    for error in sorted((each for each in errors if each), key=lambda error: isinstance(error, Cancelled)):
        raise error
    return [future.result() for future in futures]
