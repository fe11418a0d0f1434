"""A service in a simulation, with its own code for admission: no clock but the simulation's."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from seatrial.serve.forecast import Forecast, Promise, Took

DEADLINE_S = 1.0


@dataclass
class Simulation:
    """A service with lanes, in front of it an admission by the forecast.

    Attributes:
        lanes: Requests that are computed at a time.
        work_s: Gives the seconds that a request takes which starts at a time.
        body_bytes: Size of all bodies.
        deadline_s: Deadline of all requests.
        first_s: Seconds of a request as measured at start-up.
        latencies_s: Of those that were let in, by the order of their ends.
        nearly_all_s: Of each of them, what was said when it arrived: seconds in which nearly all
            such requests are answered.
        finished_s: Seconds in which they were answered.
    """

    lanes: int
    work_s: Callable[[float], float]
    body_bytes: int = 100_000
    deadline_s: float = DEADLINE_S
    first_s: float = 0.04
    now: float = 0.0
    latencies_s: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0
    nearly_all_s: dict[Promise, float] = field(default_factory=dict)
    finished_s: dict[Promise, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.forecast = Forecast(self.lanes, self.first_s, lambda: self.now)
        self.waiting: deque[Promise] = deque()
        self.running: list[tuple[float, int, Promise, float]] = []

    def run(self, arrivals: Iterator[float]) -> None:
        """Let all of them arrive, and answer those that are let in."""
        for number, at in enumerate(arrivals):
            self._until(at)
            self.now = at
            self.ask(number)
        self._until(float("inf"))

    def ask(self, number: int) -> None:
        """Let a request arrive now."""
        promise = self.forecast.promise(self.body_bytes)
        present = self.waiting or self.running
        if present and self.forecast.late_s(promise) > self.deadline_s:
            self.refused += 1
            return
        self.newest = promise
        self.nearly_all_s[promise] = self.forecast.nearly_all_s(promise)
        self.forecast.accept(promise)
        self.forecast.arrived(promise)
        self.waiting.append(promise)
        self._start(number)

    def _start(self, number: int) -> None:
        while self.waiting and len(self.running) < self.lanes:
            promise = self.waiting.popleft()
            if self.now - promise.arrived >= self.deadline_s:  # never reaches the engine
                self.forecast.ended(promise)
                self.latencies_s.append((self.now, float("inf")))
                continue
            work_s = self.work_s(self.now)
            heapq.heappush(self.running, (self.now + work_s, number, promise, work_s))

    def _until(self, at: float) -> None:
        while self.running and self.running[0][0] <= at:
            self.now, number, promise, work_s = heapq.heappop(self.running)
            self.forecast.ended(promise, work_s)
            self.latencies_s.append((self.now, self.now - promise.arrived))
            self.finished_s[promise] = self.now - promise.arrived
            self._start(number)

    def good_hz(self, start_s: float, end_s: float) -> float:
        """Answers within the deadline for each second."""
        good = [one for at, one in self.latencies_s if start_s <= at < end_s and one <= DEADLINE_S]
        return len(good) / (end_s - start_s)


@dataclass
class Stages(Simulation):
    """A service that decodes on threads, computes batches on lanes, and postprocesses on threads.

    Attributes:
        decode_s: Seconds of a thread before the lane.
        read_s: Seconds of a thread after it.
        max_batch: Requests that share a run.
        saved: Share of the time of an image that each of a batch but the first saves.
    """

    decode_s: float = 0.004
    read_s: float = 0.003
    max_batch: int = 1
    saved: float = 0.0

    def __post_init__(self) -> None:
        threads = 2 * self.lanes * self.max_batch
        self.forecast = Forecast(self.lanes, self.first_s, lambda: self.now, threads)
        self.free_threads, self.free_lanes = threads, self.lanes
        self.waiting = deque()  # for a thread
        self.decoded: deque[Promise] = deque()
        self.running = []  # what a thread works for
        self.events: list[tuple[float, int, Callable[[], None]]] = []

    def _start(self, number: int) -> None:
        while self.waiting and self.free_threads:
            promise = self.waiting.popleft()
            if self.now - promise.arrived >= self.deadline_s:
                self._end(promise, None)
                continue
            self.free_threads -= 1
            self.running.append((0.0, 0, promise, 0.0))
            self._after(self.decode_s, lambda promise=promise: self._ask(promise))

    def _ask(self, promise: Promise) -> None:
        self.decoded.append(promise)
        self._hand_out()

    def _hand_out(self) -> None:
        while self.decoded and self.free_lanes:
            together = [
                self.decoded.popleft() for _ in range(min(len(self.decoded), self.max_batch))
            ]
            run_s = self.work_s(self.now) * (1 + (len(together) - 1) * (1 - self.saved))
            self.free_lanes -= 1

            def computed(together: list[Promise] = together, run_s: float = run_s) -> None:
                self.free_lanes += 1
                for promise in together:
                    part_s = run_s / len(together)
                    own_s = self.decode_s + self.read_s
                    took = Took(own_s + part_s, own_s + run_s, self.decode_s, 2 * self.decode_s)
                    self._after(self.read_s, lambda p=promise, t=took: self._answer(p, t))
                self._hand_out()

            self._after(run_s, computed)

    def _answer(self, promise: Promise, took: Took) -> None:
        self.free_threads += 1
        self.running.pop()
        self._end(promise, took)
        self._start(0)

    def _end(self, promise: Promise, took: Took | None) -> None:
        self.forecast.ended(promise, took)
        late_s = float("inf") if took is None else self.now - promise.arrived
        self.latencies_s.append((self.now, late_s))

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self.count = getattr(self, "count", 0) + 1
        heapq.heappush(self.events, (self.now + seconds, self.count, call))

    def _until(self, at: float) -> None:
        while self.events and self.events[0][0] <= at:
            self.now, _, call = heapq.heappop(self.events)
            call()


def poisson(rate_hz: float, seconds: float, start_s: float = 0.0, seed: int = 1) -> Iterator[float]:
    draw = np.random.default_rng(seed)
    at = start_s
    while (at := at + draw.exponential(1 / rate_hz)) < start_s + seconds:
        yield at


def noisy(mean_s: float, sigma: float = 0.2) -> Callable[[float], float]:
    draw = np.random.default_rng(0)
    return lambda now: mean_s * float(draw.lognormal(-(sigma**2) / 2, sigma))


def in_turn(service: Simulation, clients: int, seconds: float) -> None:
    """Each client asks again when it has its answer, and 0.1 s after a refusal."""
    free = [(0.01 * number, number) for number in range(clients)]
    asking: dict[Promise, int] = {}
    while min(service.now, free[0][0] if free else 0.0) < seconds:
        answered_s = service.running[0][0] if service.running else float("inf")
        if not free or answered_s <= free[0][0]:
            service._until(answered_s)
        else:
            service.now, number = heapq.heappop(free)
            refused = service.refused
            service.ask(number)
            if service.refused > refused:
                heapq.heappush(free, (service.now + 0.1, number))
            else:
                asking[service.newest] = number
        for promise in [one for one in asking if not one.counted]:
            heapq.heappush(free, (service.now + 0.002, asking.pop(promise)))
