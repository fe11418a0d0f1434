"""The paired bootstrap of a difference of AP."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grid_of_boxes import IMAGES, grid, matched
from seatrial.accuracy.bootstrap import difference, intervals, paired_bootstrap, resample
from seatrial.accuracy.evaluate import score
from seatrial.accuracy.matching import Predictions
from seatrial.errors import InvalidInput


def test_same_detections_have_no_difference_in_any_draw() -> None:
    matches = matched(*grid())
    got = paired_bootstrap(matches, matches, samples=20)
    assert (got.difference, got.low, got.high) == (0, 0, 0)
    assert got.a == got.b == pytest.approx(score(*grid())[1].figures.ap)


def test_interval_of_a_worse_child() -> None:
    dataset, parent = grid()
    moved = parent.xywh + np.random.default_rng(7).uniform(0, 10, (len(parent), 1)) * [1, 0, 0, 0]
    told: list[int] = []
    got = paired_bootstrap(
        matched(dataset, parent),
        matched(dataset, replace(parent, xywh=moved)),
        samples=200,
        on_progress=lambda what, done, total, unit="": told.append(done),
    )
    assert got.low < got.difference < got.high < 0
    assert told == list(range(50, 401, 50))  # both sides
    assert got.images == IMAGES
    again = paired_bootstrap(
        matched(dataset, parent), matched(dataset, replace(parent, xywh=moved)), samples=200
    )
    assert again == got  # seeded


def test_pairing_narrows_the_interval() -> None:
    dataset, parent = grid()
    child = replace(parent, xywh=parent.xywh + np.array([3, 0, 0, 0]))
    a, b = matched(dataset, parent), matched(dataset, child)
    paired = paired_bootstrap(a, b, samples=100)
    order = np.random.default_rng(0).permutation(IMAGES)
    unpaired = paired_bootstrap(a, replace(b, image=order[b.image]), samples=100)
    assert paired.high - paired.low < unpaired.high - unpaired.low


def test_a_contracts_figures_have_intervals() -> None:
    dataset, rows = grid()
    rows = rows.take(np.flatnonzero(rows.image % 3 > 0))  # nothing is found in a third
    figures = score(dataset, rows)[1].figures
    matches = matched(dataset, rows)
    found = intervals(matches, samples=300, seed=0)
    assert list(found) == ["ap", "ap50", "ar100"]
    for name, interval in found.items():
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low < getattr(figures, name) < interval.high
        assert (interval.level, interval.images) == (0.95, IMAGES)
    # The draws are those of a difference in AP.
    drawn = resample(matches, samples=300, seed=0).drawn
    assert (found["ap"].low, found["ap"].high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    # Recall follows the share of images in which something is found: a binomial one.
    assert figures.ar100 is not None
    widest = 1.96 * np.sqrt(2 / 9 / IMAGES) / (2 / 3)
    assert found["ar100"].high == pytest.approx(figures.ar100 * (1 + widest), rel=0.1)


def test_every_draw_of_a_perfect_detector_is_perfect() -> None:
    dataset, _ = grid()
    truth = dataset.truth
    perfect = Predictions(truth.image, truth.category, truth.xywh, np.full(len(truth), 0.9))
    ends = intervals(matched(dataset, perfect), samples=50)
    assert [(one.low, one.high) for one in ends.values()] == [(pytest.approx(1),) * 2] * 3


def test_without_objects_there_are_no_intervals() -> None:
    dataset, rows = grid()
    empty = replace(dataset, truth=dataset.truth.take(np.arange(0)))
    assert intervals(matched(empty, rows)) == {}


def test_bootstrap_refuses_other_labels() -> None:
    dataset, rows = grid()
    fewer = replace(dataset, truth=dataset.truth.take(np.arange(8)))
    with pytest.raises(InvalidInput, match="not measured on the same labels"):
        paired_bootstrap(matched(dataset, rows), matched(fewer, rows))
    with pytest.raises(InvalidInput, match="a draw"):
        paired_bootstrap(matched(dataset, rows), matched(dataset, rows), samples=0)


def test_draws_without_objects_are_drawn_anew() -> None:
    dataset, rows = grid()
    one = replace(dataset, truth=dataset.truth.take(np.array([0])))
    got = paired_bootstrap(matched(one, rows), matched(one, rows), samples=10)
    assert np.isfinite([got.low, got.high]).all()


def test_sides_that_were_drawn_apart_are_refused() -> None:
    matches = matched(*grid())
    first = resample(matches, samples=10)
    for other in (resample(matches, samples=10, seed=1), resample(matches, samples=11)):
        with pytest.raises(InvalidInput, match="same draws"):
            difference(first, other)
    with pytest.raises(InvalidInput, match="level"):
        difference(first, first, level=1.0)


def test_a_higher_level_widens_the_interval() -> None:
    dataset, parent = grid()
    child = replace(parent, xywh=parent.xywh + np.array([3, 0, 0, 0]))
    sides = [resample(matched(dataset, rows), samples=200) for rows in (parent, child)]
    narrow, wide = difference(*sides, level=0.5), difference(*sides, level=0.99)
    assert wide.low < narrow.low <= narrow.difference <= narrow.high < wide.high
    assert (narrow.level, narrow.samples, narrow.seed) == (0.5, 200, 0)
