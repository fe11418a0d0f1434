from __future__ import annotations

import itertools
import json

import msgspec
import pytest

from json_schemas import against_schema
from seatrial.config import encode_json
from seatrial.errors import InvalidInput
from seatrial.load.queue_theory import md1_percentile_s
from seatrial.trial.capacity import (
    LEAST_MARGIN,
    MOST_MARGIN,
    Cluster,
    margin_of,
    plan_capacity,
    shown_counts,
)
from seatrial.trial.capacity_goal import CapacityGoal
from seatrial.trial.capacity_points import CurvePoint
from simulated_machines import MACHINE, curve

GOAL = CapacityGoal(rate_hz=200.0, percentile="p99", at_most_ms=150.0)


@pytest.fixture(scope="module")
def made():
    """The plan for a machine whose queue is known."""
    return plan_capacity(curve(), GOAL, lanes=2, source="report.json")


@pytest.fixture(scope="module")
def truth():
    """The known machine, with the margin of the plan on its times."""
    return Cluster(MACHINE.slower(1 + LEAST_MARGIN), GOAL, 77)


@pytest.mark.slow
def test_the_plan_is_that_of_the_known_machine(made, truth):
    assert (made.machines, made.machines_bought) == (5, 6)
    assert truth.holds(5, 200.0)
    assert not truth.holds(4, 200.0)
    for row in made.rows:
        assert row.holds_hz == pytest.approx(truth.holds_hz(row.machines), rel=0.05)
    assert made.margin == LEAST_MARGIN
    assert made.caveats == ()
    assert made.source == "report.json"
    assert against_schema("capacity", json.loads(encode_json(made))) == []


@pytest.mark.slow
def test_machines_behind_a_balancer_hold_more_than_as_many_alone(made):
    assert [row.machines for row in made.rows] == [1, 2, 3, 4, 5, 6]
    one = made.rows[0].holds_hz
    for row in made.rows:
        assert row.multiple_hz == pytest.approx(row.machines * one)
    each = [row.holds_hz / row.machines for row in made.rows]
    assert all(more > less for less, more in itertools.pairwise(each))
    assert each[-1] / one > 1.3
    assert made.naive_machines > made.machines
    held = [row.holds for row in made.rows]
    assert held == [row.holds_hz >= 200.0 for row in made.rows] == [False] * 4 + [True] * 2
    assert [row.latency_ms is None for row in made.rows] == [True] * 4 + [False] * 2
    assert made.rows[4].latency_ms <= 150.0
    rates = [rate for rate, _ in made.curve]
    assert rates == sorted(rates)
    assert made.curve[0][1] < made.curve[-1][1] <= 450.0


def test_one_lane_holds_the_rate_that_theory_says():
    lane = msgspec.structs.replace(MACHINE, lanes=1, spread=0.0, alone=1.0, overhead_ms=0.0)
    cluster = Cluster(lane, msgspec.structs.replace(GOAL, at_most_ms=160.0), 3)
    rate_hz = cluster.holds_hz(1)
    assert md1_percentile_s(0.99, rate_hz, 0.04) == pytest.approx(0.16, rel=0.06)


def test_a_limit_below_a_lone_request_is_held_by_no_number():
    tight = msgspec.structs.replace(GOAL, at_most_ms=40.0)
    assert Cluster(MACHINE, tight, 1).smallest() is None
    assert Cluster(MACHINE, tight, 1).holds_hz(3) == 0


def test_the_smallest_number_is_the_first_that_holds():
    cluster = Cluster(MACHINE, msgspec.structs.replace(GOAL, rate_hz=90.0), 1)
    found = cluster.smallest()
    assert [cluster.holds(count, 90.0) for count in (found - 1, found)] == [False, True]
    few = Cluster(MACHINE, msgspec.structs.replace(GOAL, rate_hz=5.0), 1)
    assert few.smallest() == 1


def test_no_machine_is_given_a_rate_at_which_the_measured_one_failed():
    free = Cluster(MACHINE, GOAL, 1)
    held = Cluster(MACHINE, GOAL, 1, most_hz=21.0)
    assert free.smallest() <= 6
    assert held.smallest() == 10
    assert held.latency_ms(9, 200.0) is None
    assert held.holds_hz(4) == pytest.approx(84, rel=0.01)


def test_a_rate_for_more_machines_than_are_simulated_is_an_error():
    with pytest.raises(InvalidInput, match="more than 500 machines"):
        Cluster(MACHINE, msgspec.structs.replace(GOAL, rate_hz=1e6), 1).smallest()


def test_bursts_and_turns_ask_for_more():
    steady = Cluster(MACHINE, GOAL, 1)
    bursts = Cluster(MACHINE, msgspec.structs.replace(GOAL, arrivals="bursts"), 1)
    turns = Cluster(MACHINE, msgspec.structs.replace(GOAL, balancer="round-robin"), 1)
    assert bursts.latency_ms(5, 120.0) > 1.2 * steady.latency_ms(5, 120.0)
    assert turns.latency_ms(5, 225.0) > 1.05 * steady.latency_ms(5, 225.0)


def test_the_margin_covers_every_measured_percentile_within_the_limit():
    points = curve(count=20_000)
    margin, reason, enough = margin_of(MACHINE, points, GOAL)
    assert (margin, enough) == (LEAST_MARGIN, True)
    assert "below no measured p99" in reason
    # A model that is 15 % too fast.
    fast = MACHINE.slower(1 / 1.15)
    margin, reason, enough = margin_of(fast, points, GOAL)
    assert margin == pytest.approx(0.16, abs=0.04)
    assert enough
    assert "with less" in reason
    # How far off it is where nothing holds does not matter.
    over = [CurvePoint(48.0, 0, 20_000, {"p99": 5_000.0})]
    assert margin_of(MACHINE, points[:1] + over, GOAL)[0] == LEAST_MARGIN
    margin, reason, _ = margin_of(MACHINE, over, GOAL)
    assert (margin, reason) == (LEAST_MARGIN, "assumed, as no measured point is within the limit")
    # It says of this one that it holds, and it does not.
    wrong = [CurvePoint(20.0, 0, 20_000, {"p99": 5_000.0})]
    margin, reason, enough = margin_of(MACHINE, wrong, GOAL)
    assert (margin, enough) == (MOST_MARGIN, False)
    assert "is below a measured p99 even with it" in reason


def test_closed_loops_count_for_the_margin_where_there_is_nothing_else():
    closed = CurvePoint(None, 1, 2_000, {"p99": 60.0})
    alone = margin_of(MACHINE, [closed], GOAL)[0]
    assert alone > LEAST_MARGIN
    both = [closed, *curve(rates=(20.0,))]
    assert margin_of(MACHINE, both, GOAL)[0] == LEAST_MARGIN


def test_numbers_of_machines_for_the_table():
    assert shown_counts(1) == [1]
    assert shown_counts(6) == [1, 2, 3, 4, 5, 6]
    assert shown_counts(10) == list(range(1, 11))
    many = shown_counts(200)
    assert len(many) <= 10
    assert (many[0], many[-2:]) == (1, [199, 200])
    assert many == sorted({*many})
