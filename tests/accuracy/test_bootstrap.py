"""The paired bootstrap of a difference of AP."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grid_of_boxes import IMAGES, grid, matched
from seatrial.accuracy.bootstrap import difference, paired_bootstrap, resample
from seatrial.accuracy.evaluate import score
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
