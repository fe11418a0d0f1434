"""Which class was taken for which."""

from __future__ import annotations

import numpy as np
import pytest

from cats_and_dogs import found
from seatrial.accuracy.confusion import confusion, shift
from seatrial.accuracy.error_gallery import error_gallery
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


@pytest.mark.parametrize(
    ("kind", "left", "row"),
    [
        (1, 60, [0, 0, 0]),  # a dog in the crowd of dogs: neither found nor wrong
        (1, 45, [0, 0, 0]),  # half of it
        (1, 44, [0, 1, 0]),
        (0, 60, [1, 0, 0]),  # a cat there
    ],
)
def test_what_lies_in_a_crowd_of_its_class_is_not_counted(
    cats_and_dogs: LabelledSet, kind: int, left: float, row: list[int]
) -> None:
    seen = found((1, kind, left, 10, 0.9))
    assert confusion(cats_and_dogs, seen).counts[2].tolist() == row
    wrong = [image.wrong for image in error_gallery(cats_and_dogs, seen, 9)]
    assert sum(wrong) == sum(row)


@pytest.mark.parametrize(("offset", "wanted"), [(1, 1), (-1, -1), (0, 0), (2, 0)])
def test_a_shift_of_class_numbers_is_told(offset: int, wanted: int) -> None:
    counts = np.zeros((5, 5), np.int64)
    for kind in range(5):
        if 0 <= kind + offset < 5:
            counts[kind, kind + offset] = 10
    assert shift(counts) == wanted


def test_a_shift_is_not_told_from_a_few(cats_and_dogs: LabelledSet) -> None:
    assert shift(np.eye(5, k=1, dtype=np.int64)) == 0


@pytest.mark.parametrize(
    ("right", "off", "elsewhere", "wanted"),
    [
        (19, 60, 21, 1),
        (20, 60, 20, 0),  # a fifth is right: the numbers are
        (10, 50, 40, 0),  # half of them are off by one, not most
        (10, 51, 39, 1),
        (1, 6, 3, 1),
        (1, 5, 3, 0),  # nine are too few
    ],
)
def test_a_shift_is_more_than_half_and_less_than_a_fifth_is_right(
    right: int, off: int, elsewhere: int, wanted: int
) -> None:
    counts = np.diag([right, 0, 0]) + np.diag([off, 0], k=1)
    counts[2, 0] = elsewhere
    assert shift(counts) == wanted


def test_two_classes_that_are_taken_for_one_another_are_no_shift() -> None:
    assert shift(np.array([[0, 10], [10, 0]])) == 0


def test_found_objects_are_the_counts_without_missed_and_stray_ones(
    cats_and_dogs: LabelledSet,
) -> None:
    seen = found((0, 0, 1, 0, 0.9), (0, 0, 50, 51, 0.8), (1, 1, 80, 80, 0.7))
    assert confusion(cats_and_dogs, seen).paired.tolist() == [[1, 0], [1, 0]]
