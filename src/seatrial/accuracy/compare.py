"""Whether two detectors see the same boxes: the measure where there are no labels.

Boxes of the same class with an IoU of 0.5 or more are the same box. One of the two has a
confidence of 0.25 or more, the other of 0.15: a box that fell from 0.26 to 0.24 is seen by both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.calibration import FLOOR
from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.pairs import detector_pairs

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
