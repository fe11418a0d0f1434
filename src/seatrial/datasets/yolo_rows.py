"""Rows of YOLO's label files: boxes, outlines, boxes with key points.

A row is ``class x y width height``, centre and size as fractions of the image; or ``class x1 y1 x2
y2 x3 y3 ...``, the corners of an outline or of an oriented box; or a box with key points behind it,
``class x y width height px py ...``, each with its visibility or without. The last two look alike:
``kpt_shape`` or ``task`` in data.yaml tells which they are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seatrial.datasets.issues import LabelIssue, OnIssue
from seatrial.errors import InvalidDataset, shown
from seatrial.system.text import lines, read_text

SLACK = 0.01  # a label may reach this far over the border, as a fraction of the image
VISIBILITIES = (0.0, 1.0, 2.0)


class YoloRow(NamedTuple):
    """A row that can be used.

    Attributes:
        line: Line of the file, from 1.
        values: Class, and the numbers behind it.
    """

    line: int
    values: list[float]


class _Misread(ValueError):
    """A row that cannot be used, its kind of issue, and what to do about it."""

    def __init__(
        self, message: str, kind: str = "labels-unreadable", remedy: str = "correct the line"
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.remedy = remedy


def read_rows(
    file: Path, classes: int, key_points: tuple[int, int] | None, on_issue: OnIssue
) -> Iterator[YoloRow]:
    """The usable rows of a label file; an image without a file has none.

    Args:
        file: The label file.
        classes: Number of classes.
        key_points: Number of key points of each object, and of values of each; None without.
        on_issue: Called with every row that cannot be used.
    """
    if not file.is_file():
        if os.path.lexists(file):  # not an image without labels: they are lost
            what = "is a folder" if file.is_dir() else "is a link to a file that is not there"
            on_issue(LabelIssue("labels-unreadable", str(file), what, "add the file"))
        return
    try:
        text = read_text(file, error=InvalidDataset)
    except InvalidDataset as error:
        on_issue(LabelIssue("labels-unreadable", str(file), error.message, error.hint))
        return
    lengths: set[bool] = set()
    for number, line in enumerate(lines(text), 1):
        if not line.strip():
            continue
        try:
            values = _numbers(line.split())
            _check_length(values, key_points)
            _check_values(values, classes, key_points)
        except _Misread as error:
            where = f"{file}, line {number}"
            on_issue(LabelIssue(error.kind, where, str(error), error.remedy))
            continue
        lengths.add(len(values) > 5)
        yield YoloRow(number, values)
    if len(lengths) > 1 and key_points is None:
        on_issue(
            LabelIssue(
                "mixed-rows",
                str(file),
                "has rows of boxes and rows of outlines; Ultralytics reads all of them as outlines",
            )
        )


def _numbers(words: Sequence[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        word = next(word for word in words if not _is_number(word))
        raise _Misread(
            f"{shown(word)} is not a number",
            remedy="rows are numbers: class x y width height; names of classes are in data.yaml",
        ) from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _check_length(values: Sequence[float], key_points: tuple[int, int] | None) -> None:
    count = len(values)
    if key_points is not None:
        points, each = key_points
        if count not in (5, 5 + points * each):
            raise _Misread(
                f"{count} values; kpt_shape: [{points}, {each}] makes {5 + points * each}",
                remedy="correct the line, or kpt_shape in data.yaml",
            )
    elif count == 6:
        raise _Misread(
            "6 values; a box has 5: class x y width height",
            remedy="a sixth value is the confidence of a prediction: labels have none",
        )
    elif count != 5 and (count < 7 or count % 2 == 0):
        points, odd = divmod(count - 5, 3)
        hint = f"key points need kpt_shape: [{points}, 3] in data.yaml"
        raise _Misread(
            f"{count} values; a box has 5: class x y width height",
            remedy="correct the line" if odd or points < 1 else f"correct the line; {hint}",
        )


def _check_values(
    values: Sequence[float], classes: int, key_points: tuple[int, int] | None
) -> None:
    number, *numbers = values
    if number not in range(classes):
        raise _Misread(
            f"class {number:g} is not one of the {classes} in data.yaml, from 0",
            "unknown-class",
            "list the class, or correct the label; YOLO counts from 0",
        )
    if key_points is not None:
        if not all(map(math.isfinite, numbers)):
            raise _Misread("a key point has no place", remedy="correct the line")
        numbers = numbers[:4]
    if not all(-SLACK <= value <= 1 + SLACK for value in numbers):
        # Values beyond 2 are pixels in place of fractions, others a box outside the image.
        kind = "box-outside" if all(-1 <= value <= 2 for value in numbers) else "labels-unreadable"
        if len(numbers) == 4 and min(numbers[2:]) < 0:
            kind = "box-empty"
        shape = "" if key_points else ambiguous([values])
        if shape:
            raise _Misread(
                f"{len(values)} values read as a box with key points",
                remedy=f"write kpt_shape: {shape} into data.yaml",
            )
        remedy = "divide x and width by the image's width, y and height by its height"
        raise _Misread(
            f"{shown(numbers)} are not fractions of the image, 0 to 1",
            kind,
            remedy if kind == "labels-unreadable" else "",
        )


def box_of(
    values: Sequence[float], size: tuple[int, int], key_points: tuple[int, int] | None
) -> tuple[list[float], dict[str, Any]]:
    """Class, centre x, centre y, width, height; and what the row says beyond, by COCO's keys.

    Args:
        values: Values of a row.
        size: Width and height of the image, pixels.
        key_points: See `read_rows`.
    """
    number, *numbers = values
    if len(numbers) == 4:
        return [number, *numbers], {}
    if key_points is not None:
        return [number, *numbers[:4]], _key_points(numbers[4:], size, key_points[1])
    x, y = numbers[0::2], numbers[1::2]
    left, top, right, bottom = min(x), min(y), max(x), max(y)
    box = [number, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    scale = size * len(x)
    return box, {"segmentation": [[v * s for v, s in zip(numbers, scale, strict=True)]]}


def _key_points(values: Sequence[float], size: tuple[int, int], each: int) -> dict[str, Any]:
    """COCO's ``keypoints``: x, y in pixels and visibility; 0, 0, 0 for a point without a label."""
    found: list[float] = []
    for x, y, *visibility in (values[i : i + each] for i in range(0, len(values), each)):
        seen = visibility[0] if visibility else 2.0 * (x > 0 or y > 0)
        found += [x * size[0], y * size[1], int(seen)] if seen else [0, 0, 0]
    return {"keypoints": found, "num_keypoints": sum(v > 0 for v in found[2::3])}


def ambiguous(rows: Sequence[Sequence[float]]) -> str:
    """The ``kpt_shape`` that rows of outlines would also fit; empty where one is no such row.

    Args:
        rows: Values of all rows of a set, those of boxes among them.
    """
    long = [values for values in rows if len(values) > 5]
    counts = {len(values) for values in long}
    if len(counts) != 1:
        return ""
    behind = counts.pop() - 5
    for each in (3, 2):
        if behind % each == 0 and all(_box_has_points(values[1:], each) for values in long):
            return f"[{behind // each}, {each}]"
    return ""


def _box_has_points(numbers: Sequence[float], each: int) -> bool:
    """Whether numbers read as a box, with all points that follow it inside."""
    x, y, width, height = numbers[:4]
    for point in (numbers[i : i + each] for i in range(4, len(numbers), each)):
        if each == 3 and point[2] not in VISIBILITIES:
            return False
        if not any(point[:2]):
            continue  # a point that is not labelled
        if abs(point[0] - x) > width / 2 + SLACK or abs(point[1] - y) > height / 2 + SLACK:
            return False
    return width > 0 and height > 0
