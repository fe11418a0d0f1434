"""Work on many items side by side, with the results in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    items: Iterable[T], work: Callable[[T], R], *, concurrency: int
) -> Iterator[tuple[T, R]]:
    """Each item with its result; few items are held at a time.

    Args:
        items: Taken one by one, from the thread that iterates.
        work: Called in other threads.
        concurrency: How many items are worked on at a time.

    Raises:
        Exception: What `work` raised for an item, when its turn comes.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(concurrency, "seatrial-in-order") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > concurrency:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:  # an error, or an iteration that was left
                future.cancel()
