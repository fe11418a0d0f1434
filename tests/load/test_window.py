from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from seatrial.load.arrivals import ClosedLoop, ConstantRate
from seatrial.load.samples import Sample
from seatrial.load.window import DueWindow, Load, Window


class Quiet:
    """An observer that writes down when it was called."""

    def __init__(self):
        self.calls = []

    def opened(self):
        self.calls.append("opened")

    def tick(self):
        self.calls.append("tick")

    def closed(self):
        self.calls.append("closed")


def test_window_counts_what_ends_in_it_wherever_it_began():
    def sample(start_ns, end_ns, error=""):
        return Sample(start_ns, end_ns, 0 if error else 200, error)

    async def play():
        load = Load(arrivals=ClosedLoop(2), measure_s=600.0, warmup_s=0.0, warmup_requests=2)
        window = Window(load, Quiet())
        now = time.perf_counter_ns()
        window.add(sample(now, now + 1))
        assert not window.open_ns
        window.add(sample(now, now + 1))
        assert window.open_ns
        astride = sample(window.open_ns - 10**9, window.open_ns + 5)
        inside = sample(window.open_ns + 5, window.open_ns + 9, "timeout")
        window.add(astride)
        window.add(inside)
        window.close("time")
        late = sample(window.open_ns + 9, window.close_ns + 7)
        window.add(late)
        assert window.samples == [astride, inside]
        assert window.stragglers == [late]
        assert (window.warmed, window.failed) == (2, 1)

    asyncio.run(play())


def test_warm_up_needs_its_time_as_well_as_its_requests():
    async def play():
        load = Load(arrivals=ClosedLoop(1), measure_s=600.0, warmup_s=100.0, warmup_requests=2)
        window = Window(load, Quiet())
        now = time.perf_counter_ns()
        for seconds in (50, 99):
            window.add(Sample(now, now + seconds * 10**9, 200))
            assert not window.open_ns
        window.add(Sample(now, now + 101 * 10**9, 200))
        assert window.open_ns
        assert window.warmed == 3
        window.close("time")

    asyncio.run(play())


def test_a_service_is_gone_after_two_seconds_without_a_connection():
    def sample(end_s, error):
        return Sample(0, int(end_s * 1e9), 0 if error else 200, error)

    async def play(*samples):
        load = Load(arrivals=ClosedLoop(1), measure_s=600.0, warmup_s=0.0)
        window = Window(load, Quiet())
        for each in samples:
            window.add(each)
        ended = window.closed.is_set()
        window.close("time")
        return ended, window.ended

    def gone(*samples):
        return asyncio.run(play(*samples))

    several = [sample(2 + n / 10, "connect") for n in range(4)]
    assert gone(sample(1, ""), *several, sample(4.1, "disconnect")) == (True, "unreachable")
    # At a low rate two in a row are no outage.
    assert gone(sample(1, ""), *several[:3], sample(4.1, "disconnect")) == (False, "time")
    assert gone(sample(1, ""), sample(2, "connect"), sample(3.9, "connect")) == (False, "time")
    # An answer in between: a worker was restarted. A timeout is no lost connection either.
    between = (sample(2, "connect"), sample(3, ""), sample(4.5, "connect"))
    assert gone(sample(1, ""), *between) == (False, "time")
    assert gone(sample(1, "timeout"), sample(9, "timeout")) == (False, "time")


def test_window_opens_although_the_warm_up_never_gets_its_answers(monkeypatch):
    monkeypatch.setattr("seatrial.load.window.WARMUP_PATIENCE_S", 0.05)

    async def play():
        load = Load(arrivals=ClosedLoop(1), measure_s=0.05, warmup_s=0.0, warmup_requests=1000)
        observer = Quiet()
        window = Window(load, observer)
        await asyncio.wait_for(window.closed.wait(), 120)
        assert window.ended == "time"
        assert window.close_ns > window.open_ns > 0
        assert observer.calls == ["opened", "closed"]

    asyncio.run(play())


def due_window(load, due_s, observer=None):
    return DueWindow(load, observer or Quiet(), np.array(due_s))


def due_sample(window, due_s, latency_s=0.01, error="", status=200):
    due_ns = window.begin_ns + round(due_s * 1e9)
    end_ns = due_ns + round(latency_s * 1e9)
    return Sample(due_ns, end_ns, status, error=error, due_ns=due_ns)


def test_what_is_due_in_the_window_counts_whenever_it_ends():
    async def play():
        load = Load(arrivals=ConstantRate(1.0), measure_s=10.0, warmup_s=2.0)
        window = due_window(load, [0.0, 1.0, 2.0, 11.9])
        begun, carried = due_sample(window, 0.0), due_sample(window, 1.0, latency_s=1.5)
        last = due_sample(window, 11.9, latency_s=60.0)
        for sample in (begun, carried, due_sample(window, 1.5, 1.0, "connect", 0), last):
            window.add(sample)
        window.finish()
        found = window.recording()
        assert (found.samples, found.warmup_requests, found.carried) == ((last,), 3, 1)
        assert (found.open_ns, found.close_ns) == (
            window.begin_ns + 2 * 10**9,
            window.begin_ns + 12 * 10**9,
        )
        assert found.ended == "time"

    asyncio.run(play())


def test_a_number_of_requests_ends_the_window_at_the_one_that_is_not_sent():
    async def play():
        load = Load(arrivals=ConstantRate(1.0), measure_s=10.0, warmup_s=2.0, requests=3)
        window = due_window(load, [float(n) for n in range(12)])
        assert (window.close_ns - window.begin_ns, window.ended) == (5 * 10**9, "requests")
        few = due_window(load, [0.0, 3.0, 4.0, 5.0])
        assert (few.close_ns - few.begin_ns, few.ended) == (12 * 10**9, "time")

    asyncio.run(play())


def test_a_service_that_is_gone_ends_the_window_of_an_open_loop_early():
    async def play():
        stopped, observer = [], Quiet()
        load = Load(arrivals=ConstantRate(1.0), measure_s=100.0, warmup_s=0.0)
        window = due_window(load, [float(n) for n in range(100)], observer)
        window.on_closed = lambda: stopped.append(True)
        for due_s in (0.0, 0.5, 1.0, 1.5, 2.2):
            window.add(due_sample(window, due_s, error="connect", status=0))
        assert (window.ended, stopped, window.closed.is_set()) == ("unreachable", [True], True)
        assert not window.over.is_set()
        assert window.close_ns - window.open_ns < 50 * 10**9
        assert observer.calls == ["closed"]
        window.close("time")
        assert (window.ended, observer.calls) == ("unreachable", ["closed"])

    asyncio.run(play())


def test_a_window_that_is_over_is_not_ended_again():
    async def play():
        observer = Quiet()
        load = Load(arrivals=ConstantRate(1.0), measure_s=0.01, warmup_s=0.0)
        window = due_window(load, [0.0], observer)
        await asyncio.sleep(0.1)
        window.close("unreachable")
        assert (window.ended, observer.calls) == ("time", ["opened", "closed"])
        assert window.close_ns - window.open_ns == pytest.approx(1e7)

    asyncio.run(play())


def test_an_open_loop_that_is_answered_early_lasts_until_its_end():
    async def play():
        load, observer = Load(arrivals=ConstantRate(10.0), measure_s=0.1, warmup_s=0.0), Quiet()
        window = DueWindow(load, observer, np.array([0.0]))
        window.finish()
        assert not window.over.is_set()
        assert "closed" not in observer.calls
        await window.over.wait()
        assert observer.calls == ["opened", "closed"]
        assert time.perf_counter_ns() >= window.close_ns - 2_000_000

    asyncio.run(play())
