"""Precision and recall at a threshold, and the threshold of the best F1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grid_of_boxes import CLASSES, IMAGES, grid, matched
from seatrial.accuracy.matching import Predictions, match
from seatrial.accuracy.operating_point import operating_points


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
