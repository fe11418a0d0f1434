"""The images with most errors: what counts as an error, and their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.train.error_gallery import error_gallery


@pytest.fixture
def dataset() -> LabelledSet:
    """Two images: a cat and a dog in the first, a cat and a crowd of dogs in the second."""
    xywh = np.array([[0, 0, 10, 10], [50, 50, 10, 10], [0, 0, 10, 10], [50, 0, 40, 40]], float)
    return LabelledSet(
        source="coco:here",
        images=tuple(LabelledImage(i, f"{i}.png", Path(f"{i}.png"), 100, 100) for i in (1, 2)),
        categories=(Category(1, "cat"), Category(2, "dog")),
        truth=Truth(
            np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), xywh, xywh[:, 2] * xywh[:, 3],
            np.array([False, False, False, True]), np.arange(4),
        ),
    )  # fmt: skip


def found(*rows: tuple[int, int, float, float, float]) -> Predictions:
    """(image, class, left, top, confidence), 10 pixels large."""
    table = np.array(rows, float).reshape(-1, 5)
    xywh = np.column_stack([table[:, 2:4], np.full((len(table), 2), 10.0)])
    return Predictions(table[:, 0].astype(int), table[:, 1].astype(int), xywh, table[:, 4])


def test_a_confusion_and_a_missed_object_are_errors_and_a_crowd_is_none(
    dataset: LabelledSet,
) -> None:
    seen = found((0, 0, 50, 50, 0.8), (1, 0, 0, 0, 0.9))
    (image,) = error_gallery(dataset, seen, 5)  # the second one is right but for its crowd
    assert (image.name, image.found, image.missed, image.wrong) == ("1.png", 0, 1, 1)
    assert {(box.label, box.judged) for box in image.boxes} == {
        ("cat, is dog", "wrong"),
        ("cat", "missed"),
    }
    assert image.boxes[0].xywh == (50, 50, 10, 10)


def test_a_detection_of_nothing_and_one_that_is_right_have_their_confidence(
    dataset: LabelledSet,
) -> None:
    seen = found((0, 0, 0, 0, 0.9), (0, 1, 50, 50, 0.8), (0, 1, 20, 20, 0.71), (1, 0, 0, 0, 0.9))
    (image,) = error_gallery(dataset, seen, 5)
    assert (image.found, image.missed, image.wrong) == (2, 0, 1)
    assert {(box.label, box.judged) for box in image.boxes} == {
        ("cat 0.90", "found"), ("dog 0.80", "found"), ("dog 0.71", "wrong"),
    }  # fmt: skip


def test_images_with_most_errors_come_first_up_to_the_limit(dataset: LabelledSet) -> None:
    seen = found((1, 0, 20, 20, 0.9), (1, 0, 40, 60, 0.9))  # 3 errors in the second, 2 in the first
    assert [image.name for image in error_gallery(dataset, seen, 5)] == ["2.png", "1.png"]
    assert [image.name for image in error_gallery(dataset, seen, 1)] == ["2.png"]


def test_a_detection_at_the_least_confidence_does_not_count(dataset: LabelledSet) -> None:
    seen = found((1, 0, 0, 0, 0.5), (0, 0, 0, 0, 0.9), (0, 1, 50, 50, 0.9))
    assert error_gallery(dataset, seen, 5, confidence=0.4) == []
    (image,) = error_gallery(dataset, seen, 5, confidence=0.5)
    assert (image.name, image.missed) == ("2.png", 1)
