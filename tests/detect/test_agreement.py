"""Boxes of two detectors that belong together."""

from __future__ import annotations

import numpy as np

from seatrial.detect.agreement import Agreed, agree
from seatrial.detect.detections import Detections


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    data = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(data[:, :4].copy(), data[:, 4].copy(), data[:, 5].astype(np.int64))


def test_each_box_is_used_once_and_only_within_its_class() -> None:
    first = boxes((0, 0, 10, 10, 0.9, 0), (100, 0, 110, 10, 0.8, 1))
    assert agree(first, first) == Agreed(2, 0, 0)
    twice = boxes((0, 0, 10, 10, 0.9, 0), (1, 0, 11, 10, 0.8, 0))
    assert agree(first, twice) == Agreed(1, 1, 1)
    other_class = boxes((0, 0, 10, 10, 0.9, 1))
    assert agree(first, other_class) == Agreed(0, 2, 1)


def test_half_an_overlap_is_the_limit() -> None:
    first = boxes((0, 0, 30, 10, 0.9, 0))
    assert agree(first, boxes((10, 0, 40, 10, 0.5, 0))).matched == 1  # 200 of 400
    assert agree(first, boxes((11, 0, 41, 10, 0.5, 0))).matched == 0


def test_counts_add_up_to_a_share() -> None:
    assert Agreed().share is None
    both = Agreed(3, 1, 0) + Agreed(0, 0, 1)
    assert both == Agreed(3, 1, 1)
    assert both.share == 6 / 8
    assert agree(Detections.empty(), Detections.empty()) == Agreed()
