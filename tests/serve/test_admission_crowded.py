"""Who may wait long takes no place from who may not: the real decisions, in simulated time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from seatrial.deployment import Limits
from seatrial.errors import Overloaded
from seatrial.serve.admission import Dispatcher
from seatrial.serve.asked import Asked
from seatrial.serve.forecast import Forecast, Took
from seatrial.serve.tickets import Admitted

WORK_S = 0.05  # so one lane answers 20 requests a second
DEADLINE_S, LONG_S = 1.0, 60.0
USUAL = Asked(body_bytes=100_000)
LONG = Asked(body_bytes=100_000, deadline_s=LONG_S)
BATCH = Asked(body_bytes=100_000, deadline_s=LONG_S, batch=True)


class Simulation:
    """One lane behind a dispatcher; live requests start first, each kind in its order.

    Attributes:
        now: The time, seconds.
        arrived: Request as it was asked -> number of them.
        latencies_s: The same -> of those that were let in.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.now = 0.0
        self.arrived: dict[Asked, int] = {}
        self.latencies_s: dict[Asked, list[float]] = {}
        self._dispatcher = dispatcher
        dispatcher.forecast = Forecast(1, WORK_S, lambda: self.now)
        self._waiting: dict[bool, deque[tuple[float, Asked, Admitted]]] = {
            False: deque(), True: deque()
        }  # fmt: skip
        self._ends: tuple[float, float, Asked, Admitted] | None = None

    def run(self, *floods: Iterator[tuple[float, Asked]]) -> None:
        """Let requests arrive, and answer those that are let in."""
        for at, asked in sorted((one for flood in floods for one in flood), key=lambda one: one[0]):
            self._until(at)
            self.now = at
            self.arrived[asked] = self.arrived.get(asked, 0) + 1
            try:
                ticket = self._dispatcher.admit(asked)
            except Overloaded:
                continue
            ticket.__enter__()
            ticket.ready()
            self._waiting[asked.batch].append((at, asked, ticket))
            self._start()
        self._until(float("inf"))

    def share(self, asked: Asked) -> float:
        """Share of such requests that was let in."""
        return len(self.latencies_s[asked]) / self.arrived[asked]

    def _start(self) -> None:
        waiting = self._waiting[False] or self._waiting[True]
        if waiting and self._ends is None:
            self._ends = (self.now + WORK_S, *waiting.popleft())

    def _until(self, at: float) -> None:
        while self._ends is not None and self._ends[0] <= at:
            self.now, since, asked, ticket = self._ends
            self._ends = None
            ticket.took = Took(WORK_S, WORK_S)
            ticket.__exit__(None, None, None)
            self.latencies_s.setdefault(asked, []).append(self.now - since)
            self._start()


def flood(asked: Asked, rate_hz: float, seconds: float = 60.0) -> Iterator[tuple[float, Asked]]:
    draw, at = np.random.default_rng(1 if asked is USUAL else 2), 0.0
    while (at := at + draw.exponential(1 / rate_hz)) < seconds:
        yield at, asked


def test_long_deadlines_do_not_crowd_out_that_of_the_deployment(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    """Each has the share of the lane that it has of the requests."""
    service = Simulation(open_dispatcher(deadline_s=DEADLINE_S))
    service.run(flood(USUAL, 10), flood(LONG, 60))
    assert service.share(USUAL) == pytest.approx(20 / 70, rel=0.15)
    assert service.share(LONG) == pytest.approx(20 / 70, rel=0.15)
    for latencies in service.latencies_s.values():
        assert np.quantile(latencies, 0.99) <= DEADLINE_S


def test_a_batch_takes_nothing_from_live_requests(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    """And has what they leave, within its own deadline."""
    service = Simulation(open_dispatcher(deadline_s=DEADLINE_S))
    service.run(flood(USUAL, 10), flood(BATCH, 60))
    assert service.share(USUAL) == 1
    assert np.quantile(service.latencies_s[USUAL], 0.99) <= DEADLINE_S
    assert len(service.latencies_s[BATCH]) >= 0.95 * (20 * 60 - service.arrived[USUAL])
    assert max(service.latencies_s[BATCH]) <= LONG_S


def test_a_burst_of_who_can_wait_is_taken_as_a_batch(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    service = Simulation(open_dispatcher(deadline_s=DEADLINE_S))
    service.run((1.0, asked) for asked in [BATCH] * 100 + [LONG] * 100)
    assert service.share(BATCH) == 1
    assert 15 <= len(service.latencies_s[LONG]) <= DEADLINE_S / WORK_S


def test_work_that_takes_most_of_the_deadline_has_time_to_wait_as_well(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = open_dispatcher(deadline_s=DEADLINE_S)
    dispatcher.forecast = Forecast(1, 0.8)
    dispatcher.forecast._spread_s = [0.0, 0.0]
    small, large = Asked(1, LONG_S), Asked(2**20, LONG_S)
    dispatcher.forecast._work_s = {small.body_bytes.bit_length(): 0.4, 21: 0.8}
    with dispatcher.admit(small), dispatcher.admit(large):  # 1.2 s of 0.5 s + 0.8 s
        with pytest.raises(Overloaded, match="queue of live requests is for 1 s") as refusal:
            dispatcher.admit(large)
        assert (refusal.value.reason, refusal.value.wait_s) == ("deadline", pytest.approx(2.0))
        assert "batch" in refusal.value.hint
        with dispatcher.admit(Asked(2**20, LONG_S, batch=True)):
            pass


def test_a_batch_leaves_half_of_the_places_and_of_the_bytes(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = open_dispatcher(queue=3, deadline_s=3000)
    with dispatcher.admit(BATCH), dispatcher.admit(BATCH):
        with pytest.raises(Overloaded, match="2 requests wait or run already"):
            dispatcher.admit(BATCH)
        with dispatcher.admit(USUAL):
            pass
    dispatcher = open_dispatcher(bytes_in_flight=1000, deadline_s=3000)
    with dispatcher.admit(Asked(body_bytes=400)):
        with pytest.raises(Overloaded, match="takes 400 bytes already"):
            dispatcher.admit(Asked(body_bytes=101, batch=True))
        with dispatcher.admit(Asked(body_bytes=100, batch=True)):
            pass


@pytest.mark.usefixtures("time_limit")
def test_a_live_request_is_let_in_behind_a_batch_that_takes_longer_than_it_has(
    run_app: Callable[..., Any], photo: bytes, until: Callable[..., Any]
) -> None:
    """Over HTTP, with threads and lanes."""
    batch = {"X-Request-Priority": "batch", "X-Request-Timeout-Ms": "60000"}
    with run_app(Limits(deadline_s=20.0)) as running, ThreadPoolExecutor(16) as pool:

        def ask(headers: dict[str, str]) -> int:
            return running.client.post("/detect", content=photo, headers=headers).status_code

        running.service.dispatcher.forecast = Forecast(1, 2.0)
        lanes = running.detector.lanes
        with running.lanes_held():  # one more is present, who holds it
            asked = [pool.submit(ask, batch) for _ in range(15)]
            until(lambda: lanes.present == 16)
            asked.append(pool.submit(ask, {}))
            until(lambda: lanes.present == 17)
        assert [one.result() for one in asked] == [200] * 16
