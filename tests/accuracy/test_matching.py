"""Which detection found which object: by hand; the figures are compared with pycocotools."""

from __future__ import annotations

import numpy as np
import pytest

from seatrial.accuracy.matching import (
    AREAS,
    FALSE_POSITIVE,
    IGNORED,
    MAX_DETECTIONS,
    TRUE_POSITIVE,
    Matches,
    Predictions,
    by_group,
    match,
    pair_iou,
)
from seatrial.datasets.labels import Truth
from seatrial.detect.detections import Detections
from seatrial.errors import ServiceFailed

SIDE = 40.0


def found(*rows: tuple[float, float], category: int = 0) -> Predictions:
    """(left, confidence) of squares in image 0."""
    table = np.array(rows, np.float64).reshape(-1, 2)
    count = len(table)
    xywh = np.column_stack([table[:, 0], np.zeros(count), np.full((count, 2), SIDE)])
    return Predictions(
        np.zeros(count, np.int64), np.full(count, category, np.int64), xywh, table[:, 1]
    )


def objects(*left: float, crowd: tuple[bool, ...] | None = None) -> Truth:
    boxes = [[x, 0, SIDE, SIDE] for x in left]
    return Truth.of([0] * len(left), [0] * len(left), boxes, crowd=crowd)


def status(truth: Truth, predictions: Predictions, area: int = 0, step: int = 0) -> list[int]:
    got: Matches = match(truth, predictions, images=1, categories=2)
    return [int(value) for value in got.status[area, step]]


def test_the_most_confident_detection_takes_the_object() -> None:
    assert status(objects(0), found((1, 0.5), (0, 0.4))) == [TRUE_POSITIVE, FALSE_POSITIVE]
    assert status(objects(0), found((0, 0.4), (1, 0.5))) == [TRUE_POSITIVE, FALSE_POSITIVE]


def test_a_detection_takes_the_object_that_it_overlaps_most() -> None:
    # The first would take either; it leaves the left one to the second.
    both = found((9, 0.9), (0, 0.8))
    assert status(objects(0, 10), both) == [TRUE_POSITIVE, TRUE_POSITIVE]


def test_overlaps_and_classes_decide() -> None:
    half = SIDE / 3  # IoU 0.5
    assert status(objects(0), found((half - 0.01, 0.9))) == [TRUE_POSITIVE]
    assert status(objects(0), found((half + 0.01, 0.9))) == [FALSE_POSITIVE]
    assert status(objects(0), found((half - 0.01, 0.9)), step=1) == [FALSE_POSITIVE]
    assert status(objects(0), found((0, 0.9), category=1)) == [FALSE_POSITIVE]


def test_a_crowd_is_found_any_number_of_times_and_counts_neither_way() -> None:
    truth = objects(0, 100, crowd=(True, False))
    rows = found((0, 0.9), (1, 0.8), (100, 0.7))
    assert status(truth, rows) == [IGNORED, IGNORED, TRUE_POSITIVE]
    got = match(truth, rows, images=1, categories=2)
    assert got.positives(0).tolist() == [1, 0]
    # An object that counts goes before a crowd that overlaps more.
    truth = objects(0, 2, crowd=(True, False))
    assert status(truth, found((0, 0.9), (0, 0.8))) == [TRUE_POSITIVE, IGNORED]


def test_objects_and_detections_of_another_size_are_ignored() -> None:
    medium, small = 2, 1
    assert status(objects(0), found((0, 0.9), (200, 0.8)), area=medium) == [
        TRUE_POSITIVE, FALSE_POSITIVE,
    ]  # fmt: skip
    assert status(objects(0), found((0, 0.9), (200, 0.8)), area=small) == [IGNORED, IGNORED]


def test_detections_are_ranked_and_cut_by_image_and_class() -> None:
    many = found(*((n, n / 1000) for n in range(1, 121)))
    kept, group, rank = by_group(many, 2)
    assert len(kept) == MAX_DETECTIONS
    assert kept.score[0] == 0.12
    assert kept.score[-1] == 0.021
    assert rank.tolist() == list(range(100))
    assert set(group.tolist()) == {0}
    assert len(by_group(many, 2, most=None)[0]) == 120
    two = Predictions(
        np.array([1, 0, 1]), np.array([0, 1, 0]), np.zeros((3, 4)), np.array([0.3, 0.9, 0.4])
    )
    kept, group, rank = by_group(two, 2)
    assert (group.tolist(), rank.tolist()) == ([1, 2, 2], [0, 0, 1])
    assert kept.score.tolist() == [0.9, 0.4, 0.3]


def test_iou_of_pairs() -> None:
    a = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0]])
    b = np.array([[5.0, 0, 10, 10], [10, 0, 10, 10], [0, 0, 20, 10], [0, 0, 0, 0]])
    np.testing.assert_allclose(pair_iou(a, b), [1 / 3, 0, 0.5, 0])
    crowd = np.array([True, True, True, False])
    np.testing.assert_allclose(pair_iou(a, b, crowd), [0.5, 0, 1, 0])


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int64),
    )


def test_detections_become_one_table_rounded_as_a_service_answers() -> None:
    got = Predictions.of(
        [
            detections((1.004, 2.006, 11.006, 22.0, 0.123456, 1), (0, 0, 5, 5, 0.1, 0)),
            detections(),
            detections((5, 6, 8, 10, 0.9, 2)),
        ]
    )
    assert got.image.tolist() == [0, 0, 2]
    assert got.category.tolist() == [1, 0, 2]
    assert got.xywh.tolist() == [[1.0, 2.01, 11.01 - 1.0, 22.0 - 2.01], [0, 0, 5, 5], [5, 6, 3, 4]]
    assert got.score.tolist() == [0.12346, 0.1, 0.9]
    assert got.xywh.dtype == got.score.dtype == np.float64
    assert len(Predictions.of([])) == 0


def test_boxes_of_classes_that_the_set_has_not_are_left_out() -> None:
    seen = [detections((0, 0, 5, 5, 0.9, 0), (0, 0, 5, 5, 0.8, 1), (0, 0, 5, 5, 0.7, 2))]
    got = Predictions.of(seen, np.array([1, -1, 0]))
    assert (got.category.tolist(), got.score.tolist()) == ([1, 0], [0.9, 0.7])
    for wrong in (3, -1):
        with pytest.raises(ServiceFailed, match=f"class {wrong}, of 3 labels"):
            Predictions.of([detections((0, 0, 5, 5, 0.9, wrong))], np.array([1, -1, 0]))


def test_the_borders_of_an_area_range_belong_to_it() -> None:
    sides = [31.0, 32.0, 33.0, 95.0, 96.0, 97.0]
    boxes = [[200.0 * n, 0, side, side] for n, side in enumerate(sides)]
    truth = Truth.of([0] * 6, [0] * 6, boxes)
    got = match(truth, found(), images=1, categories=1)
    counted = {
        name: [side for side, counts in zip(sides, row, strict=True) if counts]
        for name, row in zip(AREAS, got.truth_counts.tolist(), strict=True)
    }
    assert counted == {
        "all": sides,
        "small": [31.0, 32.0],
        "medium": [32.0, 33.0, 95.0, 96.0],
        "large": [96.0, 97.0],
    }


def test_each_class_and_image_has_objects_of_its_own() -> None:
    place = [(image, category) for image in (0, 1) for category in (0, 1)]
    image, category = (np.repeat(column, 3) for column in np.array(place).T)
    left = np.arange(12) * 100.0
    xywh = np.column_stack([left, np.zeros(12), np.full((12, 2), SIDE)])
    truth = Truth.of(image, category, xywh)
    got = match(truth, Predictions(image, category, xywh, np.full(12, 0.9)), images=2, categories=2)
    assert (got.status[0] == TRUE_POSITIVE).all()
    other = Predictions(image, category, np.roll(xywh, 3, axis=0), np.full(12, 0.9))
    assert (match(truth, other, images=2, categories=2).status[0] == FALSE_POSITIVE).all()
