"""Two labelled images of cats and dogs, and detections in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth


@pytest.fixture
def cats_and_dogs() -> LabelledSet:
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
