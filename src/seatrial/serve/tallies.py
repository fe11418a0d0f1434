"""Changes of metrics on the way of a request, written where prometheus-client keeps their values.

Where several processes are one service, its values are numbers in files that the processes share as
memory. By itself it changes one with a system call, a search and a copy: 40 of them were a tenth of
the CPU time of a request. Here each is an addition in that memory, there for every reader at once,
and for good where the process is killed. What is private of prometheus-client is here alone.

A value that is changed here is not to be changed through prometheus-client as well: it keeps a copy
of its own, which it would write over the sum.
"""

from __future__ import annotations

import bisect
import functools
import threading
from collections.abc import Callable
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

Change = Callable[..., None]
_lock = threading.Lock()  # threads of requests and the event loop change the same values


class Tally:
    """Value of a counter or a gauge.

    Args:
        metric: With its labels.

    Attributes:
        inc: Adds an amount, by default 1.
        set: Puts another value in place.
    """

    __slots__ = ("inc", "set")

    def __init__(self, metric: Counter | Gauge) -> None:
        self.inc, self.set = _changes(metric._value)


class Distribution:
    """Buckets and sum of a histogram.

    Args:
        histogram: With its labels.

    Attributes:
        observe: Counts a value.
    """

    __slots__ = ("_bounds", "_buckets", "observe")

    def __init__(self, histogram: Histogram) -> None:
        self._bounds = histogram._upper_bounds
        self._buckets = [_changes(bucket)[0] for bucket in histogram._buckets]
        add = _changes(histogram._sum)[0]
        self.observe = self._observer(add, [getattr(one, "place", None) for one in self._buckets])

    def at(self, value: float) -> Change:
        """Counts a value without adding it to the sum: for 0."""
        return self._buckets[bisect.bisect_left(self._bounds, value)]

    def _observer(self, add: Change, places: list[Any]) -> Callable[[float], None]:
        bounds, buckets = self._bounds, self._buckets
        if None in places:

            def observe_here(value: float) -> None:
                add(value)
                buckets[bisect.bisect_left(bounds, value)]()

            return observe_here
        numbers = places[-1][0]  # of the last one made, whose file is the longest
        indices = [index for _, index in places]
        of_sum = add.place[1]  # type: ignore[attr-defined]

        def observe(value: float) -> None:
            index = indices[bisect.bisect_left(bounds, value)]
            with _lock:
                numbers[of_sum] += value
                numbers[index] += 1

        return observe


def tallies(metric: Counter | Gauge) -> Callable[..., Tally]:
    """Gives the value of a metric for labels; the same object each time.

    ``labels()`` of prometheus-client makes strings and searches under a lock: once is enough.
    """
    return functools.cache(lambda *labels: Tally(metric.labels(*labels)))


def distributions(histogram: Histogram) -> Callable[..., Distribution]:
    """`tallies` of a histogram."""
    return functools.cache(lambda *labels: Distribution(histogram.labels(*labels)))


def together(*increments: Change) -> Callable[[], None]:
    """Several changes by 1 as one, for what is counted often: `Tally.inc`, `Distribution.at`."""
    places = [place for one in increments if (place := getattr(one, "place", None))]
    if len(places) < len(increments):

        def each() -> None:
            for change in increments:
                change()

        return each

    def add() -> None:
        with _lock:
            for numbers, index in places:
                numbers[index] += 1

    return add


@functools.cache
def _numbers(memory: Any) -> memoryview[float]:
    """All of a file's memory as numbers: one object, however many of them are changed."""
    return memoryview(memory).cast("d")


def _changes(value: Any) -> tuple[Change, Change]:
    """Functions that add to a value, and that set it."""
    file = getattr(value, "_file", None)
    if file is None:  # of one process: an object holds it

        def add_here(amount: float = 1) -> None:
            value.inc(amount)

        return add_here, value.set
    numbers = _numbers(file._m)
    index = file._positions[value._key] // numbers.itemsize

    def add(amount: float = 1) -> None:
        with _lock:
            numbers[index] += amount

    def put(amount: float) -> None:
        numbers[index] = amount

    add.place = (numbers, index)  # type: ignore[attr-defined]  # see `together`
    return add, put
