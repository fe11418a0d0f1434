"""Faults of labels are named with their likely cause; sound labels are left in peace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from labelled_boxes import SIZE, as_size, labelled, seen
from seatrial.train import diagnosis


def as_centre(row: Sequence[float]) -> list[float]:
    left, top, right, bottom = row
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def read_as_centre(row: Sequence[float]) -> list[float]:
    """What the reader of YOLO labels makes of four numbers."""
    x, y, width, height = row
    return [x - width / 2, y - height / 2, width, height]


def test_sound_labels_are_left_in_peace(corners: list[list[float]]) -> None:
    for source in ("coco:here", "yolo:here train"):
        sound = labelled([as_size(row) for row in corners], source=source)
        assert diagnosis.of_labels(sound, which="training") == []


@pytest.mark.parametrize(
    ("source", "written", "named"),
    [
        ("coco:here", lambda row: row, "[left, top, right, bottom]"),
        ("coco:here", as_centre, "[centre x, centre y, width, height]"),
        ("yolo:here", lambda row: read_as_centre(row), "[left, top, right, bottom]"),
        ("yolo:here", lambda row: read_as_centre(as_size(row)), "[left, top, width, height]"),
    ],
)
def test_boxes_in_another_format_are_named(
    corners: list[list[float]],
    source: str,
    written: Callable[[Sequence[float]], list[float]],
    named: str,
) -> None:
    wrong = labelled([written(row) for row in corners], source=source)
    (finding,) = diagnosis.of_labels(wrong, which="training")
    assert finding.code == "box-format"
    assert finding.fatal
    assert f"numbers are {named}" in finding.cause
    assert "leave their images" in finding.seen


def test_boxes_of_other_pictures_are_named_without_a_format(corners: list[list[float]]) -> None:
    wrong = labelled([[3 * value for value in as_size(row)] for row in corners])
    (finding,) = diagnosis.of_labels(wrong, which="training")
    assert "images of other sizes" in finding.cause


@pytest.mark.parametrize(
    ("reading", "wanted"),
    [
        (diagnosis.CENTRE, [20, 35, 40, 85]),
        (diagnosis.CORNER, [30, 60, 50, 110]),
        (diagnosis.CORNERS, [30, 60, 20, 50]),
    ],
)
def test_what_four_numbers_may_mean(reading: str, wanted: list[float]) -> None:
    numbers = np.array([[30.0, 60.0, 20.0, 50.0]])
    for _, readings in diagnosis.READINGS.values():
        if reading in readings:
            assert readings[reading](numbers, np.array([SIZE])).tolist() == [wanted]
    assert [meant for meant, _ in diagnosis.READINGS.values()] == [
        diagnosis.CORNER,
        diagnosis.CENTRE,
    ]


OVER = [150.0, 10.0, 60.0, 20.0]  # 10 pixels over the right border
ACROSS = [10.0, 10.0, 20.0, 10.0]


def findings(*rows: list[float]) -> list[diagnosis.Symptom]:
    return diagnosis.of_labels(labelled(rows, [0] * len(rows)), which="training")


def test_fewer_than_three_boxes_say_nothing() -> None:
    assert findings() == []
    assert findings(OVER, OVER) == []
    (finding,) = findings(OVER, OVER, OVER)
    assert (finding.code, finding.fatal) == ("box-format", True)
    assert findings(OVER, OVER, *[ACROSS] * 20) == []


def test_one_box_in_fifty_may_leave_its_image() -> None:
    assert findings(*[OVER] * 3, *[ACROSS] * 147) == []
    (finding,) = findings(*[OVER] * 3, *[ACROSS] * 146)
    assert finding.seen.startswith("3 of 149 boxes of the training set leave their images")
    assert finding.seen.endswith("the first in 0.png")


@pytest.mark.parametrize(
    ("row", "inside"),
    [
        ([-2, 10, 20, 20], True), ([-2.1, 10, 20, 20], False),
        ([182, 10, 20, 20], True), ([182.1, 10, 20, 20], False),
        ([10, -1, 20, 20], True), ([10, -1.1, 20, 20], False),
        ([10, 81, 20, 20], True), ([10, 81.1, 20, 20], False),
    ],
)  # fmt: skip
def test_a_hundredth_of_an_image_is_allowed_for_rounding(row: list[float], inside: bool) -> None:
    assert (findings(row, row, row) == []) == inside


def test_another_reading_must_fit_99_boxes_in_100(corners: list[list[float]]) -> None:
    near = [120.0, 60.0, 190.0, 95.0]  # as corners inside, as a size far outside
    beyond = [120.0, 60.0, 300.0, 95.0]
    for fitting, named in ((99, True), (98, False)):
        wrong = labelled([near] * fitting + [beyond] * (100 - fitting), [0] * 100)
        (finding,) = diagnosis.of_labels(wrong, which="training")
        assert (f"numbers are {diagnosis.CORNERS}" in finding.cause) == named
        assert finding.fatal
        assert "leave their images" in finding.seen


def test_numbers_that_start_at_one_are_named(corners: list[list[float]]) -> None:
    boxes = [as_size(row) for row in corners]
    shifted = labelled(boxes, [1 + i % 3 for i in range(len(boxes))])
    (finding,) = diagnosis.of_labels(shifted, which="training")
    assert finding.code == "labels-off-by-one"
    assert "numbers that start at 1" in finding.cause
    assert not finding.fatal  # a class without objects may be meant


@pytest.mark.parametrize("off", [1, -1])
def test_a_base_model_that_knows_the_classes_sees_labels_off_by_one(
    corners: list[list[float]], off: int
) -> None:
    real = [i % 2 + (0 if off > 0 else 2) for i in range(len(corners))]
    dataset = labelled([as_size(row) for row in corners], real)
    finding = diagnosis.of_known_classes(dataset, seen(dataset, [kind + off for kind in real]))
    assert finding is not None
    assert finding.code == "labels-off-by-one"
    assert finding.fatal
    label, sight = ("car", "bus") if off > 0 else ("van", "bus")
    assert f"sees {sight!r} in most objects that are labelled {label!r}" in finding.seen
    assert f"({-off:+d})" in finding.cause
    assert finding.hint.startswith("add 1 to" if off > 0 else "subtract 1 from")
    assert diagnosis.of_known_classes(dataset, seen(dataset, real)) is None
