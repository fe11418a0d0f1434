from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from seatrial.load.statistics import (
    PERCENTILES,
    histogram,
    interval_ranks,
    latency,
    percentile,
    rate_interval,
    rate_per_s,
    samples_needed,
    tail_allowance,
)

LATENCIES = st.lists(st.floats(0.01, 1e5), min_size=1, max_size=900)


def exact_at_most(t: int, count: int, over: Fraction) -> Fraction:
    """P(Binomial(count, over) <= t), without a rounding anywhere."""
    terms = (math.comb(count, k) * over**k * (1 - over) ** (count - k) for k in range(t + 1))
    return sum(terms, Fraction(0))


@pytest.mark.parametrize(
    ("fraction", "needed"),
    [(Fraction(1, 2), 11), (Fraction(9, 10), 64), (Fraction(99, 100), 662)],
)
def test_smallest_samples_are_those_of_the_exact_binomial_test(fraction, needed):
    limit = Fraction(1, 100)
    assert samples_needed(float(fraction)) == needed
    assert exact_at_most(1, needed, 1 - fraction) <= limit
    assert exact_at_most(1, needed - 1, 1 - fraction) > limit


@given(st.integers(1, 300), st.sampled_from([Fraction(1, 2), Fraction(9, 10), Fraction(99, 100)]))
def test_tail_allowance_is_the_largest_that_the_test_passes(count, fraction):
    allowed = tail_allowance(count, float(fraction))
    assert allowed == -1 or exact_at_most(allowed, count, 1 - fraction) <= Fraction(1, 100)
    assert exact_at_most(allowed + 1, count, 1 - fraction) > Fraction(1, 100)


def test_tail_allowance_survives_samples_whose_terms_underflow():
    # 0.5 ** 20000 is 0 in floating point.
    allowed = tail_allowance(20_000, 0.5)
    normal = 10_000 - 2.326 * math.sqrt(20_000) / 2
    assert allowed == pytest.approx(normal, abs=3)


@pytest.mark.parametrize(("name", "count"), [("p50", 11), ("p90", 64), ("p95", 130), ("p99", 662)])
def test_upper_bound_covers_the_true_percentile_99_times_in_100(name, count):
    fraction, chance = PERCENTILES[name], random.Random(1)
    truth = -math.log(1 - fraction)
    trials = 1500
    covered = 0
    for _ in range(trials):
        sample = sorted(chance.expovariate(1.0) for _ in range(count))
        upper = percentile(sample, 0, fraction).upper_ms
        covered += upper >= truth
    assert covered / trials >= 0.985
    # A bound that is always the slowest answer would pass the line above.
    assert upper < sample[-1]


@pytest.mark.parametrize(("name", "needed"), [("p50", 11), ("p90", 64), ("p95", 130), ("p99", 662)])
def test_no_percentile_below_its_smallest_sample(name, needed):
    assert latency([5.0] * needed).percentiles[name].value_ms == 5.0
    missing = latency([5.0] * (needed - 1)).percentiles[name]
    assert (missing.value_ms, missing.upper_ms, missing.needed) == (None, None, needed)
    assert f"{needed} are needed" in missing.reason


def test_nearest_rank():
    values = [float(n) for n in range(1, 101)]
    found = latency(values).percentiles
    assert (found["p50"].value_ms, found["p90"].value_ms) == (50.0, 90.0)


def test_failed_requests_rank_as_infinitely_late():
    good = [float(n) for n in range(1, 96)]
    assert latency(good, failed=5).percentiles["p90"].value_ms == 90.0
    few = latency(good[:85], failed=15).percentiles
    assert few["p50"].value_ms == 50.0
    assert few["p90"].value_ms is None
    assert few["p90"].reason == "15 of 100 requests failed"
    # The value is there, the bound is not: it may lie among the failed ones.
    edge = latency(good[:92], failed=8).percentiles["p90"]
    assert (edge.value_ms, edge.upper_ms) == (90.0, None)


@pytest.mark.parametrize("name", PERCENTILES)
@pytest.mark.parametrize("count", [700, 1234, 20_000])
def test_interval_is_that_of_scipy(name, count):
    chance = random.Random(count)
    sample = sorted(chance.expovariate(1.0) for _ in range(count))
    found = latency(sample).percentiles[name]
    theirs = stats.quantile_test(sample, p=PERCENTILES[name]).confidence_interval(0.95)
    assert (found.low_ms, found.high_ms) == (theirs.low, theirs.high)


@pytest.mark.parametrize(("name", "count"), [("p50", 11), ("p90", 100), ("p99", 700)])
def test_interval_covers_the_true_percentile_95_times_in_100(name, count):
    fraction, chance = PERCENTILES[name], random.Random(2)
    truth, trials, below, above = -math.log(1 - fraction), 3000, 0, 0
    for _ in range(trials):
        sample = sorted(chance.expovariate(1.0) for _ in range(count))
        found = percentile(sample, 0, fraction)
        below += found.high_ms < truth
        above += found.low_ms > truth
    # Each end misses 2.5 times in 100 at most; an interval that is too wide misses less.
    for missed in (below, above):
        assert 0.003 <= missed / trials <= 0.033
    assert (below + above) / trials <= 0.06


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.99])
def test_interval_ranks_of_large_samples_skip_what_is_negligible(fraction):
    count = 1_000_000
    expected = stats.binom(count, fraction)
    assert interval_ranks(count, fraction) == (
        int(expected.ppf(0.025)),
        int(expected.isf(0.025)) + 1,
    )


def test_an_end_of_the_interval_that_failed_requests_reach_is_missing():
    good = [float(n) for n in range(1, 101)]
    assert interval_ranks(100, 0.9) == (84, 96)
    whole = percentile(good, 0, 0.9)
    assert (whole.low_ms, whole.value_ms, whole.high_ms) == (84.0, 90.0, 96.0)
    some = percentile(good[:95], 5, 0.9)
    assert (some.low_ms, some.value_ms, some.high_ms) == (84.0, 90.0, None)
    many = percentile(good[:85], 15, 0.9)
    assert (many.low_ms, many.value_ms, many.high_ms) == (84.0, None, None)
    small = percentile(good[:63], 0, 0.9)
    assert (small.low_ms, small.high_ms) == (None, None)


@given(LATENCIES, st.integers(0, 30))
def test_percentiles_are_samples_and_lie_in_order(values, failed):
    found = latency(values, failed)
    ordered = [p for p in found.percentiles.values() if p.value_ms is not None]
    for each in ordered:
        assert each.value_ms in values
        assert each.upper_ms is None or each.upper_ms >= each.value_ms
    estimates = [each.value_ms for each in ordered]
    assert estimates == sorted(estimates)
    assert found.min_ms <= found.mean_ms * (1 + 1e-9)
    assert found.mean_ms <= found.max_ms * (1 + 1e-9)


def test_nothing_good_is_no_crash():
    found = latency([], failed=700)
    assert (found.mean_ms, found.min_ms, found.max_ms, found.stdev_ms) == (None,) * 4
    assert all(p.value_ms is None for p in found.percentiles.values())
    assert histogram([]) is None


def test_moments_are_those_of_the_good_answers():
    two = latency([1.0, 3.0], failed=5)
    assert (two.count, two.failed) == (2, 5)
    assert (two.mean_ms, two.min_ms, two.max_ms) == (2.0, 1.0, 3.0)
    assert two.stdev_ms == pytest.approx(math.sqrt(2))  # of a sample
    assert latency([1.0]).stdev_ms is None


def test_rate_is_over_wall_time():
    assert rate_per_s(80, 2.0) == 40.0
    assert rate_per_s(80, 0.0) == 0.0


@given(LATENCIES)
def test_histogram_loses_no_request(values):
    bins = histogram(values)
    assert sum(bins.counts) + bins.over == len(values)
    assert len(bins.edges_ms) == len(bins.counts) + 1
    assert bins.over == sum(value > bins.edges_ms[-1] * (1 + 1e-9) for value in values)


def test_histogram_reaches_to_the_slowest_answer_or_two_and_a_half_medians():
    near = histogram([float(n) for n in range(10, 21)], bins=10)
    assert (near.edges_ms[0], near.edges_ms[-1], near.over) == (10.0, 20.0, 0)
    assert near.counts == (1,) * 9 + (2,)
    far = histogram([10.0] * 9 + [20.0, 24.9, 25.1, 300.0], bins=10)
    assert far.edges_ms[-1] == 25.0
    assert far.over == 2
    assert len(histogram([1.0, 2.0]).counts) == 48


def test_equal_latencies_are_one_bin():
    bins = histogram([5.0, 5.0, 5.0])
    assert (sum(bins.counts), bins.over) == (3, 0)
    assert bins.edges_ms[0] == 5.0


@pytest.mark.parametrize("rate_per_s", [4.0, 40.0, 400.0])
def test_the_interval_of_a_rate_holds_the_rate_as_often_as_it_says(rate_per_s):
    chance, window_s, runs = np.random.default_rng(5), 7.0, 400
    inside = 0
    for _ in range(runs):
        gaps = chance.exponential(1 / rate_per_s, int(rate_per_s * window_s * 3) + 30)
        ends = np.cumsum(gaps)
        ends_ns = (ends[ends < window_s] * 1e9).astype(np.int64).tolist()
        found = rate_interval(ends_ns, 0, int(window_s * 1e9))
        inside += found.low_per_s <= rate_per_s <= found.high_per_s
    assert 0.92 <= inside / runs <= 0.99


def test_the_interval_of_a_steady_rate_is_narrow_and_of_none_is_known():
    second = 10**9
    steady = rate_interval([n * second // 50 for n in range(350)], 0, 7 * second)
    assert (steady.low_per_s, steady.high_per_s) == pytest.approx((50.0, 50.0))
    none = rate_interval([], 5, 5 + 10 * second)
    assert none.low_per_s == 0.0
    assert none.high_per_s == pytest.approx(0.37, abs=0.01)  # 3.7 in 10 s
    assert rate_interval([], 5, 5) is None
    assert rate_interval([10 * second] * 50, 0, 10 * second) is not None  # at the very end
