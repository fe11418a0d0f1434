"""Ranges of activations: what the rules cut off, and what they keep."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from seatrial.quantise.ranges import BINS, MOST_VALUES, Histogram, Rule, choose_range


def histogram(values: np.ndarray) -> Histogram:
    made = Histogram(float(values.min()), float(values.max()))
    made.add(values.astype(np.float32))
    return made


def bell(outlier: float = 0.0, count: int = 60_000) -> np.ndarray:
    values = np.random.default_rng(0).normal(0, 1, count)
    if outlier:
        values[0] = outlier
    return values


def test_minmax_keeps_every_value() -> None:
    values = bell(outlier=50)
    assert choose_range(histogram(values), "minmax", feeds_silu=False) == (
        values.min(),
        values.max(),
    )


def test_percentile_leaves_one_in_a_hundred_thousand_out() -> None:
    values = np.concatenate([np.linspace(-1, 1, 400_000), [50.0]])
    parts = np.array_split(values, 8)
    made = Histogram(-1.0, 50.0)
    for part in parts:
        made.add(part.astype(np.float32))
    low, high = choose_range(made, "percentile", feeds_silu=False)
    width = 51 / BINS
    assert low == pytest.approx(-1, abs=width)
    assert high == pytest.approx(1, abs=width)


def test_entropy_gives_up_a_lone_value_for_the_many() -> None:
    _, wide = choose_range(histogram(bell(outlier=2000)), "entropy", feeds_silu=False)
    assert wide < 500
    _, plain = choose_range(histogram(bell()), "entropy", feeds_silu=False)
    assert 2 < plain <= 5


def test_zeros_behind_a_relu_do_not_shrink_the_range_of_entropy() -> None:
    positive = np.abs(bell())
    positive[0] = 0  # both histograms begin there
    made = histogram(positive)
    before = choose_range(made, "entropy", feeds_silu=False)
    for _ in range(10):
        made.add(np.zeros(60_000, np.float32))
    assert choose_range(made, "entropy", feeds_silu=False) == before
    assert before[1] > 2


@pytest.mark.parametrize("rule", get_args(Rule))
def test_values_that_silu_makes_nothing_of_get_no_room(rule: Rule) -> None:
    values = np.concatenate([np.linspace(-40, 0, 30_000), np.linspace(0, 8, 30_000)])
    low, high = choose_range(histogram(values), rule, feeds_silu=True)
    assert -10 < low < -1
    assert high > 7
    assert choose_range(histogram(values), "minmax", feeds_silu=False)[0] == -40


@pytest.mark.parametrize("rule", get_args(Rule))
@pytest.mark.parametrize("silu", [False, True])
def test_a_tensor_of_one_value_has_a_range(rule: Rule, silu: bool) -> None:
    for value in (0.0, 3.0, -2.0):
        low, high = choose_range(histogram(np.full(100, value)), rule, feeds_silu=silu)
        assert np.isfinite([low, high]).all()
        assert low <= high


def test_counts_do_not_grow_with_the_size_of_a_tensor() -> None:
    made = Histogram(0.0, 1.0)
    made.add(np.random.default_rng(0).random(50 * MOST_VALUES).astype(np.float32))
    assert MOST_VALUES <= made.counts.sum() < 2 * MOST_VALUES


def test_the_largest_value_is_counted_in_the_last_step() -> None:
    made = Histogram(0.0, float(np.float32(0.1)))
    made.add(np.array([0.0, 0.1], np.float32))
    assert made.counts[0] == made.counts[-1] == 1
