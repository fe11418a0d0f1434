"""Lanes that hang or fail again and again: others take their place, or the process ends.

A lane is stuck when one run of it takes far longer than runs do, and at least `LEAST_S`. The run
cannot be ended by force: the lane is taken out, its requests get an error, and a new lane is opened
beside it, where the engine can do that. A lane that fails on several images in a row is tried on an
image of ours first: the images may be at fault.

A process without a lane that works, or with many runs that never ended, cannot be mended from
inside. It says so and ends, and its supervisor starts another one; see docs/decisions/0025.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from seatrial.detect.detector import Detector
from seatrial.engines.base import Lane, RenewingEngine, StoppableLane
from seatrial.engines.lanes import FAILURES, Held
from seatrial.errors import EngineFailed, first_line
from seatrial.serve.log import GoesOn, say

# A lane is stuck after this long, or so many times the time that it usually takes.
LEAST_S, TIMES = 10.0, 50.0
# A run of several images may come after many of one alone: so many full runs are never too long.
FULL_RUNS = 5.0
TICK_S = 0.25
# While no lane has a request, so many looks in the time after which a lane is stuck: each wakes an
# idle process.
IDLE_LOOKS = 5
# Longest time for opening another lane, and lanes that may be stuck in the life of a process: each
# holds a thread and memory for ever.
RENEWAL_S, MOST_STUCK = 60.0, 8
CLOSE_S = 1.0  # longest wait for a look that is under way
STUCK, FAILING = "stuck", "failing"


class Watchdog:
    """Looks after the lanes of a detector on a thread of its own.

    Args:
        detector: Its engine has been warmed up.
        on_fault: Called with ``stuck`` or ``failing`` when a lane is taken out.
        on_hopeless: Called once with the reason when the process should be started anew.

    Attributes:
        on_hopeless: The same.
        hopeless: That reason; empty before. It may be there before `on_hopeless` is anyone's.
    """

    def __init__(
        self,
        detector: Detector,
        on_fault: Callable[[str], object] = lambda reason: None,
        on_hopeless: Callable[[str], object] = lambda reason: None,
    ) -> None:
        self._detector = detector
        self._lanes = detector.lanes
        self._on_fault = on_fault
        self.on_hopeless = on_hopeless
        self.hopeless = ""
        self._stuck = 0
        self._renewals: set[float] = set()  # when those began that are under way
        self._closed = False
        self._news = threading.Event()  # something to look at before the next tick
        self._lanes.on_suspect = self._failing
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @property
    def limit_s(self) -> float:
        """Seconds of one run after which a lane is stuck."""
        lane_s = self._detector.lane_s
        full_s = FULL_RUNS * self._lanes.max_batch * lane_s
        return max(LEAST_S, TIMES * (self._lanes.mean_s or lane_s), full_s)

    def close(self) -> None:
        """Look no more, and keep the detector no longer."""
        self._closed = True
        self._news.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)

    def _watch(self) -> None:
        last, goes_on = time.monotonic(), GoesOn("a look at the lanes failed")
        while True:
            self._news.wait(self._tick_s())
            self._news.clear()
            if self._closed:
                return
            since, last = last, time.monotonic()
            with goes_on:
                self._look(since, last)

    def _look(self, last: float, now: float) -> None:
        # A process that was stopped, or got no core, is not blamed for the time.
        for held in self._lanes.overdue(min(now - last, 2 * TICK_S), self.limit_s):
            self._take_out(held)
        reason = self._hopeless(now)
        # Lanes that were closed meanwhile are no fault: the service ends, or its model leaves.
        if reason and not self._closed:
            self._closed = True
            self.hopeless = reason
            _say(f"error: {reason}: this process ends, and is to be started anew")
            self.on_hopeless(reason)

    def _tick_s(self) -> float:
        """Seconds until the next look."""
        at_rest = self._lanes.usable and not self._lanes.held and not self._renewals
        return max(TICK_S, LEAST_S / IDLE_LOOKS) if at_rest else TICK_S

    def _hopeless(self, now: float) -> str:
        if self._stuck >= MOST_STUCK:
            return f"{self._stuck} runs of the engine did not end"
        hopes = [began for began in tuple(self._renewals) if now - began < RENEWAL_S]
        return "" if self._lanes.usable or hopes else "no lane of the engine works"

    def _take_out(self, held: Held) -> None:
        """A request has held its lane for too long."""
        self._stuck += 1
        self._on_fault(STUCK)
        limit_s, name = self.limit_s, self._detector.engine.name
        _say(f"error: a lane of {name} has computed one image for more than {limit_s:.3g} s")
        self._begin_renewal(held, stuck=True)
        for place in held.places:
            place.fail(
                EngineFailed(
                    f"the {name} engine did not end within {limit_s:.3g} s",
                    hint="send the image again",
                )
            )

    def _failing(self, held: Held) -> None:
        """A lane raised on several requests in a row, and no request has it."""
        self._on_fault(FAILING)
        _say(f"error: a lane of {self._detector.engine.name} failed {FAILURES} times in a row")
        self._begin_renewal(held, stuck=False)

    def _begin_renewal(self, held: Held, *, stuck: bool) -> None:
        began = time.monotonic()
        self._renewals.add(began)
        self._news.set()

        def renew() -> None:
            try:
                lane, what = self._renewed(held.lane, stuck=stuck)
                self._lanes.put_in(lane, wide=held.wide)
                _say(what)
            except Exception as error:  # noqa: BLE001 - runtimes' errors share no base
                _say(f"error: the lane is not replaced: {first_line(error)}")
            finally:
                self._renewals.discard(began)
                self._news.set()

        threading.Thread(target=renew, name="renewal", daemon=True).start()

    def _renewed(self, lane: Lane, *, stuck: bool) -> tuple[Lane, str]:
        """A lane that works, and what became of the one that did not."""
        if stuck and isinstance(lane, StoppableLane):
            lane.stop()
        if not stuck:
            try:
                self._detector.check(lane)
                return lane, "the lane works on another image: it stays"
            except EngineFailed:
                pass
        engine = self._detector.engine
        if not isinstance(engine, RenewingEngine):
            raise EngineFailed(f"the {engine.name} engine cannot open another one")
        lane = engine.renew(lane)
        self._detector.check(lane)
        return lane, "the lane is replaced by a new one"


def _say(line: str) -> None:
    level = "error" if line.startswith("error: ") else "warning"
    say(level, "lane", line.removeprefix("error: "))
