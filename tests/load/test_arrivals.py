from __future__ import annotations

import itertools
import statistics

from seatrial.load.arrivals import ClosedLoop, ConstantRate, Poisson
from seatrial.load.run import Load


def test_a_constant_rate_is_due_at_equal_distances_whatever_the_seed():
    for seed in (0, 7):
        due = list(itertools.islice(ConstantRate(rate_hz=40.0).due_s(seed), 5))
        assert due == [0.0, 0.025, 0.05, 0.075, 0.1]


def test_the_times_between_poisson_arrivals_are_exponential():
    law = Poisson(rate_hz=40.0)
    due = list(itertools.islice(law.due_s(3), 20_000))
    assert due == list(itertools.islice(law.due_s(3), 20_000))
    assert due[:5] != list(itertools.islice(law.due_s(4), 5))
    gaps = [later - sooner for sooner, later in itertools.pairwise([0.0, *due])]
    assert min(gaps) > 0
    assert abs(40 * statistics.fmean(gaps) - 1) < 0.02
    assert abs(40 * statistics.pstdev(gaps) - 1) < 0.03
    assert abs(40 * statistics.median(gaps) - 0.6931) < 0.02  # ln 2


def test_a_load_knows_its_loop_and_how_many_requests_it_keeps_under_way():
    closed = Load(arrivals=ClosedLoop(sessions=3), measure_s=1.0)
    assert (closed.loop, closed.sessions) == ("closed", 3)
    assert ClosedLoop(sessions=3).think_time_s == 0  # the next request follows at once
    paced = Load(arrivals=ConstantRate(rate_hz=10.0), measure_s=1.0)
    assert (paced.loop, paced.sessions) == ("open", 0)
