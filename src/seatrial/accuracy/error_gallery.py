"""The validation images with most errors, and the errors in them."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from seatrial.accuracy.confusion import CONFIDENCE, pair
from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.pairs import IOU
from seatrial.datasets.labels import LabelledSet

Judged = Literal["found", "missed", "wrong"]


class JudgedBox(msgspec.Struct, frozen=True):
    """One box in an image.

    Attributes:
        xywh: Left, top, width, height, source pixels.
        label: Class; for a detection with its confidence, for a confusion with both classes.
        judged: ``found``: an object detected under its name; ``missed``: an object without
            detection; ``wrong``: a detection of nothing, or under another name.
    """

    xywh: tuple[float, float, float, float]
    label: str
    judged: Judged


class JudgedImage(msgspec.Struct, frozen=True):
    """One image and its errors.

    Attributes:
        name: Name of the image in the set.
        found: Number of objects found.
        missed: Number of objects missed.
        wrong: Number of wrong detections.
        boxes: Detections, then missed objects.
    """

    name: str
    found: int
    missed: int
    wrong: int
    boxes: tuple[JudgedBox, ...]


def error_gallery(
    dataset: LabelledSet,
    predictions: Predictions,
    most: int,
    *,
    iou: float = IOU,
    confidence: float = CONFIDENCE,
) -> list[JudgedImage]:
    """Images with errors, those with most errors first.

    Args:
        dataset: The labelled objects.
        predictions: Detections in the set's images and categories.
        most: Largest number of images.
        iou: Least overlap of a detection and the object that it finds.
        confidence: Least confidence, exclusive.
    """
    boxes: list[list[JudgedBox]] = [[] for _ in dataset.images]
    names = [category.name for category in dataset.categories]
    truth, pairs = dataset.truth, pair(dataset, predictions, iou=iou, confidence=confidence)
    object_of = dict(zip(pairs.detection.tolist(), pairs.truth.tolist(), strict=True))
    seen = set(object_of.values())
    for row in pairs.kept.tolist():
        said, score = names[predictions.category[row]], predictions.score[row]
        paired = object_of.get(row)
        real = None if paired is None else names[truth.category[paired]]
        label = f"{said} {score:.2f}" if real in (None, said) else f"{said}, is {real}"
        judged: Judged = "found" if real == said else "wrong"
        xywh = tuple(predictions.xywh[row].tolist())
        boxes[predictions.image[row]].append(JudgedBox(xywh, label, judged))
    for row in np.flatnonzero(~truth.crowd).tolist():
        if row not in seen:
            xywh = tuple(truth.xywh[row].tolist())
            boxes[truth.image[row]].append(JudgedBox(xywh, names[truth.category[row]], "missed"))
    images = []
    for image, own in zip(dataset.images, boxes, strict=True):
        found, missed, wrong = (
            sum(box.judged == judged for box in own) for judged in ("found", "missed", "wrong")
        )
        if missed or wrong:
            images.append(
                JudgedImage(image.name, found=found, missed=missed, wrong=wrong, boxes=tuple(own))
            )
    return sorted(images, key=lambda one: -(one.missed + one.wrong))[:most]
