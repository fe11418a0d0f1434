"""Whether two detectors see the same boxes: the measure where there are no labels.

Boxes of the same class with an IoU of 0.5 or more are the same box. One of the two has a
confidence of 0.25 or more, the other of 0.15: a box that fell from 0.26 to 0.24 is seen by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.pairs import detector_pairs
from seatrial.detect.detections import Detections, iou

LEVEL = 0.95
SLACK = 0.10  # how far below the floor the weaker of a pair may be
# Where n tries showed no failure, the rate of failures is below 3 / n, at a level of 95 %.
# Source: Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 1983.
RULE_OF_THREE = 3.0
_DRAWS_AT_A_TIME = 64


@dataclass(frozen=True, slots=True)
class Agreement:
    """Boxes of two detectors, image by image.

    Attributes:
        both: (images,) pairs.
        alone: (images,) boxes that only one of the two sees.
        level: Of the interval.
    """

    both: NDArray[np.int64]
    alone: NDArray[np.int64]
    level: float = LEVEL

    @property
    def boxes(self) -> int:
        """Boxes of both sides together."""
        return int(2 * self.both.sum() + self.alone.sum())

    @property
    def share(self) -> float:
        """Boxes that both see, as a share of the boxes of both sides (F1), 0-1."""
        return float(2 * self.both.sum() / self.boxes)

    def interval(self, *, samples: int, seed: int) -> tuple[float, float]:
        """Of the share: a bootstrap over images (percentiles), and never surer than boxes allow."""
        chance = np.random.default_rng(seed)
        count = len(self.both)
        drawn: list[NDArray[np.float64]] = []
        for begun in range(0, samples, _DRAWS_AT_A_TIME):
            size = min(_DRAWS_AT_A_TIME, samples - begun)
            weights = chance.multinomial(count, np.full(count, 1 / count), size=size)
            both, alone = 2 * weights @ self.both, weights @ self.alone
            seen = both + alone > 0
            drawn.append(both[seen] / (both + alone)[seen])
        ends = np.percentile(np.concatenate(drawn), [50 * (1 - self.level), 50 * (1 + self.level)])
        most = 1 - RULE_OF_THREE / max(self.boxes / 2, RULE_OF_THREE)
        return min(float(ends[0]), most), float(ends[1])


def agreement(
    child: Predictions, parent: Predictions, *, images: int, categories: int
) -> Agreement:
    """Match the boxes of two detectors on the same images.

    Args:
        child: Detections, down to a low confidence.
        parent: The same.
        images: Number of images.
        categories: Number of categories.
    """
    child, ours, theirs = detector_pairs(child, parent, categories=categories)
    pair = np.stack([child.score[ours], parent.score[theirs]])
    seen = (pair.max(axis=0) >= FLOOR) & (pair.min(axis=0) >= FLOOR - SLACK)
    alone = [
        _per_image(np.delete(side.image, paired[seen]), np.delete(side.score, paired[seen]), images)
        for side, paired in ((child, ours), (parent, theirs))
    ]
    both = np.bincount(child.image[ours][seen], minlength=images)
    return Agreement(both.astype(np.int64), alone[0] + alone[1])


def _per_image(
    image: NDArray[np.int64], score: NDArray[np.float64], images: int
) -> NDArray[np.int64]:
    return np.bincount(image[score >= FLOOR], minlength=images).astype(np.int64)


class BoxAgreement(msgspec.Struct, frozen=True):
    """Boxes of the parent at a confidence, and their partners in the child.

    Attributes:
        floor: The confidence; lower than the service's where a model is that unsure.
        parent: Boxes of the parent.
        matched: Those with a partner of the same class and IoU >= 0.5, each used once.
        gained: Boxes of the child at the floor that are nobody's partner.
        iou_mean: Of the pairs; None without pairs, as are the others.
        iou_least: The same.
        shift_mean: Mean of child less parent confidence.
        shift_mean_abs: Mean of its size.
        shift_most: Largest size.
    """

    floor: float
    parent: int
    matched: int
    gained: int
    iou_mean: float | None
    iou_least: float | None
    shift_mean: float | None
    shift_mean_abs: float | None
    shift_most: float | None


IOU = 0.5
FLOOR = 0.25  # confidence; what services report by default
# A partner may have lost half its confidence: that is a shift, and told as one.
PARTNER = 0.5


def box_agreement(
    parent: Sequence[Detections], child: Sequence[Detections], floor: float = FLOOR
) -> BoxAgreement:
    """Match boxes of one class, the parent's most confident first.

    Args:
        parent: Detections of each picture, from a confidence well below the floor on.
        child: The same.
        floor: The parent's boxes from here on are looked for in the child.
    """
    total, gained = 0, 0
    ious: list[float] = []
    shifts: list[float] = []
    for a, b in zip(parent, child, strict=True):
        overlap = iou(a.xyxy, b.xyxy) * (a.class_id[:, None] == b.class_id[None])
        free = b.score >= floor * PARTNER
        used = np.zeros(len(b), np.bool_)
        for row in np.flatnonzero(a.score >= floor):
            total += 1
            best = int(np.argmax(overlap[row] * free)) if len(b) else -1
            if best >= 0 and free[best] and overlap[row, best] >= IOU:
                free[best], used[best] = False, True
                ious.append(float(overlap[row, best]))
                shifts.append(float(b.score[best]) - float(a.score[row]))
        # A box that the parent has too, just below the floor, was shifted and not gained.
        known = (overlap * (a.score >= floor * PARTNER)[:, None]).max(axis=0, initial=0.0) >= IOU
        gained += int(((b.score >= floor) & ~used & ~known).sum())
    return BoxAgreement(
        floor,
        total,
        len(ious),
        gained,
        float(np.mean(ious)) if ious else None,
        min(ious, default=None),
        float(np.mean(shifts)) if shifts else None,
        float(np.mean(np.abs(shifts))) if shifts else None,
        max(map(abs, shifts), default=None),
    )


def choose_floor(parent: Sequence[Detections]) -> float:
    """The usual confidence; for a model that is never as sure, half of its greatest."""
    top = max((float(one.score.max()) for one in parent if len(one)), default=0.0)
    return FLOOR if top >= FLOOR else top / 2
