from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from seatrial.load.queue_simulation import Machines
from seatrial.load.queue_theory import mm1_percentile_s
from seatrial.trial.capacity_model import (
    MachineModel,
    check_points,
    draw,
    fit_machine,
    simulate,
    simulate_windows,
)
from seatrial.trial.capacity_points import CurvePoint, normal_shape
from simulated_machines import MACHINE, curve


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [2, None], ids=["told", "found"])
def test_a_known_machine_is_found_from_its_curve(lanes):
    found = fit_machine(curve(), lanes=lanes)
    assert found.lanes == 2
    assert found.saturation_hz == pytest.approx(50, rel=0.04)
    assert found.alone * found.service_ms + found.overhead_ms == pytest.approx(31, rel=0.05)
    for one in check_points(found, curve()):
        for name in one.measured_ms:
            assert abs(one.error(name)) < 0.05 + 2 * one.noise[name], (one.load, name)


@pytest.mark.slow
def test_closed_loops_are_points_too():
    points = [CurvePoint(None, sessions, 4_000, {}) for sessions in (1, 2, 4, 8)]
    measured = [
        msgspec.structs.replace(
            one, percentiles_ms=simulate(MACHINE, one, draw(one, 4_000, 300 + n))
        )
        for n, one in enumerate(points)
    ]
    found = fit_machine(measured, lanes=2)
    assert found.saturation_hz == pytest.approx(50, rel=0.03)
    assert [one.load for one in check_points(found, measured[:1])] == ["closed loop, 1"]


def test_exponential_service_times_give_mm1():
    """A shape is any: here the logarithms of an exponential distribution."""
    ranks = (np.arange(4_000) + 0.5) / 4_000
    logs = np.log(-np.log1p(-ranks))
    shape = tuple(((logs - logs.mean()) / logs.std()).tolist())
    machine = MachineModel(1, 10.0, float(logs.std()), 1.0, 5.0, shape)
    point = CurvePoint(60.0, 0, 200_000, {})
    found = simulate(machine, point, draw(point, 400_000, 1))
    for name, fraction in {"p50": 0.5, "p90": 0.9, "p99": 0.99}.items():
        theory_ms = 5 + 1e3 * mm1_percentile_s(fraction, 60.0, 0.01)
        assert found[name] == pytest.approx(theory_ms, rel=0.04), name


def test_service_times_have_the_mean_and_the_spread_of_the_model():
    times = MACHINE.service_s(np.random.default_rng(0).random(200_000))
    assert times.mean() == pytest.approx(0.040, rel=2e-3)
    assert np.log(times).std() == pytest.approx(0.2, rel=0.02)
    assert MACHINE.saturation_hz == 50.0
    slower = MACHINE.slower(1.1)
    assert (slower.service_ms, slower.overhead_ms) == pytest.approx((44.0, 3.3))
    assert (slower.lanes, slower.alone) == (2, 0.7)
    assert MACHINE.machines(3, "round-robin") == Machines(3, 2, "round-robin", 0.7)


def test_windows_are_as_long_as_the_measured_one():
    point = CurvePoint(20.0, 0, 500, {})
    drawn = draw(point, 4_000, 1)
    assert len(drawn.due_s) == len(drawn.ranks) == 8
    assert drawn.warmup == 50
    lengths = [len(one) for one in drawn.due_s]
    assert lengths == [len(one) for one in drawn.ranks]
    assert all(450 < length < 650 for length in lengths)
    assert len({*lengths}) > 1
    assert all(one[-1] < 27.5 for one in drawn.due_s)
    assert simulate_windows(MACHINE, point, drawn).shape == (8, 4)
    again = draw(point, 4_000, 1)
    assert all((a == b).all() for a, b in zip(drawn.ranks, again.ranks, strict=True))
    other = draw(point, 4_000, 2)
    assert (drawn.ranks[0][:400] != other.ranks[0][:400]).all()
    # More were measured than are simulated: one window, no longer than that.
    assert [len(one) for one in draw(CurvePoint(None, 2, 9_000, {}), 1_000, 1).ranks] == [1_100]


def test_points_with_even_arrivals_have_less_of_a_queue():
    def p99(arrivals):
        point = CurvePoint(44.0, 0, 5_000, {}, arrivals)
        return simulate(MACHINE, point, draw(point, 20_000, 1))["p99"]

    assert p99("constant") < 0.7 * p99("poisson")


def test_a_check_has_the_error_and_the_noise():
    points = curve(rates=(10.0, 45.0), count=2_000)
    calm, busy = check_points(MACHINE.slower(1.2), points)
    assert calm.error("p50") == pytest.approx(0.2, abs=0.05)
    assert calm.error("p97") is None
    assert calm.rate_hz == 10.0
    # Near saturation another window of this length would differ by a third and more.
    assert calm.noise["p99"] < 0.1 < 0.2 < busy.noise["p99"]
    assert math.isclose(calm.measured_ms["p99"], points[0].percentiles_ms["p99"])


def test_the_normal_shape_is_standard():
    shape = np.array(normal_shape())
    assert (shape.mean(), shape.std()) == pytest.approx((0, 1), abs=1e-9)
    assert (shape[0], shape[-1]) == pytest.approx((-3.028, 3.028), abs=0.003)
