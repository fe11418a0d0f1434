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

Requests start in the order in which they ask, those of a batch while no other waits.

A lane that fails again and again, or that never ends, is taken out and another one is put in:
`seatrial.serve.watchdog` finds them here.
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
from seatrial.errors import DeadlineExceeded, SeatrialError

# Failures of a lane one after the other, after which it is looked at before it runs again.
FAILURES = 3
# Share of the newest request in the mean time of a lane, and how many times the mean it counts.
NEWEST, LONGEST = 0.1, 8.0


class Abandoned(Exception):
    """The request was given up: no caller waits for its answer."""


class Held:
    """A lane that a request has.

    Attributes:
        lane: The lane.
        place: Place of the request.
        wide: Whether it is the wide lane.
        since: When it was handed out, on the monotonic clock.
        watched_s: Seconds that `Lanes.overdue` has seen it held.
    """

    __slots__ = ("lane", "place", "since", "watched_s", "wide")

    def __init__(self, lane: Lane, place: Place, *, wide: bool) -> None:
        self.lane = lane
        self.place = place
        self.wide = wide
        self.since = time.monotonic()
        self.watched_s = 0.0


class Lanes:
    """Hands out an engine's lanes. Thread-safe.

    Args:
        engine: Its lanes are taken over: call none of them elsewhere.

    Attributes:
        on_place: Called with 1 when a request takes a place, and with -1 when it leaves it.
        on_lane: Called with 1 when a request takes a lane, and with -1 when it gives it back.
        on_suspect: Called, on the thread of the request, with a lane that failed `FAILURES` times
            in a row: it is out until `put_in`. None leaves it in.
        mean_s: Mean seconds that a request has a lane; 0 before the first.
    """

    def __init__(self, engine: Engine) -> None:
        self.on_place: Callable[[int], object] = lambda change: None
        self.on_lane: Callable[[int], object] = lambda change: None
        self.on_suspect: Callable[[Held], object] | None = None
        self.mean_s = 0.0
        self._wide = engine.wide
        self._idle = deque(engine.narrow)
        self._narrow_count = len(engine.narrow)
        self._wide_busy = False
        self._held: dict[int, Held] = {}  # by the id of the lane
        self._failures: dict[int, int] = {}
        # Live ones, and those of a batch, which start while no live one waits.
        self._waiting: tuple[deque[Place], deque[Place]] = deque(), deque()
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

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a lane."""
        return sum(map(len, self._waiting))

    @property
    def idle(self) -> int:
        """Number of narrow lanes that a request could take at once; 0 where one waits."""
        return 0 if self._wide_busy or any(self._waiting) else len(self._idle)

    @property
    def usable(self) -> int:
        """Number of narrow lanes that are not taken out."""
        return self._narrow_count

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
            if self._available() and not any(self._waiting):
                return self._choose(place)
            # Each has a lock of its own: only the one whose turn it is wakes.
            place.turn = turn = threading.Lock()
            turn.acquire()
            self._waiting[place.batch].append(place)
        try:
            while not turn.acquire(timeout=place.patience_s()):
                place.check()
            place.check()
        except BaseException:  # deadline, cancelled, Ctrl-C in the main thread
            with self._lock, contextlib.suppress(ValueError):
                self._waiting[place.batch].remove(place)
            if place.lane is not None:  # granted meanwhile: pass it on
                self.release(place.lane)
            raise
        assert place.lane is not None  # noqa: S101 - its turn comes only with a lane
        return place.lane

    def release(self, lane: Lane, *, failed: bool | None = None) -> None:
        """Give a lane back; requests that wait get what is free now.

        A lane that was taken out meanwhile stays out.

        Args:
            lane: From `acquire`.
            failed: Whether its run raised; None where it did not run.
        """
        with self._lock:
            held = self._held.pop(id(lane), None)
            if held is None:
                return
            self.on_lane(-1)
            if failed:
                self._failures[id(lane)] = self._failures.get(id(lane), 0) + 1
            elif failed is not None:
                self._failures.pop(id(lane), None)
                self._learn(time.monotonic() - held.since)
            report = self.on_suspect if self._failures.get(id(lane), 0) >= FAILURES else None
            if report is None:
                self._add(lane)
            else:
                self._remove(lane)
        if report is not None:
            report(held)

    def overdue(self, passed_s: float, limit_s: float) -> list[Held]:
        """Take lanes out that a request has had for too long.

        Args:
            passed_s: Seconds since the last call that count. A process that was stopped had no
                time to compute, so this is not what a clock says.
            limit_s: Longest time.

        Returns:
            What they are held for. Their requests are not ended here.
        """
        with self._lock:
            for held in self._held.values():
                held.watched_s += passed_s
            late = [held for held in self._held.values() if held.watched_s > limit_s]
            for held in late:
                del self._held[id(held.lane)]
                self.on_lane(-1)
                self._remove(held.lane)
        return late

    def close(self) -> None:
        """Let go of the lanes, which hold what the engine has compiled, and of who was told."""
        with self._lock:
            self._idle.clear()
            self._held.clear()
            self._wide, self._narrow_count = None, 0
            self.on_place = self.on_lane = lambda change: None
            self.on_suspect = None

    def put_in(self, lane: Lane, *, wide: bool = False) -> None:
        """Put a lane in that was taken out, or another one in its place."""
        with self._lock:
            self._failures.pop(id(lane), None)
            if wide:
                self._wide = lane
            else:
                self._narrow_count += 1
            self._add(lane)

    def _learn(self, seconds: float) -> None:
        mean_s = self.mean_s or seconds
        self.mean_s = mean_s + NEWEST * (min(seconds, LONGEST * mean_s) - mean_s)

    def _remove(self, lane: Lane) -> None:
        """Take out a lane that no request has."""
        if lane is self._wide:
            self._wide, self._wide_busy = None, False
            self._hand_out()
        else:
            self._narrow_count -= 1

    def _add(self, lane: Lane) -> None:
        if lane is self._wide:
            self._wide_busy = False
        else:
            self._idle.append(lane)
        self._hand_out()

    def _hand_out(self) -> None:
        while any(self._waiting) and self._available():
            live, batch = self._waiting
            place = (live or batch).popleft()
            place.lane = self._choose(place)
            place.turn.release()

    def _available(self) -> bool:
        return bool(self._idle) and not self._wide_busy

    def _choose(self, place: Place) -> Lane:
        self.on_lane(1)
        alone = not self._company and not self._company_before
        if self._wide is not None and alone and len(self._idle) == self._narrow_count:
            self._wide_busy = True
            held = Held(self._wide, place, wide=True)
        else:
            held = Held(self._idle.popleft(), place, wide=False)
        self._held[id(held.lane)] = held
        return held.lane


class Place:
    """One request's place in the service: counted once from its arrival to its end.

    Whoever works for the request holds the place (``with place:``), on any thread. When the last
    of them lets go, the request is counted no more.

    Args:
        lanes: Lanes that the request will run on.
        deadline_s: Seconds from now until when the request has to be answered.
        batch: Whether it waits for all that do not belong to a batch.

    Attributes:
        deadline_s: Seconds to the deadline, from where it was counted.
        batch: Whether live requests go before it.
        cancelled: Whether the request was given up.
        turn: Lock that is released when the place gets its lane or is cancelled.
        lane: Lane that a wait ended with.
    """

    __slots__ = (
        "_deadline", "_holders", "_lanes", "batch", "cancelled", "deadline_s", "lane", "turn"
    )  # fmt: skip

    turn: threading.Lock
    lane: Lane | None

    def __init__(self, lanes: Lanes, deadline_s: float = math.inf, *, batch: bool = False) -> None:
        self.deadline_s = deadline_s
        self.batch = batch
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

    def expire_in(self, deadline_s: float, passed_s: float = 0.0) -> None:
        """Let the deadline count from now on, or from so many seconds before."""
        self.deadline_s = deadline_s
        self._deadline = time.monotonic() - passed_s + deadline_s

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

    def fail(self, error: SeatrialError) -> None:
        """Give the request up although a lane still computes for it.

        Args:
            error: What its caller gets.
        """
        self.cancel()
        self.leave()

    def cancel(self) -> None:
        """Give the request up: if it has no lane yet, it never gets one."""
        lanes = self._lanes
        with lanes._lock:
            self.cancelled = True
            waiting = lanes._waiting[self.batch]
            if self in waiting:
                waiting.remove(self)
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
        with self._lanes._lock:
            self._holders -= 1
            counted = not self._holders and self._uncount()
        if counted:
            self.left()

    def leave(self) -> None:
        """Count the request no more: those that hold its place may never let go."""
        with self._lanes._lock:
            counted = self._uncount()
        if counted:
            self.left()

    def _uncount(self) -> bool:
        lanes = self._lanes
        if self not in lanes._places:
            return False
        lanes._places.remove(self)
        if self in lanes._ready:
            lanes._ready.remove(self)
            if not lanes._ready:
                lanes._company_before = lanes._company
        return True

    def left(self) -> None:
        """The request is counted no more."""
        self._lanes.on_place(-1)
