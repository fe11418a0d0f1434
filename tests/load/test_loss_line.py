from __future__ import annotations

import math

import numpy as np
import pytest

from seatrial.load.loss_line import (
    FIRST_DISPERSION,
    LEAST_DISPERSION,
    dispersion_of,
    fit_line,
    loss_verdict,
)


def exact(rates, slope=6.0, middle=100.0, offered=10_000, allowed=0.01):
    """Parts whose shares lie on a line without noise."""
    return [
        (rate, offered, round(offered * allowed * math.exp(slope * (rate / middle - 1))))
        for rate in rates
        for _ in range(4)
    ]


def test_a_line_without_noise_is_found_again():
    line = fit_line(exact([88.0, 96.0, 104.0, 112.0]), 105.0, 0.01)
    low, middle, high = line.crossing(0.95)
    assert middle == pytest.approx(100.0, abs=0.3)
    assert line.slope == pytest.approx(6.0, rel=0.05)
    assert low < middle < high
    wider = line.crossing(0.999)
    assert wider[0] < low
    assert wider[2] > high


def test_too_few_rates_or_losses_show_no_line():
    assert fit_line(exact([96.0, 104.0]), 100.0, 0.01) is None
    assert (
        fit_line([(rate, 1000, 0) for rate in (90.0, 95.0, 100.0, 105.0)] * 4, 100.0, 0.01) is None
    )
    assert fit_line([], 100.0, 0.01) is None


def test_shares_of_an_overwhelmed_service_are_left_out():
    rows = [*exact([88.0, 96.0, 104.0, 112.0]), *[(120.0, 10_000, 9_900)] * 4]
    line = fit_line(rows, 105.0, 0.01)
    assert line.crossing(0.95)[1] == pytest.approx(100.0, abs=0.3)


def test_a_line_that_may_be_flat_has_no_crossing():
    rows = [(rate, 1000, bad) for rate in (95.0, 100.0, 105.0) for bad in (2, 30, 9, 1)]
    line = fit_line(rows, 100.0, 0.01)
    assert line.crossing(0.95) is None


def test_the_interval_covers_the_truth():
    chance, covered = np.random.default_rng(5), 0
    for _ in range(200):
        rows = []
        for rate in (92.0, 100.0, 112.0):
            for _ in range(12):
                # Losses in bursts: of a geometric number each, ten in the mean.
                mean = 3000 * 0.01 * math.exp(6 * (rate / 100 - 1))
                bursts = chance.geometric(0.1, chance.poisson(mean / 10))
                rows.append((rate, 3000, int(bursts.sum())))
        line = fit_line(rows, 103.0, 0.01)
        ends = None if line is None else line.crossing(0.95)
        covered += ends is None or ends[0] <= 100.0 <= ends[2]
    assert 0.90 <= covered / 200 <= 1.0


def test_the_size_of_bursts_is_seen_in_the_parts():
    assert dispersion_of([], 0.01) == FIRST_DISPERSION
    assert dispersion_of([(50.0, 1000, 10)] * 5, 0.01) == FIRST_DISPERSION
    even = [(50.0, 1000, 10)] * 20
    assert dispersion_of(even, 0.01) == LEAST_DISPERSION
    bursts = [(50.0, 1000, 0), (50.0, 1000, 40)] * 10
    assert dispersion_of(bursts, 0.01) == pytest.approx(20 * 20 / 19)
    # Where nearly all or nearly none are late nothing is seen of the bursts that matter.
    assert dispersion_of([(50.0, 1000, 990), (50.0, 1000, 0)] * 10, 0.01) == FIRST_DISPERSION


@pytest.mark.parametrize(
    ("offered", "bad", "dispersion", "verdict"),
    [
        (900, 0, 1.5, "open"),
        (1000, 0, 1.5, "good"),
        (1000, 0, 8.0, "open"),
        (10_000, 60, 1.5, "good"),
        (10_000, 60, 8.0, "open"),
        (10_000, 145, 1.5, "bad"),
        (10_000, 145, 8.0, "open"),
        (50, 40, 8.0, "bad"),
    ],
)
def test_a_verdict_is_clear_or_none(offered, bad, dispersion, verdict):
    assert loss_verdict(offered, bad, 0.01, dispersion) == verdict
