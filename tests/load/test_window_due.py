"""What counts in a window at its edges."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from seatrial.load.arrivals import ClosedLoop, ConstantRate
from seatrial.load.samples import Sample
from seatrial.load.window import DueWindow, Load, Window

S = 10**9


class Quiet:
    def opened(self) -> None:
        """Nothing to do."""

    tick = closed = opened


@pytest.mark.parametrize(("due_s", "counts"), [(1.9, False), (2.0, True), (2.5, True)])
def test_a_request_counts_by_its_due_time_however_late_it_is_sent(due_s, counts):
    async def play():
        load = Load(arrivals=ConstantRate(1.0), measure_s=10.0, warmup_s=2.0)
        window = DueWindow(load, Quiet(), np.array([due_s]))
        due_ns = window.begin_ns + round(due_s * S)
        sample = Sample(due_ns + S, due_ns + 2 * S, 200, due_ns=due_ns)
        window.add(sample)
        assert window.recording().samples == ((sample,) if counts else ())

    asyncio.run(play())


@pytest.mark.parametrize(("end_s", "carried"), [(1.99, 0), (2.0, 1), (11.99, 1), (12.0, 0)])
def test_an_answer_to_a_request_before_the_window_came_in_it_or_not(end_s, carried):
    async def play():
        load = Load(arrivals=ConstantRate(1.0), measure_s=10.0, warmup_s=2.0)
        window = DueWindow(load, Quiet(), np.array([1.0]))
        begin_ns = window.begin_ns
        window.add(Sample(begin_ns + S, begin_ns + round(end_s * S), 200, due_ns=begin_ns + S))
        assert window.recording().carried == carried

    asyncio.run(play())


@pytest.mark.parametrize(("once", "opens"), [(True, False), (False, True)])
def test_the_warm_up_of_a_folder_ends_when_nothing_of_it_is_under_way(once, opens):
    async def play():
        load = Load(
            arrivals=ClosedLoop(2, once=once), measure_s=10.0, warmup_s=0.0, warmup_requests=1
        )
        window = Window(load, Quiet())
        window.add(Sample(window.begin_ns, window.begin_ns + S, 200))
        assert bool(window.open_ns) is opens

    asyncio.run(play())
