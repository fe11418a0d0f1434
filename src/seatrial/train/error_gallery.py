"""The validation pictures with most errors, and what was wrong in them."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from seatrial.accuracy.confusion import CONFIDENCE, pair
from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.pairs import IOU
from seatrial.datasets.labels import LabelledSet

Judged = Literal["found", "missed", "wrong"]


class Box(msgspec.Struct, frozen=True):
    """One box in a picture.

    Attributes:
        xywh: Left, top, width, height, source pixels.
        label: Class; of a detection with its confidence, of a confusion with both classes.
        judged: ``found``: an object under its name; ``missed``: an object that was not found;
            ``wrong``: a detection of nothing, or under another name.
    """

    xywh: tuple[float, float, float, float]
    label: str
    judged: Judged


class Picture(msgspec.Struct, frozen=True):
    """One picture and its errors."""

    name: str
    found: int
    missed: int
    wrong: int
    boxes: tuple[Box, ...]


def worst(
    dataset: LabelledSet,
    predictions: Predictions,
    most: int,
    *,
    iou: float = IOU,
    confidence: float = CONFIDENCE,
) -> list[Picture]:
    """Pictures with errors, those with most first.

    Args:
        dataset: The objects.
        predictions: In its images and categories.
        most: Pictures, at most.
        iou: Least overlap of a detection and the object that it found.
        confidence: Least confidence, exclusive.
    """
    boxes: list[list[Box]] = [[] for _ in dataset.images]
    names = [category.name for category in dataset.categories]
    truth, pairs = dataset.truth, pair(dataset, predictions, iou=iou, confidence=confidence)
    mate = dict(zip(pairs.detection.tolist(), pairs.truth.tolist(), strict=True))
    seen = set()
    for row in pairs.kept.tolist():
        said, sure = names[predictions.category[row]], predictions.score[row]
        partner = mate.get(row)
        real = None if partner is None else names[truth.category[partner]]
        label = f"{said} {sure:.2f}" if real in (None, said) else f"{said}, is {real}"
        if partner is not None:
            seen.add(partner)
        boxes[predictions.image[row]].append(
            Box(tuple(predictions.xywh[row].tolist()), label, "found" if real == said else "wrong")
        )
    for row in np.flatnonzero(~truth.crowd).tolist():
        if row not in seen:
            boxes[truth.image[row]].append(
                Box(tuple(truth.xywh[row].tolist()), names[truth.category[row]], "missed")
            )
    pictures = [
        Picture(image.name, _count(own, "found"), _count(own, "missed"), _count(own, "wrong"),
                tuple(own))
        for image, own in zip(dataset.images, boxes, strict=True)
    ]  # fmt: skip
    bad = [one for one in pictures if one.missed or one.wrong]
    return sorted(bad, key=lambda one: -(one.missed + one.wrong))[:most]


def _count(boxes: list[Box], judged: Judged) -> int:
    return sum(box.judged == judged for box in boxes)
