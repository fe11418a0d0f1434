"""The images with most errors: what counts as an error, and their order."""

from __future__ import annotations

from cats_and_dogs import found
from seatrial.accuracy.error_gallery import error_gallery
from seatrial.datasets.labels import LabelledSet


def test_a_confusion_and_a_missed_object_are_errors_and_a_crowd_is_none(
    cats_and_dogs: LabelledSet,
) -> None:
    seen = found((0, 0, 50, 50, 0.8), (1, 0, 0, 0, 0.9))
    (image,) = error_gallery(cats_and_dogs, seen, 5)  # the second one is right but for its crowd
    assert (image.name, image.found, image.missed, image.wrong) == ("1.png", 0, 1, 1)
    assert {(box.label, box.judged) for box in image.boxes} == {
        ("cat, is dog", "wrong"),
        ("cat", "missed"),
    }
    assert image.boxes[0].xywh == (50, 50, 10, 10)


def test_a_detection_of_nothing_and_one_that_is_right_have_their_confidence(
    cats_and_dogs: LabelledSet,
) -> None:
    seen = found((0, 0, 0, 0, 0.9), (0, 1, 50, 50, 0.8), (0, 1, 20, 20, 0.71), (1, 0, 0, 0, 0.9))
    (image,) = error_gallery(cats_and_dogs, seen, 5)
    assert (image.found, image.missed, image.wrong) == (2, 0, 1)
    assert {(box.label, box.judged) for box in image.boxes} == {
        ("cat 0.90", "found"), ("dog 0.80", "found"), ("dog 0.71", "wrong"),
    }  # fmt: skip


def test_images_with_most_errors_come_first_up_to_the_limit(cats_and_dogs: LabelledSet) -> None:
    seen = found((1, 0, 20, 20, 0.9), (1, 0, 40, 60, 0.9))  # 3 errors in the second, 2 in the first
    assert [image.name for image in error_gallery(cats_and_dogs, seen, 5)] == ["2.png", "1.png"]
    assert [image.name for image in error_gallery(cats_and_dogs, seen, 1)] == ["2.png"]


def test_a_detection_at_the_least_confidence_does_not_count(cats_and_dogs: LabelledSet) -> None:
    seen = found((1, 0, 0, 0, 0.5), (0, 0, 0, 0, 0.9), (0, 1, 50, 50, 0.9))
    assert error_gallery(cats_and_dogs, seen, 5, confidence=0.4) == []
    (image,) = error_gallery(cats_and_dogs, seen, 5, confidence=0.5)
    assert (image.name, image.missed) == ("2.png", 1)
