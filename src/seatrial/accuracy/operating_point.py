"""Precision and recall at a confidence threshold, and the threshold that balances them best.

AP integrates over all thresholds; a service runs at one.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.matching import IGNORED, TRUE_POSITIVE, Matches


class OperatingPoint(msgspec.Struct, frozen=True):
    """Precision and recall of a detector at a threshold, at IoU 0.5.

    Attributes:
        threshold: Detections of a greater confidence count, as in the service.
        precision: Found objects / detections; None without detections.
        recall: Found objects / objects; None without objects.
        f1: Harmonic mean of the two; None where either is.
        found: Objects found.
        wrong: Detections that are none of the objects.
        missed: Objects not found.
    """

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    found: int
    wrong: int
    missed: int

    @property
    def reached(self) -> tuple[float | None, float | None]:
        """F1 and its threshold; both None where no object is found: no threshold is the best."""
        return (self.f1, self.threshold) if self.f1 else (None, None)


def operating_points(
    matches: Matches, threshold: float, category: int | None = None
) -> tuple[OperatingPoint, OperatingPoint]:
    """The operating point at a threshold, and the one of the best F1.

    The detections are those of the evaluation rules. A service that reports one class a box
    (``multi_label = false``) has slightly fewer wrong ones.

    Args:
        matches: Matches of the whole set.
        threshold: Confidence, exclusive.
        category: One category; all together by default, each object and detection counting once.
    """
    status, score = matches.status[0, 0], matches.score
    objects = int(matches.truth_counts[0].sum())
    if category is not None:
        rows = slice(*np.searchsorted(matches.category, [category, category + 1]))
        status, score = status[rows], score[rows]
        objects = int((matches.truth_counts[0] & (matches.truth_category == category)).sum())
    counted = status != IGNORED
    order = np.argsort(-score[counted], kind="stable")
    score = score[counted][order]
    found = np.cumsum(status[counted][order] == TRUE_POSITIVE)
    at = _point(score, found, objects, int(np.searchsorted(-score, -threshold)), threshold)
    return at, _best(score, found, objects)


def _best(score: NDArray[np.float64], found: NDArray[np.int64], objects: int) -> OperatingPoint:
    if not len(score) or not objects:
        return _point(score, found, objects, 0, 1.0)
    taken = np.arange(1, len(score) + 1)
    f1 = 2 * found / (taken + objects)
    # Detections of one confidence stand or fall together.
    f1[:-1][score[:-1] == score[1:]] = -1.0
    count = int(np.argmax(f1)) + 1
    below = float(score[count]) if count < len(score) else 0.0
    return _point(score, found, objects, count, (float(score[count - 1]) + below) / 2)


def _point(
    score: NDArray[np.float64],
    found: NDArray[np.int64],
    objects: int,
    count: int,
    threshold: float,
) -> OperatingPoint:
    """The point that the `count` most confident detections make."""
    hits = int(found[count - 1]) if count else 0
    precision = hits / count if count else None
    recall = hits / objects if objects else None
    known = precision is not None and recall is not None
    return OperatingPoint(
        threshold=threshold,
        precision=precision,
        recall=recall,
        f1=2 * hits / (count + objects) if known else None,
        found=hits,
        wrong=count - hits,
        missed=objects - hits,
    )
