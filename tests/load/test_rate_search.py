from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from seatrial.load.rate_search import RateGoal, RateTrial, parts, search_rate
from simulated_servers import (
    bisection,
    constant,
    exponential,
    kneed,
    truth_of_constant,
    truth_of_exponential,
)

pytestmark = pytest.mark.slow

ALLOWED = 0.01
SERVICE_S = 0.001
GOAL = RateGoal(low_hz=1.0, width=0.05, budget_s=180.0)
BISECTION_S = 540.0  # nine windows of a minute, from 1 to 5,000 requests a second


def outcomes(make, truth, count, goal=GOAL):
    found = [search_rate(make(seed).measure, goal) for seed in range(count)]
    covered = np.mean([one.low_hz <= truth <= one.high_hz for one in found])
    errors = np.array([abs(one.rate_hz / truth - 1) for one in found])
    assert all(one.low_hz <= one.rate_hz <= one.high_hz for one in found)
    assert max(one.elapsed_s for one in found) <= goal.budget_s + goal.shortest_s
    return covered, errors, np.mean([one.elapsed_s for one in found])


@pytest.mark.parametrize(
    ("make", "truth", "within"),
    [
        (
            lambda seed: exponential(SERVICE_S, 10 * SERVICE_S, seed),
            truth_of_exponential(SERVICE_S, 10 * SERVICE_S, ALLOWED),
            0.6,
        ),
        (
            lambda seed: constant(SERVICE_S, 5 * SERVICE_S, seed),
            truth_of_constant(SERVICE_S, 5 * SERVICE_S, ALLOWED),
            0.85,
        ),
        (lambda seed: kneed(SERVICE_S, 5 * SERVICE_S, 530.0, seed), 530.0, 0.9),
        (lambda seed: kneed(SERVICE_S, 5 * SERVICE_S, 530.0, seed, 1.3), 530.0, 0.9),
    ],
    ids=["M/M/1", "M/D/1", "knee", "mild knee"],
)
def test_the_answer_is_near_the_truth_in_a_third_of_the_time_of_bisection(make, truth, within):
    covered, errors, elapsed_s = outcomes(make, truth, 20)
    assert covered >= 0.85  # 0.95 is meant; of 20, three more may miss
    assert np.mean(errors < 0.03) >= within
    assert elapsed_s <= BISECTION_S / 3
    rate_hz, took_s = bisection(make(0).measure, 1.0, 5000.0, ALLOWED, 0.03)
    assert took_s == BISECTION_S
    assert rate_hz == pytest.approx(truth, rel=0.1)


def test_a_search_goes_on_where_it_was_cut_off():
    whole = search_rate(constant(SERVICE_S, 0.01, 4).measure, GOAL)
    first, asked = whole.trials[:9], []
    server, rest = constant(SERVICE_S, 0.01, 4), iter(whole.trials[9:])
    del server

    def measure(rate_hz, duration_s):
        trial = next(rest)
        asked.append((rate_hz, trial.rate_hz))
        return trial

    again = search_rate(measure, GOAL, known=first)
    assert again == whole
    assert all(wanted == made for wanted, made in asked)
    assert len(asked) == len(whole.trials) - 9


def always(share):
    """A service of which the same share is late at any rate."""

    def measure(rate_hz, duration_s):
        offered = max(1, round(rate_hz * duration_s))
        return RateTrial(rate_hz, duration_s, offered, round(share * offered))

    return measure


def test_a_service_that_never_holds_is_below_the_lowest_rate():
    found = search_rate(always(1.0), msgspec.structs.replace(GOAL, low_hz=5.0))
    assert (found.ended, found.low_hz, found.rate_hz, found.high_hz) == (
        "below-minimum", 0.0, 0.0, 5.0,
    )  # fmt: skip
    assert found.elapsed_s < GOAL.budget_s


def test_a_service_that_always_holds_is_above_the_highest_rate():
    found = search_rate(always(0.0), msgspec.structs.replace(GOAL, high_hz=700.0))
    assert (found.ended, found.low_hz, found.rate_hz, found.high_hz) == (
        "above-maximum", 700.0, 700.0, 700.0,
    )  # fmt: skip


def test_a_budget_that_is_too_short_gives_what_is_known():
    nothing = search_rate(always(0.0), msgspec.structs.replace(GOAL, budget_s=1.0))
    assert (nothing.ended, nothing.trials, nothing.rate_hz) == ("budget", (), 0.0)
    goal = msgspec.structs.replace(GOAL, budget_s=12.0)
    short = search_rate(constant(SERVICE_S, 0.01, 1).measure, goal)
    assert short.ended == "budget"
    # Nothing is known of higher rates than were tried.
    assert (short.bounded, short.rate_hz, short.low_hz) == (False, 160.0, 0.0)
    assert short.high_hz == max(trial.rate_hz for trial in short.trials)
    assert short.elapsed_s <= 12.0


def shares(share: Callable[[float], float], seed: int = 1) -> Callable[[float, float], RateTrial]:
    """A service that is late for a share of its requests, whatever came before."""
    draw = np.random.default_rng(seed)

    def measure(rate_hz: float, duration_s: float) -> RateTrial:
        seconds = max(1, math.ceil(duration_s))
        at = draw.integers(0, seconds, int(draw.poisson(rate_hz * duration_s)))
        late = at[draw.random(len(at)) < share(rate_hz)]
        counts = (tuple(np.bincount(one, minlength=seconds).tolist()) for one in (late, at))
        return RateTrial(rate_hz, duration_s, len(at), len(late), False, *counts)

    return measure


@pytest.mark.parametrize("percentile", [0.9, 0.99])
def test_a_rate_at_which_all_are_late_is_left_at_once(percentile):
    goal = msgspec.structs.replace(GOAL, fraction=percentile, budget_s=60.0)
    found = search_rate(shares(lambda rate_hz: float(rate_hz > 4.0)), goal)
    tried = [trial.rate_hz for trial in found.trials]
    assert tried[:3] == [10.0, 5.0, 2.5]
    assert found.bounded
    assert found.low_hz <= 4.0 <= found.high_hz <= 10.0
    assert found.rate_hz > 0 or found.low_hz == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_short_search_goes_back_below_what_probably_does_not_hold(seed):
    """25 s for p90: no verdict is clear, and the best estimate is near the truth all the same."""
    knee = shares(lambda rate_hz: 0.0 if rate_hz < 95 else 0.38 if rate_hz < 118 else 1.0, seed)
    goal = msgspec.structs.replace(GOAL, fraction=0.9, budget_s=25.0)
    found = search_rate(knee, goal)
    assert 70.0 < found.rate_hz < 130.0
    after = [trial.rate_hz for trial in found.trials if trial.rate_hz < 120.0][-1]
    assert 80.0 <= after <= 118.0


def test_a_share_that_is_the_same_at_all_rates_is_not_waited_for_at_one():
    found = search_rate(shares(lambda rate_hz: 0.02), msgspec.structs.replace(GOAL, fraction=0.99))
    tried = [trial.rate_hz for trial in found.trials]
    assert max(map(tried.count, tried)) < len(tried) / 2
    assert found.low_hz == 0.0
    assert not found.bounded or found.high_hz <= max(tried)
    held = search_rate(shares(lambda rate_hz: 0.009 if rate_hz < 200 else 0.9), GOAL)
    assert held.bounded
    assert held.high_hz <= 400.0


def test_void_trials_never_count_and_are_made_again():
    server, calls = constant(SERVICE_S, 0.01, 2), []

    def measure(rate_hz, duration_s):
        calls.append(rate_hz)
        if len(calls) % 4 == 0:
            return RateTrial(rate_hz, 0.5, 1000, 1000, void=True)
        return server.measure(rate_hz, duration_s)

    found = search_rate(measure, GOAL)
    assert found.ended in ("found", "budget")
    assert found.low_hz <= 775 <= found.high_hz
    assert calls[4] == calls[3]
    void = search_rate(lambda rate, s: RateTrial(rate, s, 100, 100, void=True), GOAL)
    assert (void.ended, len(void.trials)) == ("void", 5)


@pytest.mark.parametrize("at", [9, 11, 15])
def test_one_bad_window_decides_nothing(at):
    truth = truth_of_constant(SERVICE_S, 5 * SERVICE_S, ALLOWED)
    errors = []
    for seed in range(6):
        server, calls = constant(SERVICE_S, 5 * SERVICE_S, seed), []

        def measure(rate_hz, duration_s, server=server, calls=calls):
            calls.append(rate_hz)
            trial = server.measure(rate_hz, duration_s)
            if len(calls) == at:  # near the answer, the machine stood still for a second
                bad = list(trial.bad_by_slice)
                bad[0] = trial.offered_by_slice[0]
                return msgspec.structs.replace(trial, bad=sum(bad), bad_by_slice=tuple(bad))
            return trial

        errors.append(abs(search_rate(measure, GOAL).rate_hz / truth - 1))
    assert max(errors) < 0.07


@pytest.mark.parametrize("fraction", [0.5, 0.9])
def test_other_percentiles_are_found_too(fraction):
    goal = msgspec.structs.replace(GOAL, fraction=fraction)
    truth = truth_of_exponential(SERVICE_S, 10 * SERVICE_S, 1 - fraction)
    covered, errors, _ = outcomes(
        lambda seed: exponential(SERVICE_S, 10 * SERVICE_S, seed), truth, 8, goal
    )
    assert covered >= 0.75
    assert np.median(errors) < 0.03


def test_a_slow_service_has_a_wider_interval_and_no_false_one():
    truth = truth_of_constant(0.1, 0.5, ALLOWED)  # about 5.6 requests a second
    goal = msgspec.structs.replace(GOAL, low_hz=0.1, start_hz=2.0)
    covered, errors, _ = outcomes(lambda seed: constant(0.1, 0.5, seed), truth, 12, goal)
    assert covered >= 0.8
    assert np.median(errors) < 0.15


def test_a_search_errs_no_more_than_bisection_in_three_times_its_time():
    truth = truth_of_constant(0.02, 0.1, ALLOWED)
    _, errors, elapsed_s = outcomes(lambda seed: constant(0.02, 0.1, seed), truth, 25)
    found = [bisection(constant(0.02, 0.1, seed).measure, 0.1, 5000.0, ALLOWED, 0.03)
             for seed in range(25)]  # fmt: skip
    others = [abs(rate_hz / truth - 1) for rate_hz, _ in found]
    assert elapsed_s <= BISECTION_S / 3
    assert np.mean(errors) < 1.2 * np.mean(others)


def test_a_trial_is_taken_apart_by_its_seconds():
    trial = RateTrial(100.0, 20.0, 2000, 7, False, (0,) * 19 + (7,), (100,) * 20)
    assert parts(trial, 0.01) == [(400, 0)] * 4 + [(400, 7)]  # four losses allowed in each
    assert parts(trial, 0.1) == [(300, 0)] * 6 + [(200, 7)]
    assert parts(msgspec.structs.replace(trial, bad_by_slice=()), 0.1) == [(2000, 7)]
    assert parts(RateTrial(10.0, 20.0, 100, 7), 0.01) == [(100, 7)]
