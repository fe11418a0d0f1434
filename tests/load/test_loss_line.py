from __future__ import annotations

import math

import numpy as np
import pytest

from seatrial.load.loss_line import (
    DISPERSION,
    fit_line,
    loss_verdict,
    usual_dispersion,
    without_stalls,
)


def exact(rates, slope=6.0, middle=100.0, offered=10_000, allowed=0.01):
    """Parts whose shares lie on a line without noise."""
    return [
        (rate, offered, round(offered * allowed * math.exp(slope * (rate / middle - 1))))
        for rate in rates
        for _ in range(4)
    ]


def bursts(chance, rate, offered, late, dispersion=10.0):
    """A part whose late requests come in bursts; `late` of them in the mean."""
    size = dispersion / 2
    return rate, offered, round(chance.exponential(size, chance.poisson(late / size)).sum())


def test_a_line_without_noise_is_found_again():
    line = fit_line(exact([88.0, 96.0, 104.0, 112.0]), 105.0, 0.01)
    low, middle, high = line.crossing(0.95)
    assert middle == pytest.approx(100.0, abs=0.3)
    assert line.slope == pytest.approx(6.0, rel=0.1)
    assert line.dispersion < 3  # the smallest that is thought possible is 1.5
    assert line.jump < 0.2
    assert low < middle < high
    wider = line.crossing(0.999)
    assert wider[0] < low
    assert wider[2] > high


@pytest.mark.parametrize("middle_hz", [80.0, 100.0, 125.0])
def test_the_middle_that_is_begun_with_matters_little(middle_hz):
    line = fit_line(exact([88.0, 96.0, 104.0, 112.0]), middle_hz, 0.01)
    assert line.crossing(0.95)[1] == pytest.approx(100.0, abs=0.5)


def test_no_late_requests_show_no_line():
    assert fit_line([(rate, 1000, 0) for rate in (90.0, 100.0, 110.0)] * 4, 100.0, 0.01) is None
    assert fit_line([], 100.0, 0.01) is None
    assert fit_line([(100.0, 0, 0)], 100.0, 0.01) is None


def test_rates_that_are_far_away_show_no_line():
    assert fit_line([(10.0, 1000, 10)], 100.0, 0.01) is None


def test_one_rate_shows_a_crossing_by_the_slopes_that_are_usual():
    line = fit_line([(100.0, 10_000, 100)] * 4, 100.0, 0.01)
    low, middle, high = line.crossing(0.95)
    assert middle == pytest.approx(100.0, abs=1.0)
    many = fit_line([(100.0, 10_000, 100)] * 40, 100.0, 0.01).crossing(0.95)
    assert low < many[0] < many[2] < high


def test_shares_of_an_overwhelmed_service_are_left_out():
    rows = [*exact([88.0, 96.0, 104.0, 112.0]), *[(120.0, 10_000, 9_900)] * 4]
    line = fit_line(rows, 105.0, 0.01)
    assert line.crossing(0.95)[1] == pytest.approx(100.0, abs=0.3)


def test_larger_bursts_make_a_wider_interval():
    widths = []
    for dispersion in (3.0, 12.0):
        chance = np.random.default_rng(1)
        rows = [
            bursts(chance, rate, 3000, 30 * math.exp(6 * (rate / 100 - 1)), dispersion)
            for rate in (92.0, 100.0, 112.0)
            for _ in range(12)
        ]
        line = fit_line(rows, 103.0, 0.01)
        assert line.dispersion == pytest.approx(dispersion, rel=0.4)
        low, _, high = line.crossing(0.95)
        widths.append(high - low)
    assert 1.5 < widths[1] / widths[0] < 4  # the root of four, if both were known


def test_the_interval_covers_the_truth():
    chance, covered = np.random.default_rng(5), 0
    for _ in range(200):
        rows = [
            bursts(chance, rate, 3000, 30 * math.exp(6 * (rate / 100 - 1)))
            for rate in (92.0, 100.0, 112.0)
            for _ in range(12)
        ]
        low, _, high = fit_line(rows, 103.0, 0.01).crossing(0.95)
        covered += low <= 100.0 <= high
    assert 0.91 <= covered / 200 <= 0.99


def test_many_requests_leave_a_narrow_interval_with_its_median_in_the_middle():
    line = fit_line(exact([92.0, 96.0, 104.0, 108.0], offered=3_000_000), 101.0, 0.01)
    low, middle, high = line.crossing(0.95)
    assert middle == pytest.approx(100.0, abs=0.05)
    assert 0 < high - low < 0.5
    assert high - middle == pytest.approx(middle - low, rel=0.4)
    assert float(line.below[-1]) == pytest.approx(1.0, abs=1e-6)


def test_one_rate_alone_has_no_jump():
    line = fit_line([(100.0, 10_000, 100)] * 4, 100.0, 0.01)
    assert line.jump == 0
    assert line.jump_hz[0] == line.jump_hz[1]


def test_a_jump_of_the_share_is_found_between_two_rates():
    rows = [(rate, 10_000, 20) for rate in (88.0, 94.0, 100.0)] * 4
    rows += [(rate, 10_000, 1500) for rate in (103.0, 108.0)] * 4
    line = fit_line(rows, 100.0, 0.01)
    assert line.jump > 0.95
    assert line.jump_hz == pytest.approx((100.0, 103.0))
    low, middle, high = line.crossing(0.95)
    assert 99.5 < low < middle < high < 103.5


def test_the_order_of_the_parts_does_not_matter():
    rows = exact([88.0, 96.0, 104.0, 112.0])
    one, other = fit_line(rows, 105.0, 0.01), fit_line(rows[::-1], 105.0, 0.01)
    assert one.crossing(0.95) == pytest.approx(other.crossing(0.95))


def test_bursts_are_larger_where_more_may_be_late():
    assert usual_dispersion(0.01) == DISPERSION
    assert usual_dispersion(0.25) == pytest.approx(5 * DISPERSION)


def test_a_stall_counts_as_the_largest_burst():
    even = [(50.0, 1000, 10)] * 7
    assert without_stalls(even, 0.01, 10.0) == [(50.0, 1000, 10.0)] * 7
    *rest, stalled = without_stalls([*even, (50.0, 1000, 900)], 0.01, 10.0)
    assert rest == [(50.0, 1000, 10.0)] * 7
    most = 5 * (math.sqrt(2) + math.sqrt(math.log(1e4))) ** 2  # two bursts of five are due
    assert stalled == (50.0, 1000, pytest.approx(most))


def test_a_rate_at_which_all_parts_are_late_has_no_stall():
    rows = [(50.0, 1000, 900)] * 8
    assert without_stalls(rows, 0.01, 10.0) == rows
    assert without_stalls([(50.0, 1000, 900)], 0.01, 10.0) == [(50.0, 1000, 900.0)]


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
