"""Which class was taken for which."""

from __future__ import annotations

import numpy as np
import pytest

from cats_and_dogs import found
from seatrial.accuracy.confusion import confusion, shift
from seatrial.datasets.labels import LabelledSet


def test_counts_by_class_of_object_and_detection(cats_and_dogs: LabelledSet) -> None:
    seen = found((0, 0, 1, 0, 0.9), (0, 0, 50, 51, 0.8), (1, 1, 80, 80, 0.7), (1, 0, 0, 0, 0.1))
    assert confusion(cats_and_dogs, seen).counts.tolist() == [
        [1, 0, 1],  # a cat found, and one whose detection is not confident enough
        [1, 0, 0],  # a dog taken for a cat
        [0, 1, 0],  # a dog where nothing is
    ]


def test_an_object_is_found_once_by_the_most_confident(cats_and_dogs: LabelledSet) -> None:
    seen = found((0, 1, 0, 0, 0.6), (0, 0, 0, 1, 0.9))
    counts = confusion(cats_and_dogs, seen).counts
    assert counts[0, 0] == 1
    assert counts[2].tolist() == [0, 1, 0]


def test_nothing_found_is_all_missed(cats_and_dogs: LabelledSet) -> None:
    assert confusion(cats_and_dogs, found()).counts[:, 2].tolist() == [2, 1, 0]


@pytest.mark.parametrize(("offset", "wanted"), [(1, 1), (-1, -1), (0, 0), (2, 0)])
def test_a_shift_of_class_numbers_is_told(offset: int, wanted: int) -> None:
    counts = np.zeros((5, 5), np.int64)
    for kind in range(5):
        if 0 <= kind + offset < 5:
            counts[kind, kind + offset] = 10
    assert shift(counts) == wanted


def test_a_shift_is_not_told_from_a_few(cats_and_dogs: LabelledSet) -> None:
    assert shift(np.eye(5, k=1, dtype=np.int64)) == 0
