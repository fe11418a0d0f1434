"""Which class was taken for which: detections against objects of all classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.matching import Predictions, pair_iou
from seatrial.accuracy.pairs import IOU, pairs
from seatrial.datasets.labels import LabelledSet, Truth

CONFIDENCE = 0.25


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts at one confidence and one IoU.

    Attributes:
        counts: (K + 1, K + 1) int64 by class of the object and class of the detection; the last
            row counts detections that are no object, the last column objects not found.
        iou: Least overlap of a pair.
        confidence: Detections from here on.
    """

    counts: NDArray[np.int64]
    iou: float
    confidence: float

    @property
    def paired(self) -> NDArray[np.int64]:
        """(K, K): objects that were found, by true and by detected class."""
        return self.counts[:-1, :-1]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Detections and the objects that they found, each at most once.

    Attributes:
        detection: (P,) index into the detections, of those that found one.
        truth: (P,) index into the objects.
        kept: (D,) indices of the detections that counted at all: those in a crowd of their class
            are neither found nor wrong.
    """

    detection: NDArray[np.intp]
    truth: NDArray[np.int64]
    kept: NDArray[np.intp]


def pair(
    dataset: LabelledSet,
    predictions: Predictions,
    *,
    iou: float = IOU,
    confidence: float = CONFIDENCE,
) -> Pairs:
    """Let detections choose objects of their image, the most confident first.

    Args:
        dataset: The objects; crowds are left out.
        predictions: In its images and categories.
        iou: Least overlap.
        confidence: Least confidence, exclusive.
    """
    kept = np.flatnonzero(predictions.score > confidence)
    kept = kept[np.lexsort((-predictions.score[kept], predictions.image[kept]))]
    objects = np.flatnonzero(~dataset.truth.crowd)
    truth = dataset.truth.take(objects)
    boxes = predictions.take(kept)
    found, chosen = pairs(truth.image, truth.xywh, boxes.image, boxes.xywh, iou=iou)
    counted = ~_in_crowds(dataset.truth, boxes, iou)
    counted[found] = True
    return Pairs(kept[found], objects[chosen].astype(np.int64), kept[counted])


def _in_crowds(truth: Truth, boxes: Predictions, iou: float) -> NDArray[np.bool_]:
    """(D,): the detection lies in a crowd of its class, by COCO's rule for crowds."""
    inside = np.zeros(len(boxes.image), np.bool_)
    for crowd in np.flatnonzero(truth.crowd):
        near = np.flatnonzero(
            (boxes.image == truth.image[crowd]) & (boxes.category == truth.category[crowd])
        )
        region = np.broadcast_to(truth.xywh[crowd], (len(near), 4))
        inside[near] |= pair_iou(boxes.xywh[near], region, np.ones(len(near), np.bool_)) >= iou
    return inside


def confusion(
    dataset: LabelledSet,
    predictions: Predictions,
    *,
    iou: float = IOU,
    confidence: float = CONFIDENCE,
) -> Confusion:
    """Count which class was taken for which.

    Args:
        dataset: The objects.
        predictions: In its images and categories.
        iou: Least overlap.
        confidence: Least confidence, exclusive.
    """
    found = pair(dataset, predictions, iou=iou, confidence=confidence)
    classes = len(dataset.categories)
    missed = np.setdiff1d(np.flatnonzero(~dataset.truth.crowd), found.truth)
    strays = np.setdiff1d(found.kept, found.detection)
    real = np.concatenate([found.truth, missed])
    rows = np.append(dataset.truth.category[real], np.full(len(strays), classes))
    columns = np.concatenate(
        [
            predictions.category[found.detection],
            np.full(len(missed), classes),
            predictions.category[strays],
        ]
    )
    counts = np.bincount(rows * (classes + 1) + columns, minlength=(classes + 1) ** 2)
    counts = counts.reshape(classes + 1, classes + 1).astype(np.int64)
    return Confusion(counts, iou, confidence)


def shift(counts: NDArray[np.int64], *, least: int = 10) -> int:
    """By how much class numbers are off, from which class is taken for which.

    Args:
        counts: (K, K) by class of the object and class of the detection.
        least: Number of pairs below which the answer is 0.

    Returns:
        1 or -1 where most objects of class k are seen as k + 1 or k - 1; else 0.
    """
    total = int(counts.sum())
    if total < least or len(counts) < 3:
        return 0
    right = int(np.trace(counts))
    for offset in (1, -1):
        if np.trace(counts, offset) > 0.5 * total and right < 0.2 * total:
            return offset
    return 0
