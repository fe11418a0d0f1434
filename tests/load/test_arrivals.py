from __future__ import annotations

import itertools

from seatrial.load.arrivals import ClosedLoop, ConstantRate
from seatrial.load.run import Load


def test_a_constant_rate_is_due_at_equal_distances_whatever_the_seed():
    for seed in (0, 7):
        due = list(itertools.islice(ConstantRate(rate_hz=40.0).due_s(seed), 5))
        assert due == [0.0, 0.025, 0.05, 0.075, 0.1]


def test_a_load_knows_its_loop_and_how_many_requests_it_keeps_under_way():
    closed = Load(arrivals=ClosedLoop(sessions=3), measure_s=1.0)
    assert (closed.loop, closed.sessions) == ("closed", 3)
    assert ClosedLoop(sessions=3).think_time_s == 0  # the next request follows at once
    paced = Load(arrivals=ConstantRate(rate_hz=10.0), measure_s=1.0)
    assert (paced.loop, paced.sessions) == ("open", 0)
