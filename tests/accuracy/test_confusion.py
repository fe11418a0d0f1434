"""Which class was taken for which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seatrial.accuracy.confusion import confusion, shift
from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth


@pytest.fixture
def dataset() -> LabelledSet:
    """Two pictures: a cat and a dog in the first, a cat and a crowd of dogs in the second."""
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
    """(picture, class, left, top, confidence), 10 pixels large."""
    table = np.array(rows, float).reshape(-1, 5)
    xywh = np.column_stack([table[:, 2:4], np.full((len(table), 2), 10.0)])
    return Predictions(table[:, 0].astype(int), table[:, 1].astype(int), xywh, table[:, 4])


def test_counts_by_class_of_object_and_detection(dataset: LabelledSet) -> None:
    seen = found((0, 0, 1, 0, 0.9), (0, 0, 50, 51, 0.8), (1, 1, 80, 80, 0.7), (1, 0, 0, 0, 0.1))
    assert confusion(dataset, seen).counts.tolist() == [
        [1, 0, 1],  # a cat found, and one whose detection is not confident enough
        [1, 0, 0],  # a dog taken for a cat
        [0, 1, 0],  # a dog where nothing is
    ]


def test_an_object_is_found_once_by_the_most_confident(dataset: LabelledSet) -> None:
    seen = found((0, 1, 0, 0, 0.6), (0, 0, 0, 1, 0.9))
    counts = confusion(dataset, seen).counts
    assert counts[0, 0] == 1
    assert counts[2].tolist() == [0, 1, 0]


def test_nothing_found_is_all_missed(dataset: LabelledSet) -> None:
    assert confusion(dataset, found()).counts[:, 2].tolist() == [2, 1, 0]


@pytest.mark.parametrize(("offset", "wanted"), [(1, 1), (-1, -1), (0, 0), (2, 0)])
def test_a_shift_of_class_numbers_is_told(offset: int, wanted: int) -> None:
    counts = np.zeros((5, 5), np.int64)
    for kind in range(5):
        if 0 <= kind + offset < 5:
            counts[kind, kind + offset] = 10
    assert shift(counts) == wanted


def test_a_shift_is_not_told_from_a_few(dataset: LabelledSet) -> None:
    assert shift(np.eye(5, k=1, dtype=np.int64)) == 0
