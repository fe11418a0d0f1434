"""The forecast in a simulated service: no clock but the simulation's."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from seatrial.serve.forecast import (
    LONGEST,
    MEMORY_REQUESTS,
    MOST_WHOLE,
    Forecast,
    Promise,
    Took,
    in_words,
    took_by,
)

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
    """

    lanes: int
    work_s: Callable[[float], float]
    body_bytes: int = 100_000
    deadline_s: float = DEADLINE_S
    first_s: float = 0.04
    now: float = 0.0
    latencies_s: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0

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
            self._start(number)

    def good_hz(self, start_s: float, end_s: float) -> float:
        """Answers within the deadline for each second."""
        good = [one for at, one in self.latencies_s if start_s <= at < end_s and one <= DEADLINE_S]
        return len(good) / (end_s - start_s)


def poisson(rate_hz: float, seconds: float, start_s: float = 0.0, seed: int = 1) -> Iterator[float]:
    draw = np.random.default_rng(seed)
    at = start_s
    while (at := at + draw.exponential(1 / rate_hz)) < start_s + seconds:
        yield at


def noisy(mean_s: float) -> Callable[[float], float]:
    draw = np.random.default_rng(0)
    return lambda now: mean_s * float(draw.lognormal(-0.02, 0.2))


@pytest.mark.parametrize("lanes", [1, 2, 8])
@pytest.mark.parametrize("load", [1.5, 3.0, 10.0])
@pytest.mark.parametrize("mean_s", [0.005, 0.04, 0.09])
def test_under_overload_lanes_never_idle_and_answers_are_in_time(
    lanes: int, load: float, mean_s: float
) -> None:
    service = Simulation(lanes, noisy(mean_s), first_s=mean_s)
    peak_hz = lanes / mean_s
    service.run(poisson(load * peak_hz, 20))
    latencies = [one for at, one in service.latencies_s if at >= 2]
    assert service.good_hz(2, 20) >= 0.97 * peak_hz
    assert np.quantile(latencies, 0.99, method="lower") <= DEADLINE_S
    assert service.refused > 0.8 * (load - 1) * peak_hz * 20


def test_below_its_capacity_nothing_is_refused() -> None:
    service = Simulation(2, noisy(0.04))
    service.run(poisson(0.7 * 50, 60))
    assert service.refused == 0


def test_a_neighbour_that_takes_a_core_is_noticed_within_two_seconds() -> None:
    service = Simulation(2, lambda now: 0.04 if now < 10 else 0.08)
    service.run(poisson(150, 30))
    late = [at for at, one in service.latencies_s if one > DEADLINE_S]
    assert all(10 <= at < 12 for at in late)
    assert 0 < len(late) < 50  # what was promised before it came
    assert service.good_hz(12, 30) >= 0.97 * 25


def test_the_end_of_a_neighbour_is_noticed_too() -> None:
    service = Simulation(2, lambda now: 0.08 if now < 10 else 0.04)
    service.run(poisson(150, 20))
    assert service.good_hz(12, 20) >= 0.97 * 50


def test_a_single_stall_does_not_close_the_service() -> None:
    """A suspended machine: one request takes a minute."""
    service = Simulation(1, lambda now: 60.0 if 5 <= now < 5.05 else 0.04)
    service.run(poisson(10, 80))
    assert service.good_hz(66, 80) >= 8.5


def test_a_single_stall_counts_as_a_few_requests() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.04, lambda: now[0])
    for work_s in [0.04] * 20 + [60.0]:
        promise = forecast.promise(1000)
        forecast.accept(promise)
        now[0] += work_s
        forecast.ended(promise, work_s)
    assert forecast.promise(1000).work_s == pytest.approx(0.04 + 0.1 * 7 * 0.04)


def test_the_spread_grows_at_once_and_shrinks_slowly() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.04, lambda: now[0])

    def later_s(after_s: float, times: int = 1) -> float:
        """How much later than foretold an answer may be, after some that took so long."""
        for _ in range(times):
            promise = forecast.promise(1000)
            forecast.accept(promise)
            now[0] += after_s
            forecast.ended(promise, 0.04)
        return forecast.late_s(far) - far.finish_s

    far = Promise(10, 0.04, 10.0, 0.0, batch=False)
    assert forecast.late_s(far) - far.finish_s == pytest.approx(0.04)
    assert later_s(1.0) == pytest.approx(2 * (0.02 + 0.2 * (8 * 0.04 - 0.02)))
    assert 0.14 < later_s(0.04, 10) < 0.16
    assert later_s(0.04, 1000) < 0.01


def test_a_neighbour_that_comes_and_goes_closes_no_short_queue() -> None:
    """It takes two thirds of the cores in two of each four seconds."""
    service = Simulation(2, lambda now: 0.05 * (3 if now % 4 < 2 else 1))
    service.run(poisson(60, 60))
    late = [one for _, one in service.latencies_s if one > DEADLINE_S]
    assert service.good_hz(0, 60) >= 0.9 * (40 + 40 / 3) / 2
    assert len(late) <= 0.05 * len(service.latencies_s)


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


@pytest.mark.parametrize(
    ("mean_s", "slower"), [(0.1, 2), (0.15, 2), (0.1, 3)], ids=["half", "half slow", "third"]
)
def test_a_few_clients_are_served_at_any_speed_that_is_enough(mean_s: float, slower: float) -> None:
    """Four, on two lanes: what they wait for is 0.6 s at most."""
    service = Simulation(2, lambda now: mean_s * (slower if now % 4 < 2 else 1), first_s=mean_s)
    in_turn(service, 4, 120)
    assert max(one for _, one in service.latencies_s) < 0.7 * DEADLINE_S
    assert service.refused <= 0.03 * len(service.latencies_s)


@pytest.mark.parametrize("load", [1.5, 5.0])
def test_of_a_short_queue_nearly_all_answers_are_in_time_as_well(load: float) -> None:
    """Three go before at most, and each takes a fifth of the time that there is."""
    service = Simulation(2, noisy(0.2), first_s=0.2)
    service.run(poisson(load * 10, 60))
    late = [one for _, one in service.latencies_s if one > DEADLINE_S]
    assert service.good_hz(2, 60) >= 0.95 * 10
    assert len(late) <= 0.01 * len(service.latencies_s)


@pytest.mark.parametrize("bound_s", [0.02, 0.5])
def test_an_image_that_its_header_foretells_anew_says_nothing_of_others(bound_s: float) -> None:
    """A few files of 3 KB that take 25 megapixels would close the service for seconds."""
    now = 0.0
    forecast = Forecast(1, 0.04, lambda: now)
    far = Promise(10, 0.04, 10.0, 0.0, batch=False)
    before_s = forecast.late_s(far)
    for _ in range(3):
        promise = forecast.promise(3000)
        forecast.accept(promise)
        forecast.arrived(promise)
        forecast.weighed(promise, bound_s)
        now += promise.finish_s + 0.3  # others were foretold wrong as well
        forecast.ended(promise, 0.04)
    assert (forecast.late_s(far) > before_s) == (bound_s < 0.1)


def test_a_deadline_that_cannot_be_met_is_refused_at_once_and_not_when_idle() -> None:
    service = Simulation(1, lambda now: 0.5, deadline_s=0.3, first_s=0.5)
    service.run(iter([0.0, 0.1, 1.0]))
    assert service.refused == 1


@pytest.mark.parametrize(("size", "work_s"), [(1, 0.055), (4, 0.025), (40, 0.016)])
def test_of_a_shared_run_each_request_has_its_part(size: int, work_s: float) -> None:
    stages_ms = {"receive": 100.0, "queue": 200.0, "decode": 10.0, "infer": 40.0, "encode": 5.0}
    assert took_by(stages_ms, size, 0.02) == pytest.approx(Took(work_s, 0.055, 0.01, 0.02))


def test_a_request_lasts_as_long_as_the_run_that_it_shares() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.1, lambda: now[0])
    for _ in range(200):  # the lane has time in between: its rate is not measured
        promise = forecast.promise(1000)
        forecast.accept(promise)
        now[0] += 0.4
        forecast.ended(promise, Took(0.1, 0.4))
    assert forecast.promise(1000).work_s == pytest.approx(0.1, rel=0.01)
    assert forecast.promise(1000).finish_s == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize(
    ("took", "foretold_s"),
    [
        # A run that others shared: an image lasts so much longer than its part of the work.
        (Took(0.1, 0.4), 0.1 * (1 + 3 / MEMORY_REQUESTS)),
        # A clock that stood still for the part: no run has more images than `MOST_WHOLE`.
        (Took(1e-9, 0.4), 0.1 * (1 + (MOST_WHOLE - 1) / MEMORY_REQUESTS)),
        # A suspended machine, while no decoder was at work.
        (Took(60.0, 60.0, 0.0, 1e-9), 0.1 * (1 + (LONGEST - 1) / MEMORY_REQUESTS)),
    ],
)
def test_a_request_that_has_ended_says_how_long_a_weighed_image_lasts(
    took: Took, foretold_s: float
) -> None:
    """The next one takes no time to decode: what it takes is the rest of its work, and its run."""
    forecast = Forecast(1, 0.1, lambda: 0.0)
    forecast.ended(forecast.promise(1000), took)
    assert forecast.weighed(forecast.promise(1000), 0.0) == pytest.approx(foretold_s)


def test_rounding_leaves_no_work_below_nothing_behind() -> None:
    """Sums of seconds that come and go in another order do not end at 0 by themselves."""
    draw = np.random.default_rng(0)
    forecast = Forecast(1, 0.1, lambda: 0.0)
    for _ in range(100):
        promises = [forecast.promise(1000) for _ in range(8)]
        for promise, work_s in zip(promises, draw.random(8), strict=True):
            promise.work_s = work_s
            forecast.accept(promise)
        for number in draw.permutation(8):
            forecast.ended(promises[number])
            assert forecast._backlog_s[False] >= 0


def test_sizes_are_learnt_apart() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.04, lambda: now[0])
    for body_bytes, work_s in [(100_000, 0.04), (5_000_000, 0.4)] * 30:
        promise = forecast.promise(body_bytes)
        forecast.accept(promise)
        now[0] += work_s
        forecast.ended(promise, work_s)
    assert forecast.promise(100_000).work_s == pytest.approx(0.04, rel=0.01)
    assert forecast.promise(5_000_000).work_s == pytest.approx(0.4, rel=0.1)
    # The next that is known.
    assert forecast.promise(9_000_000).work_s == pytest.approx(0.4, rel=0.1)


def test_what_waits_is_in_the_forecast_of_the_next_one() -> None:
    now = [0.0]
    forecast = Forecast(2, 0.1, lambda: now[0])
    finish = []
    for _ in range(6):
        promise = forecast.promise(1000)
        finish.append(promise.finish_s)
        forecast.accept(promise)
        forecast.arrived(promise)
    assert finish == pytest.approx([0.1, 0.1, 0.15, 0.2, 0.25, 0.3])


def test_bodies_that_do_not_arrive_hold_nobody_up() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.1, lambda: now[0])
    slow = [forecast.promise(1000) for _ in range(50)]
    for promise in slow:
        forecast.accept(promise)
    assert forecast.promise(1000).finish_s == pytest.approx(5.1)
    now[0] = 0.2
    assert forecast.promise(1000).finish_s == pytest.approx(0.1)
    for promise in slow[:3]:
        forecast.arrived(promise)
    assert forecast.promise(1000).finish_s == pytest.approx(0.4)
    for promise in slow:
        forecast.ended(promise)
    assert forecast.promise(1000).finish_s == pytest.approx(0.1)


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


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("load", [1.5, 10.0])
@pytest.mark.parametrize("read_s", [0.0, 0.02])
def test_time_on_threads_beside_the_lanes_is_no_time_of_the_lanes(
    lanes: int, load: float, read_s: float
) -> None:
    service = Stages(lanes, noisy(0.04), read_s=read_s)
    peak_hz = lanes / 0.04
    service.run(poisson(load * peak_hz, 20))
    latencies = [one for at, one in service.latencies_s if at >= 2]
    assert service.good_hz(2, 20) >= 0.95 * peak_hz
    assert np.quantile(latencies, 0.99, method="lower") <= DEADLINE_S


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("load", [1.5, 5.0])
@pytest.mark.parametrize(("max_batch", "saved"), [(4, 0.0), (8, 0.8)])
def test_shared_runs_are_foretold_as_well(
    lanes: int, load: float, max_batch: int, saved: float
) -> None:
    """A run of eight lasts as long as eight, or as two: each has its part of it as work."""
    service = Stages(lanes, noisy(0.03), max_batch=max_batch, saved=saved)
    peak_hz = lanes / (0.03 * (1 + (max_batch - 1) * (1 - saved)) / max_batch)
    service.run(poisson(load * peak_hz, 20))
    latencies = [one for at, one in service.latencies_s if at >= 2]
    assert service.good_hz(2, 20) >= 0.95 * peak_hz
    assert np.quantile(latencies, 0.99, method="lower") <= DEADLINE_S


def test_live_requests_wait_for_no_batch_but_what_runs() -> None:
    forecast = Forecast(2, 0.1, lambda: 0.0)
    for _ in range(50):
        forecast.accept(forecast.promise(1000, batch=True))
    assert forecast.promise(1000, batch=True).finish_s == pytest.approx(51 * 0.1 / 2)
    assert forecast.promise(1000).finish_s == pytest.approx((2 + 1) * 0.1 / 2)
    live = forecast.promise(1000)
    forecast.accept(live)
    assert forecast.promise(1000).finish_s == pytest.approx((2 + 2) * 0.1 / 2)
    forecast.yields(live)  # its body says so
    assert forecast.promise(1000).finish_s == pytest.approx((2 + 1) * 0.1 / 2)
    forecast.ended(live)
    assert forecast.promise(1000, batch=True).finish_s == pytest.approx(51 * 0.1 / 2)


def test_batches_that_wait_longer_than_foretold_are_no_reason_to_refuse_live_requests() -> None:
    now = [0.0]
    forecast = Forecast(1, 0.1, lambda: now[0])
    live, late = (Promise(10, 0.1, 10.0, 0.0, batch) for batch in (False, True))
    before_s = forecast.late_s(live)
    batch = forecast.promise(1000, batch=True)
    forecast.accept(batch)
    now[0] += 60.0
    forecast.ended(batch, 0.1)
    assert forecast.late_s(live) == pytest.approx(before_s)
    assert forecast.late_s(late) > before_s


@pytest.mark.parametrize(
    ("seconds", "limit_s", "words"),
    [
        (1.234, 1.0, "1.2"),
        (1.04, 1.0, "1.04"),
        (1.0001, 1.0, "1.001"),
        (0.7992, 0.796, "0.8"),
        (0.0123, 0.012, "0.013"),
        (123.4, 15.0, "120"),
        (123.4, 121.5, "123.4"),
    ],
)
def test_the_words_for_a_time_beyond_a_limit_are_beyond_it(
    seconds: float, limit_s: float, words: str
) -> None:
    assert in_words(seconds, limit_s) == words
