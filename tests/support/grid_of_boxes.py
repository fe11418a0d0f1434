"""Labels and boxes in a grid: four objects an image, far apart, each found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seatrial.accuracy.matching import Matches, Predictions, match
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth

IMAGES, CLASSES = 30, 2


def grid(seed: int = 0) -> tuple[LabelledSet, Predictions]:
    """Four objects an image, far apart; each is found, with a random confidence and shift."""
    chance = np.random.default_rng(seed)
    image = np.repeat(np.arange(IMAGES), 4)
    category = np.tile([0, 1, 1, 0], IMAGES)
    left = np.tile([0.0, 100, 200, 300], IMAGES)
    xywh = np.column_stack([left, left, np.full_like(left, 50), np.full_like(left, 50)])
    dataset = LabelledSet(
        "grid",
        tuple(LabelledImage(i, str(i), Path(), None, None) for i in range(IMAGES)),
        (Category(1, "a"), Category(2, "b")),
        Truth.of(image, category, xywh),
    )
    moved = xywh + np.column_stack([chance.uniform(0, 12, len(image)), *[np.zeros(len(image))] * 3])
    confidence = chance.permutation(np.linspace(0.02, 0.98, len(image)))
    return dataset, Predictions(image, category, moved, confidence)


def matched(dataset: LabelledSet, rows: Predictions) -> Matches:
    return match(dataset.truth, rows, images=IMAGES, categories=CLASSES)
