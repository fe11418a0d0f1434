"""Which lane a request runs on: least latency when alone, most throughput in company.

A graph spread over all cores answers one request soonest. Many requests are answered at the
highest rate one core each, since nothing waits at barriers between threads. Both layouts are
compiled; they share the cores, so only one of them runs at any time:

- A request that is the only one in the service takes the wide lane.
- As soon as there are others, requests take narrow lanes, as many as there are. A request that
  is alone just after others were here takes a narrow one too: callers that each wait for their
  answer take turns, and would otherwise be answered one at a time.
- Nothing starts while the wide lane runs: it ends sooner than a narrow lane that has to share
  its core would.

Requests start in the order in which they ask.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from seatrial.engines.base import Engine, Lane
from seatrial.errors import DeadlineExceeded


class Abandoned(Exception):
    """The request was given up: no caller waits for its answer."""


class Lanes:
    """Hands out an engine's lanes. Thread-safe.

    Args:
        engine: Its lanes are taken over: call none of them elsewhere.

    Attributes:
        on_place: Called with 1 when a request takes a place, and with -1 when it leaves it.
    """

    def __init__(self, engine: Engine) -> None:
        self.on_place: Callable[[int], object] = lambda change: None
        self._wide = engine.wide
        self._idle = deque(engine.narrow)
        self._narrow_count = len(engine.narrow)
        self._wide_busy = False
        self._waiting: deque[Place] = deque()
        self._places: set[Place] = set()
        self._ready: set[Place] = set()
        # Whether the last request that became ready found others, and the same of the busy period
        # before. A busy period lasts from the first request that is ready until none is left.
        self._company = self._company_before = False
        self._lock = threading.Lock()

    @property
    def present(self) -> int:
        """Number of requests that have a place."""
        return len(self._places)

    def acquire(self, place: Place) -> Lane:
        """Wait for a lane, in the order of the calls.

        The lane is the caller's until `release`.

        Args:
            place: The request's place, which is ready.

        Raises:
            DeadlineExceeded: The deadline passed before a lane was free.
            Abandoned: The request was cancelled.
        """
        with self._lock:
            place.check()
            if self._available() and not self._waiting:
                return self._choose()
            # Each has a lock of its own: only the one whose turn it is wakes.
            place.turn = turn = threading.Lock()
            turn.acquire()
            self._waiting.append(place)
        try:
            while not turn.acquire(timeout=place.patience_s()):
                place.check()
            place.check()
        except BaseException:  # deadline, cancelled, Ctrl-C in the main thread
            with self._lock, contextlib.suppress(ValueError):
                self._waiting.remove(place)
            if place.lane is not None:  # granted meanwhile: pass it on
                self.release(place.lane)
            raise
        assert place.lane is not None  # noqa: S101 - its turn comes only with a lane
        return place.lane

    def release(self, lane: Lane) -> None:
        """Give a lane back; requests that wait get what is free now."""
        with self._lock:
            if lane is self._wide:
                self._wide_busy = False
            else:
                self._idle.append(lane)
            while self._waiting and self._available():
                place = self._waiting.popleft()
                place.lane = self._choose()
                place.turn.release()

    def _available(self) -> bool:
        return bool(self._idle) and not self._wide_busy

    def _choose(self) -> Lane:
        alone = not self._company and not self._company_before
        if self._wide is not None and alone and len(self._idle) == self._narrow_count:
            self._wide_busy = True
            return self._wide
        return self._idle.popleft()


class Place:
    """One request's place in the service: counted once from its arrival to its end.

    Whoever works for the request holds the place (``with place:``), on any thread. When the last
    of them lets go, the request is counted no more.

    Args:
        lanes: Lanes that the request will run on.
        deadline_s: Seconds from now until when the request has to be answered.

    Attributes:
        deadline_s: Seconds from the start to the deadline.
        cancelled: Whether the request was given up.
        turn: Lock that is released when the place gets its lane or is cancelled.
        lane: Lane that a wait ended with.
    """

    __slots__ = ("_deadline", "_holders", "_lanes", "cancelled", "deadline_s", "lane", "turn")

    turn: threading.Lock
    lane: Lane | None

    def __init__(self, lanes: Lanes, deadline_s: float = math.inf) -> None:
        self.deadline_s = deadline_s
        self.cancelled = False
        self.lane = None
        self._deadline = time.monotonic() + deadline_s
        self._lanes = lanes
        self._holders = 0
        with lanes._lock:
            lanes._places.add(self)
        lanes.on_place(1)

    def ready(self) -> None:
        """Count the request among those that are ready for a lane: its image has arrived.

        Only ready requests send others to narrow lanes; one that still arrives does not.
        """
        lanes = self._lanes
        with lanes._lock:
            if self in lanes._places and self not in lanes._ready:
                lanes._company = bool(lanes._ready)
                lanes._ready.add(self)

    def remaining_s(self) -> float:
        """Seconds until the deadline; not below 0."""
        return max(0.0, self._deadline - time.monotonic())

    def patience_s(self) -> float:
        """`remaining_s` as a lock takes it: -1 where there is no deadline."""
        if self._deadline == math.inf:
            return -1.0
        return min(self.remaining_s(), threading.TIMEOUT_MAX)

    def check(self) -> None:
        """Stop work that is not wanted any more.

        Raises:
            Abandoned: The request was cancelled.
            DeadlineExceeded: Its deadline has passed.
        """
        if self.cancelled:
            raise Abandoned
        if time.monotonic() >= self._deadline:
            raise self.too_late()

    def too_late(self) -> DeadlineExceeded:
        """The error of a request whose deadline has passed."""
        return DeadlineExceeded(
            f"not answered within {self.deadline_s:g} s",
            hint="send less at a time, or raise limits.deadline_s",
        )

    def cancel(self) -> None:
        """Give the request up: if it has no lane yet, it never gets one."""
        lanes = self._lanes
        with lanes._lock:
            self.cancelled = True
            if self in lanes._waiting:
                lanes._waiting.remove(self)
                self.turn.release()

    def __enter__(self) -> Self:
        """Hold the place.

        Raises:
            Abandoned: All have let go of it before.
        """
        with self._lanes._lock:
            if self not in self._lanes._places:
                raise Abandoned
            self._holders += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lanes = self._lanes
        with lanes._lock:
            self._holders -= 1
            if self._holders:
                return
            lanes._places.discard(self)
            if self in lanes._ready:
                lanes._ready.remove(self)
                if not lanes._ready:
                    lanes._company_before = lanes._company
        lanes.on_place(-1)
