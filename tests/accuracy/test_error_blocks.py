"""The blocks of errors: many classes, and images that cannot be read any more."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seatrial.accuracy.error_blocks import (
    MATRIX,
    confusion_section,
    gallery_section,
    precision_recall_figure,
)
from seatrial.accuracy.error_gallery import JudgedImage
from seatrial.accuracy.matching import Predictions, match
from seatrial.datasets.labels import Truth


def test_of_many_classes_those_with_the_most_errors_are_shown() -> None:
    count = MATRIX + 6
    names = [f"c{number}" for number in range(count)]
    counts = np.zeros((count + 1, count + 1), np.int64)
    counts[np.arange(count), np.arange(count)] = 50
    counts[5, count] = 7  # missed
    counts[count, count - 1] = 3  # found nothing
    html = confusion_section(names, counts)
    assert f"The {MATRIX} classes of {count} with the most errors" in html
    assert "<th>c5</th>" in html
    assert f"<th>c{count - 1}</th>" in html
    assert f"<th>c{count - 2}</th>" not in html
    assert html.count("<tr>") == MATRIX + 2
    assert "of 2 with the most" not in confusion_section(names[:2], counts[:3, :3])


def test_an_image_that_is_not_there_any_more_has_no_place(tmp_path: Path) -> None:
    image = JudgedImage("a.jpg", 0, 1, 0, ())
    html = gallery_section([image], {"a.jpg": tmp_path / "a.jpg"})
    assert "<img" not in html


def test_without_objects_there_is_no_curve() -> None:
    none = Predictions(*(np.zeros(0, kind) for kind in (np.int64, np.int64)),
                       np.zeros((0, 4)), np.zeros(0))  # fmt: skip
    assert precision_recall_figure(match(Truth.of([], [], []), none, images=1, categories=1)) == ""
