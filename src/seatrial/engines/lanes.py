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

Requests start in the order in which they ask, those of a batch while no other waits. Where graphs
take several images, those that wait share a run, see `seatrial.engines.waiting`: the first of them
has the lane, and the others wait for what it computes, see `seatrial.engines.batches`.

A lane that fails again and again, or that never ends, is taken out and another one is put in:
`seatrial.serve.watchdog` finds them here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from seatrial.engines.base import Engine, Lane
from seatrial.engines.places import Abandoned, Place
from seatrial.engines.waiting import Waiting

# Failures of a lane one after the other, after which it is looked at before it runs again.
FAILURES = 3
# Share of the newest in a mean time, and how many times the mean it counts: a stall is no measure.
NEWEST, LONGEST = 0.1, 8.0


def newer_mean_s(mean_s: float, seconds: float) -> float:
    """A mean time with one more of its kind; 0 is the mean of none."""
    mean_s = mean_s or seconds
    return mean_s + NEWEST * (min(seconds, LONGEST * mean_s) - mean_s)


class Held:
    """A lane that a request has.

    Attributes:
        lane: The lane.
        places: Place of the request, and those of the requests that share its run.
        wide: Whether it is the wide lane.
        since: When it was handed out, on the monotonic clock.
        watched_s: Seconds that `Lanes.overdue` has seen it held.
    """

    __slots__ = ("lane", "places", "since", "watched_s", "wide")

    def __init__(self, lane: Lane, places: list[Place], *, wide: bool) -> None:
        self.lane = lane
        self.places = places
        self.wide = wide
        self.since = time.monotonic()
        self.watched_s = 0.0


class Lanes:
    """Hands out an engine's lanes. Thread-safe.

    Args:
        engine: Its lanes are taken over: call none of them elsewhere.
        max_batch: Most requests that share a run of a narrow lane.
        delay_s: Longest time that a request waits for others although a lane is free.

    Attributes:
        on_place: Called with 1 when a request takes a place, and with -1 when it leaves it.
        on_lane: Called with 1 when a request takes a lane, and with -1 when it gives it back.
        on_suspect: Called, on the thread of the request, with a lane that failed `FAILURES` times
            in a row: it is out until `put_in`. None leaves it in.
        on_batch: Called with the number of requests of a run, the reason of its release, and the
            seconds that they were held back; only where runs may be shared.
        mean_s: Mean seconds that a request has a lane; 0 before the first.
    """

    def __init__(self, engine: Engine, max_batch: int = 1, delay_s: float = 0.0) -> None:
        self.on_place: Callable[[int], object] = lambda change: None
        self.on_lane: Callable[[int], object] = lambda change: None
        self.on_suspect: Callable[[Held], object] | None = None
        self.on_batch: Callable[[int, str, float], object] = lambda size, reason, held_s: None
        self.mean_s = 0.0
        self.max_batch = max_batch
        self._wide = engine.wide
        self._idle = deque(engine.narrow)
        self._narrow_count = len(engine.narrow)
        self._wide_busy = False
        self._held: dict[int, Held] = {}  # by the id of the lane
        self._failures: dict[int, int] = {}
        self._waiting = Waiting(max_batch, delay_s)
        self._coming: set[Place] = set()  # ready, and without a lane or a wait for one
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
        return len(self._waiting)

    @property
    def idle(self) -> int:
        """Number of narrow lanes that a request could take at once; 0 where one waits."""
        return 0 if self._wide_busy or self._waiting else len(self._idle)

    @property
    def held(self) -> int:
        """Number of lanes that requests have."""
        return len(self._held)

    @property
    def usable(self) -> int:
        """Number of narrow lanes that are not taken out."""
        return self._narrow_count

    def acquire(self, place: Place) -> Lane | None:
        """Wait for a lane, in the order of the calls.

        The lane is the caller's until `release`. Where `Place.joins`, it is for all of
        `Place.sharing`, of which the caller's is the first.

        Args:
            place: The request's place, which is ready.

        Returns:
            The lane; None where another request's run had it in `Place.sharing`, and is over.

        Raises:
            DeadlineExceeded: The deadline passed before a lane was free.
            Abandoned: The request was cancelled.
        """
        with self._lock:
            place.check()
            # Each has a lock of its own: only the one whose turn it is wakes.
            place.turn = turn = threading.Lock()
            turn.acquire()
            place.asks, place.asked = True, time.monotonic()
            self._coming.discard(place)
            self._waiting.add(place)
            self._hand_out()
            held_back_s = self._waiting.patience_s(place, self.mean_s)
        try:
            woken = False
            while held_back_s > 0 and not (woken := turn.acquire(timeout=held_back_s)):
                with self._lock:  # it is held back no longer, or longer where runs are shorter now
                    self._hand_out()
                    patience_s = self._waiting.patience_s(place, self.mean_s)
                held_back_s = place.asked + patience_s - time.monotonic()
            while not woken:
                woken = turn.acquire(timeout=place.patience_s())
                if not woken:
                    place.check()
            place.check()
        except BaseException:  # deadline, cancelled, Ctrl-C in the main thread
            with self._lock:
                place.asks = False
                self._waiting.discard(place)
                lane, others = place.lane, place.sharing[1:]
                if lane is not None:  # granted meanwhile: pass it on
                    self._waiting.put_back([one for one in others if one.asks])
                    self._hand_out()
            if lane is not None:
                self.release(lane)
            raise
        place.asks = False
        return place.lane

    def release(self, lane: Lane, *, ran: bool = False) -> None:
        """Give a lane back; requests that wait get what is free now.

        A lane that was taken out meanwhile stays out.

        Args:
            lane: From `acquire`.
            ran: Whether it ran without an error.
        """
        with self._lock:
            held = self._held.pop(id(lane), None)
            if held is None:
                return
            self.on_lane(-1)
            if ran:
                self.mean_s = newer_mean_s(self.mean_s, time.monotonic() - held.since)
            report = self.on_suspect if self._failures.get(id(lane), 0) >= FAILURES else None
            if report is None:
                self._add(lane)
            else:
                self._remove(lane)
        if report is not None:
            report(held)

    def judge(self, lane: Lane, *, failed: bool) -> None:
        """Say what came of a run, before or after the lane is given back.

        Args:
            lane: From `acquire`.
            failed: Whether it raised, or gave outputs that are no detections.
        """
        with self._lock:
            if not failed:
                self._failures.pop(id(lane), None)
            elif id(lane) in self._held or lane in self._idle or lane is self._wide:
                self._failures[id(lane)] = self._failures.get(id(lane), 0) + 1

    def wake(self, places: list[Place]) -> None:
        """Let requests go on that waited for the run of another one."""
        with self._lock:
            for place in places:
                place.wake()

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
        while self._available() and (batch := self._waiting.take(bool(self._coming), self.mean_s)):
            first, *others = batch.places
            first.sharing = (
                batch.places if others else []
            )  # no reference cycle: most runs have one place
            first.lane = self._choose(batch.places)
            for one in others:
                one.sharing = []
            first.wake()
            if first.joins:
                self.on_batch(len(batch.places), batch.reason, batch.held_s)

    def _available(self) -> bool:
        return bool(self._idle) and not self._wide_busy

    def _choose(self, places: list[Place]) -> Lane:
        self.on_lane(1)
        alone = not self._company and not self._company_before and len(places) == 1
        if self._wide is not None and alone and len(self._idle) == self._narrow_count:
            self._wide_busy = True
            held = Held(self._wide, places, wide=True)
        else:
            held = Held(self._idle.popleft(), places, wide=False)
        self._held[id(held.lane)] = held
        return held.lane

    # What a place does; see `seatrial.engines.places.Keeper`.

    def enter(self, place: Place) -> None:
        """See `Keeper.enter`."""
        with self._lock:
            self._places.add(place)
        self.on_place(1)

    def count_ready(self, place: Place) -> None:
        """See `Keeper.count_ready`."""
        with self._lock:
            if place in self._places and place not in self._ready:
                self._company = bool(self._ready)
                self._ready.add(place)
                self._coming.add(place)

    def hold(self, place: Place, change: int) -> None:
        """See `Keeper.hold`."""
        with self._lock:
            if change > 0 and place not in self._places:
                raise Abandoned
            place.holders += change
            counted = not place.holders and self._uncount(place)
        if counted:
            place.left()

    def leave(self, place: Place) -> None:
        """See `Keeper.leave`."""
        with self._lock:
            counted = self._uncount(place)
        if counted:
            place.left()

    def cancel(self, place: Place) -> None:
        """See `Keeper.cancel`."""
        with self._lock:
            self._waiting.discard(place)
            if place.lane is None:
                place.wake()

    def left(self, place: Place) -> None:
        """See `Keeper.left`."""
        self.on_place(-1)

    def _uncount(self, place: Place) -> bool:
        if place not in self._places:
            return False
        self._places.remove(place)
        self._coming.discard(place)
        if place in self._ready:
            self._ready.remove(place)
            if not self._ready:
                self._company_before = self._company
        if len(self._waiting):  # those that waited for its image wait no longer
            self._hand_out()
        return True
