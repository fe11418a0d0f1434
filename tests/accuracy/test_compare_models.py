"""Operating points, calibration against a parent, and the bootstrap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seatrial.accuracy.bootstrap import paired_bootstrap
from seatrial.accuracy.calibration import calibrate
from seatrial.accuracy.evaluate import score
from seatrial.accuracy.matching import Matches, Predictions, match
from seatrial.accuracy.operating_point import operating_points
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.errors import InvalidInput

IMAGES, CLASSES = 30, 2


def grid(seed: int = 0) -> tuple[LabelledSet, Predictions]:
    """Four objects an image, far apart; each is found, with a random confidence and shift."""
    chance = np.random.default_rng(seed)
    image = np.repeat(np.arange(IMAGES), 4)
    category = np.tile([0, 1, 1, 0], IMAGES)
    left = np.tile([0.0, 100, 200, 300], IMAGES)
    xywh = np.column_stack([left, left, np.full_like(left, 50), np.full_like(left, 50)])
    dataset = LabelledSet(
        "grid",
        tuple(LabelledImage(i, str(i), Path(), None, None) for i in range(IMAGES)),
        (Category(1, "a"), Category(2, "b")),
        Truth.of(image, category, xywh),
    )
    moved = xywh + np.column_stack([chance.uniform(0, 12, len(image)), *[np.zeros(len(image))] * 3])
    confidence = chance.permutation(np.linspace(0.02, 0.98, len(image)))
    return dataset, Predictions(image, category, moved, confidence)


def matched(dataset: LabelledSet, rows: Predictions) -> Matches:
    return match(dataset.truth, rows, images=IMAGES, categories=CLASSES)


# ------------------------------------------------------------------------------ operating point


def test_operating_point_by_hand() -> None:
    dataset, _ = grid()
    truth = dataset.truth.take(np.arange(4))  # image 0: classes 0, 1, 1, 0
    away = truth.xywh[0] + [0, 400, 0, 0]
    rows = Predictions(
        np.zeros(5, np.int64),
        np.array([0, 0, 1, 0, 1]),
        np.array([truth.xywh[0], away, truth.xywh[1], truth.xywh[3], truth.xywh[2]]),
        np.array([0.9, 0.8, 0.7, 0.3, 0.1]),
    )
    matches = match(truth, rows, images=1, categories=2)
    at, best = operating_points(matches, 0.3)
    assert (at.found, at.wrong, at.missed) == (2, 1, 2)  # the one at 0.3 does not count: exclusive
    assert (at.precision, at.recall, at.f1) == (2 / 3, 0.5, pytest.approx(4 / 7))
    assert (best.found, best.wrong, best.missed) == (4, 1, 0)
    assert best.f1 == pytest.approx(8 / 9)
    at, best = operating_points(matches, 0.25, category=1)
    assert (at.found, at.wrong, at.missed, at.precision) == (1, 0, 1, 1.0)
    assert best.recall == 1.0


def test_best_threshold_reproduces_its_own_point() -> None:
    dataset, rows = grid()
    rows = replace(rows, score=rows.score.round(1).clip(0.1))  # ties stand or fall together
    wrong = replace(
        rows, xywh=rows.xywh + np.array([0, 1000, 0, 0]), score=(rows.score * 0.8).round(1)
    )
    both = Predictions(*(np.concatenate([getattr(rows, n), getattr(wrong, n)])
                         for n in ("image", "category", "xywh", "score")))  # fmt: skip
    matches = matched(dataset, both)
    _, best = operating_points(matches, 0.5)
    assert operating_points(matches, best.threshold)[0] == best
    thresholds = np.linspace(0, 1, 101)
    assert best.f1 == max(operating_points(matches, t)[0].f1 or 0 for t in thresholds)


def test_detections_in_a_crowd_are_not_wrong() -> None:
    dataset, rows = grid()
    crowd = replace(dataset.truth, crowd=np.arange(len(rows)) % 4 == 0)  # of class 0
    matches = match(crowd, rows, images=IMAGES, categories=CLASSES)
    for category, objects in ((0, 30), (1, 60), (None, 90)):
        at, best = operating_points(matches, 0.0, category)
        assert (at.found, at.wrong, at.missed) == (objects, 0, 0)
        assert best.f1 == 1


def test_operating_point_of_nothing() -> None:
    dataset, rows = grid()
    matches = matched(dataset, rows.take(np.flatnonzero(rows.category == 0)))
    at, best = operating_points(matches, 0.5, category=1)
    assert (at.precision, at.recall, at.f1, at.missed) == (None, 0.0, None, 60)
    assert best.found == 0


# ---------------------------------------------------------------------------------- calibration


def test_halved_confidences_keep_ap_and_are_seen() -> None:
    dataset, parent = grid()
    child = replace(parent, score=parent.score / 2)
    before, after = (score(dataset, rows)[1].figures for rows in (parent, child))
    assert before == after
    got = calibrate(child, parent, categories=CLASSES)
    seen = parent.score[parent.score >= 0.25]
    assert (got.matched, got.lost, got.gained) == (len(seen), 0, 0)
    assert got.mean_shift == pytest.approx(-seen.mean() / 2)
    assert got.mean_abs_shift == pytest.approx(seen.mean() / 2)
    assert sum(got.histogram) == got.matched
    assert sum(got.histogram[20:]) == 0  # nothing rose
    assert got.percentiles["p50"] == pytest.approx(-np.median(seen) / 2)
    assert all(band.mean_child == pytest.approx(band.mean_parent / 2) for band in got.bands)


def test_boxes_that_come_go_or_change_class_are_no_shift() -> None:
    _, parent = grid()
    strong = np.flatnonzero(parent.score >= 0.25)
    category = parent.category.copy()
    category[strong[0]] ^= 1
    xywh = parent.xywh.copy()
    xywh[strong[1], 1] += 30  # IoU 0.25
    child = replace(parent, category=category, xywh=xywh)
    got = calibrate(child, parent, categories=CLASSES)
    assert (got.matched, got.lost, got.gained) == (len(strong) - 2, 2, 2)
    assert got.mean_shift == 0


def test_calibration_without_boxes() -> None:
    _, parent = grid()
    got = calibrate(parent.take(np.zeros(0, np.intp)), parent, categories=CLASSES)
    assert (got.matched, got.mean_shift, got.percentiles, got.bands) == (0, None, {}, ())
    assert got.lost == (parent.score >= 0.25).sum()


# ------------------------------------------------------------------------------------ bootstrap


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
        on_progress=lambda done, total: told.append(done),
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
