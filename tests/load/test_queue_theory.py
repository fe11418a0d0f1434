from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from seatrial.load.queue_theory import (
    md1_numbers,
    md1_percentile_s,
    md1_waits_at_most,
    mm1_percentile_s,
)


def erlang(time: Fraction, offered: Fraction) -> float:
    """The waiting time of M/D/1 by Erlang's alternating series, in fractions but for e^x."""
    total = Fraction(0)
    for k in range(math.floor(time) + 1):
        term = (-offered * (time - k)) ** k / math.factorial(k)
        total += term * exponential(offered * (time - k))
    return float((1 - offered) * total)


def exponential(x: Fraction) -> Fraction:
    """e^x with 60 digits, for 0 <= x <= 50."""
    return sum((x**n / math.factorial(n) for n in range(260)), Fraction(0))


@pytest.mark.parametrize("offered", ["1/10", "3/5", "9/10"])
@pytest.mark.parametrize("time", ["0", "3/10", "1", "17/4", "104/5"])
def test_waits_in_md1_are_those_of_erlangs_series(offered, time):
    exact = erlang(Fraction(time), Fraction(offered))
    found = md1_waits_at_most(float(Fraction(time)), float(Fraction(offered)))
    assert found == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("offered", [0.05, 0.5, 0.9, 0.99])
def test_numbers_in_md1_have_the_mean_of_pollaczek_and_khinchine(offered):
    numbers = md1_numbers(offered, 3000)
    assert numbers.min() >= 0
    assert numbers.sum() == pytest.approx(1, abs=1e-9)
    mean = offered + offered**2 / (2 * (1 - offered))
    assert numbers @ np.arange(3000) == pytest.approx(mean, rel=1e-9)


def test_who_finds_the_lane_free_takes_the_service_time_alone():
    # 7 in 10 find it free, so the median is the service time itself.
    assert md1_percentile_s(0.5, 3.0, 0.1) == pytest.approx(0.1, abs=1e-12)
    assert md1_percentile_s(0.71, 3.0, 0.1) > 0.1005


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.99])
def test_percentiles_of_md1_are_where_the_distribution_says(fraction):
    found = md1_percentile_s(fraction, 45.0, 0.02)
    waits = md1_waits_at_most((found - 0.02) / 0.02, 0.9)
    assert waits == pytest.approx(fraction, abs=1e-9)


def test_percentiles_of_mm1():
    # 1 / (mu - lambda) = 0.1 s is the mean, and ln 2 of it the median.
    assert mm1_percentile_s(0.5, 90.0, 0.01) == pytest.approx(0.1 * math.log(2))
    assert mm1_percentile_s(0.99, 90.0, 0.01) == pytest.approx(0.1 * math.log(100))
    assert mm1_percentile_s(0.9, 0.001, 0.01) == pytest.approx(0.01 * math.log(10), rel=1e-4)
