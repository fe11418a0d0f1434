"""How far two detectors agree on one image: boxes that both report, and those that one does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seatrial.detect.detections import Detections

IOU = 0.5  # as in `seatrial.accuracy.compare`


class Agreed(NamedTuple):
    """Counts of boxes of two detectors.

    Attributes:
        matched: Boxes that both report.
        lost: Boxes of the first alone.
        gained: Boxes of the second alone.
    """

    matched: int = 0
    lost: int = 0
    gained: int = 0

    def __add__(self, other: Agreed) -> Agreed:  # type: ignore[override]
        """The counts of both together."""
        return Agreed(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def share(self) -> float | None:
        """Twice the matched boxes over the boxes of both, 0-1; None where neither has any."""
        boxes = 2 * self.matched + self.lost + self.gained
        return 2 * self.matched / boxes if boxes else None


def agree(first: Detections, second: Detections) -> Agreed:
    """Match the boxes of two detectors on one image.

    Two are the same object where their class is equal and their IoU is `IOU` or more. Each is used
    once; the most confident of the second chooses first, the one that it overlaps most.
    """
    free = np.ones(len(first), np.bool_)
    matched = 0
    for index in np.argsort(-second.score, kind="stable"):
        candidates = np.flatnonzero(free & (first.class_id == second.class_id[index]))
        if not len(candidates):
            continue
        overlap = _iou(second.xyxy[index], first.xyxy[candidates])
        best = int(np.argmax(overlap))
        if overlap[best] >= IOU:
            free[candidates[best]] = False
            matched += 1
    return Agreed(matched, len(first) - matched, len(second) - matched)


def _iou(box: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    """IoU of a box, (4,) left, top, right, bottom, with (N, 4) others: (N,)."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(common / np.maximum(areas - common, 1e-9))
