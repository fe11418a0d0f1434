from __future__ import annotations

import msgspec
import pytest

from seatrial.trial.capacity import plan_capacity
from seatrial.trial.capacity_caveats import BEYOND
from seatrial.trial.capacity_goal import CapacityGoal
from seatrial.trial.capacity_page import headline
from seatrial.trial.capacity_points import CurvePoint
from simulated_machines import curve

GOAL = CapacityGoal(rate_hz=200.0, percentile="p99", at_most_ms=150.0)


@pytest.mark.slow
def test_what_was_not_measured_is_said():
    closed = [CurvePoint(None, 1, 2_000, {"p50": 31.0, "p99": 50.0})]
    goal = msgspec.structs.replace(GOAL, rate_hz=30.0)
    told = plan_capacity(closed, goal, lanes=2).caveats
    assert "no point was measured with requests that come by a schedule" in told[0]
    slow = curve(rates=(5.0,), count=4_000)
    goal = msgspec.structs.replace(GOAL, rate_hz=5.0)
    (far,) = plan_capacity(slow, msgspec.structs.replace(goal, at_most_ms=400.0), lanes=2).caveats
    assert "no measured p99 is over half of the limit" in far
    halves = [msgspec.structs.replace(slow[0], percentiles_ms={"p50": 31.0})]
    (unknown,) = plan_capacity(halves, goal, lanes=2).caveats
    assert "no point that the queue is fitted to has p99" in unknown


@pytest.mark.slow
def test_no_machine_is_given_far_more_than_was_measured_on_one():
    """By the queue, one machine holds about 40/s; it was measured at 10/s."""
    points = curve(rates=(5.0, 10.0), count=4_000)
    goal = msgspec.structs.replace(GOAL, rate_hz=60.0)
    plan = plan_capacity(points, goal, lanes=2)
    assert plan.measured_hz == 10.0
    assert plan.machines == 5
    assert plan.rows[0].holds_hz <= BEYOND * 10.0
    assert plan.beyond == pytest.approx(1.2)
    assert headline(plan).endswith("(each at 1.20 times the highest measured rate)")
    (told,) = (one for one in plan.caveats if "by the queue alone" in one)
    assert "by the queue alone 2 would do" in told
    assert "the highest measured rate is 10.0/s" in told
    near = plan_capacity(points, msgspec.structs.replace(GOAL, rate_hz=12.0), lanes=2)
    assert near.machines == 1
    assert [one for one in near.caveats if "1.20 times the highest measured rate" in one]


@pytest.mark.slow
def test_lanes_that_one_point_cannot_tell_are_told():
    points = curve(rates=(10.0,), count=4_000)
    goal = msgspec.structs.replace(GOAL, rate_hz=10.0)
    plan = plan_capacity(points, goal)
    assert len(plan.model.lanes_alike) > 1
    assert plan.model.lanes in plan.model.lanes_alike
    assert [one for one in plan.caveats if "do not tell the lanes" in one]
    assert not plan_capacity(points, goal, lanes=2).model.lanes_alike


@pytest.mark.slow
def test_latencies_that_fall_with_the_rate_make_the_numbers_a_hint():
    points = [
        CurvePoint(rate, 0, 4_000, {"p50": 0.5 * p99, "p90": 0.8 * p99, "p99": p99})
        for rate, p99 in ((5.0, 209.0), (15.0, 69.0), (25.0, 29.0))
    ]
    goal = msgspec.structs.replace(GOAL, rate_hz=30.0, at_most_ms=250.0)
    plan = plan_capacity(points, goal, lanes=2)
    assert not plan.firm
    assert headline(plan).startswith("As a hint at most, ")
