"""Boxes with labels, and a model that sees them: what diagnoses are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from seatrial.accuracy.evaluate import score
from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.train.validation import Validation

NAMES = ("car", "bus", "van", "bike")
SIZE = (200, 100)


def labelled(
    numbers: Sequence[Sequence[float]],
    classes: Sequence[int] | None = None,
    source: str = "coco:somewhere",
) -> LabelledSet:
    """One picture a box, as a reader would have it."""
    count = len(numbers)
    xywh = np.array(numbers, np.float64).reshape(-1, 4)
    kinds = np.arange(count) % len(NAMES) if classes is None else np.array(classes)
    return LabelledSet(
        source=source,
        images=tuple(
            LabelledImage(i + 1, f"{i}.png", Path(f"{i}.png"), *SIZE) for i in range(count)
        ),
        categories=tuple(Category(i, name) for i, name in enumerate(NAMES)),
        truth=Truth(
            np.arange(count), kinds.astype(np.int64), xywh, xywh[:, 2] * xywh[:, 3],
            np.zeros(count, np.bool_), np.arange(count),
        ),
    )  # fmt: skip


@pytest.fixture
def corners() -> list[list[float]]:
    """Left, top, right, bottom of 40 boxes, pixels, all inside their pictures."""
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(40):
        width, height = draw.uniform(10, 60), draw.uniform(10, 40)
        left, top = draw.uniform(0, SIZE[0] - width), draw.uniform(0, SIZE[1] - height)
        rows.append([left, top, left + width, top + height])
    return rows


def as_size(row: Sequence[float]) -> list[float]:
    left, top, right, bottom = row
    return [left, top, right - left, bottom - top]


def seen(dataset: LabelledSet, classes: Sequence[int], *, moved: float = 0.0) -> Validation:
    """A model that finds every object, under these classes, so many pixels away."""
    count = len(dataset.truth)
    found = Predictions(
        np.arange(count), np.array(classes, np.int64),
        dataset.truth.xywh + np.array([moved, 0, 0, 0]), np.full(count, 0.9),
    )  # fmt: skip
    matches, scores = score(dataset, found)
    return Validation(scores, matches, found)
