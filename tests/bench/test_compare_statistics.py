from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special

from seatrial.bench import compare_statistics
from seatrial.bench.compare_statistics import (
    DECILES,
    RatioInterval,
    answer_of,
    decile_logs,
    harrell_davis,
    hodges_lehmann,
    ratio_interval,
    ratio_of_two,
    requests_needed,
    round_logs,
    rounds_to_decide,
)


def test_a_percentile_is_the_mean_of_order_statistics_weighted_by_the_beta_distribution():
    values = np.random.default_rng(3).lognormal(3, 0.4, 41)
    for part in (0.1, 0.5, 0.9):
        edges = special.betainc(42 * part, 42 * (1 - part), np.arange(42) / 41)
        wanted = float(np.sort(values) @ np.diff(edges))
        assert harrell_davis(values, [part])[0] == pytest.approx(wanted, rel=1e-9)


def test_it_varies_less_than_one_order_statistic():
    draw = np.random.default_rng(5)
    rows = [draw.lognormal(3, 0.2, 125) for _ in range(300)]
    smooth = np.std([np.log(harrell_davis(row, [0.5])[0]) for row in rows])
    assert smooth < 0.98 * np.std([np.log(np.median(row)) for row in rows])


@pytest.mark.parametrize(("name", "count"), [("p50", 11), ("p90", 64), ("p95", 130), ("p99", 662)])
def test_a_percentile_needs_its_sample(name, count):
    assert requests_needed(name) == count


def test_a_drift_that_is_even_over_a_round_cancels_out():
    drift = np.exp(0.3 * np.arange(4))
    logs = round_logs([[drift[0], drift[3]]], [[1.1 * drift[1], 1.1 * drift[2]]])
    assert logs == pytest.approx([math.log(1.1)])


def test_the_estimate_is_the_median_of_the_means_of_all_pairs():
    assert hodges_lehmann(np.array([1.0, 2.0, 10.0])) == 3.75
    values = np.random.default_rng(1).normal(size=9)
    means = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2)]
    assert hodges_lehmann(values) == pytest.approx(float(np.median(means)))


def test_one_wild_round_does_not_move_it_far():
    calm = np.full(8, 0.05) + np.linspace(-0.01, 0.01, 8)
    wild = calm.copy()
    wild[3] = 2.0
    assert hodges_lehmann(wild) < 0.06


@pytest.mark.parametrize("rounds", [6, 8, 14])
def test_the_interval_holds_the_truth_as_often_as_it_says(rounds):
    draw = np.random.default_rng(11)
    held = 0
    for number in range(250):
        found = ratio_interval(draw.normal(0.05, 0.03, rounds), seed=number)
        held += found.low <= math.exp(0.05) <= found.high
    # A bootstrap that is taken as it comes holds it in 88 % with 8 rounds.
    assert 0.93 <= held / 250 <= 0.99


def test_an_interval_of_a_higher_level_is_wider_and_the_seed_repeats_it():
    logs = np.random.default_rng(2).normal(0.0, 0.03, 10)
    usual, wide = ratio_interval(logs), ratio_interval(logs, level=0.975)
    assert wide.low < usual.low < usual.ratio < usual.high < wide.high
    assert ratio_interval(logs) == usual
    assert ratio_interval(logs, seed=1) != usual
    assert (usual.level, usual.rounds) == (0.95, 10)
    assert usual.ratio == pytest.approx(math.exp(hodges_lehmann(logs)))


def test_many_rounds_are_resampled_in_parts(monkeypatch):
    logs = np.random.default_rng(2).normal(0.0, 0.03, 60)
    whole = ratio_interval(logs)
    monkeypatch.setattr(compare_statistics, "MOST_WALSH", 100_000)
    assert ratio_interval(logs) == whole
    # As wide as that of a normal mean.
    width = math.log(whole.high / whole.low)
    assert width == pytest.approx(2 * 2.0 * float(np.std(logs)) / 60**0.5, rel=0.15)


def test_fewer_than_six_rounds_have_no_interval():
    with pytest.raises(ValueError, match="5 rounds; 6 are needed"):
        ratio_interval(np.zeros(5))
    assert ratio_interval(np.zeros(6)).high == 1.0


def test_the_other_way_round_is_the_inverse():
    found = RatioInterval(1.25, 1.0, 2.0, 0.95, 8)
    assert found.inverse == RatioInterval(0.8, 0.5, 1.0, 0.95, 8)
    assert found.inverse.inverse == found


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (1.01, 1.2, "slower"),
        (0.8, 0.99, "faster"),
        (0.96, 1.04, "same"),
        (1.01, 1.04, "same"),
        (1 / 1.05, 1.05, "same"),
        (0.951, 1.04, "undecided"),  # 1 / 1.05 is 0.952
        (0.96, 1.051, "undecided"),
        (1.0, 1.2, "undecided"),
        (0.8, 1.0, "undecided"),
        (0.9, 1.1, "undecided"),
    ],
)
def test_the_answer_is_where_the_interval_lies(low, high, answer):
    assert answer_of(RatioInterval(1.0, low, high, 0.95, 8), 0.05) == answer


@pytest.mark.parametrize(("effect", "noise"), [(0.0, 0.06), (0.03, 0.08), (0.1, 0.15)])
def test_what_would_decide_is_right_within_a_factor_of_two(effect, noise):
    """Over comparisons that are undecided after 8 rounds and go on."""
    draw = np.random.default_rng(17)
    said_over_took = []
    while len(said_over_took) < 15:
        logs = draw.normal(effect, noise, 8)
        if answer_of(ratio_interval(logs), 0.05) != "undecided":
            continue
        said = rounds_to_decide(logs, 0.05)
        while answer_of(ratio_interval(logs), 0.05) == "undecided" and len(logs) < 200:
            logs = np.append(logs, draw.normal(effect, noise))
        said_over_took.append(said / len(logs))
    assert 0.5 <= np.median(said_over_took) <= 2
    assert np.mean([0.5 <= ratio <= 2 for ratio in said_over_took]) >= 0.8


def test_more_noise_takes_more_rounds():
    logs = np.random.default_rng(4).normal(0.0, 0.1, 8)
    logs -= logs.mean()
    few, many = rounds_to_decide(0.5 * logs, 0.05), rounds_to_decide(2 * logs, 0.05)
    assert 9 <= few < many
    assert rounds_to_decide(20 * logs, 0.05) < 1000  # what is so wild may differ by much
    assert rounds_to_decide(0.5 * logs, 0.05, level=0.999) > few


def test_each_decile_has_its_logarithms():
    base = [[np.arange(1.0, 10.0)] * 2] * 7
    other = [[np.arange(1.0, 10.0) * np.linspace(1.0, 1.8, 9)] * 2] * 7
    logs = decile_logs(base, other)
    assert len(logs) == len(DECILES) == 9
    assert [float(np.exp(one[0])) for one in logs] == pytest.approx(np.linspace(1.0, 1.8, 9))
    assert all(one.shape == (7,) for one in logs)


def test_two_intervals_add_up_as_squares_on_each_side():
    e = math.exp
    found = ratio_of_two((1.0, e(-0.3), e(0.4)), (e(1.0), e(0.7), e(1.3)), 0.95)
    assert math.log(found.ratio) == pytest.approx(1.0)
    assert math.log(found.low) == pytest.approx(1.0 - math.hypot(0.3, 0.4))
    assert math.log(found.high) == pytest.approx(1.0 + math.hypot(0.3, 0.3))
    assert (found.level, found.rounds) == (0.95, 1)


@pytest.mark.parametrize("rounds", [6, 8])
def test_the_interval_of_few_rounds_holds_the_truth_as_often_as_it_says(rounds):
    draw = np.random.default_rng(rounds)
    found = [ratio_interval(draw.normal(0.0, 0.05, rounds), seed=n) for n in range(400)]
    assert np.mean([one.low <= 1.0 <= one.high for one in found]) >= 0.93
