"""How confidences moved against a parent's.

AP sees their order alone: it can hold while every confidence halves, and with it what passes the
threshold of a service.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.pairs import detector_pairs

# A shift between two boxes matters where one of them is seen at all.
FLOOR = 0.25
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
HISTOGRAM_EDGES: NDArray[np.float64] = np.linspace(-1.0, 1.0, 41)
PARENT_EDGES: NDArray[np.float64] = np.linspace(0.0, 1.0, 11)


class ConfidenceBand(msgspec.Struct, frozen=True):
    """Matched boxes whose parent has a confidence from ``low`` (included) to ``high``."""

    low: float
    high: float
    boxes: int
    mean_parent: float
    mean_child: float


class Calibration(msgspec.Struct, frozen=True):
    """Confidences of a child against its parent's.

    Attributes:
        floor: Pairs count where one of the two reaches this confidence.
        matched: Pairs: same image and class, IoU >= 0.5, each box once.
        lost: Boxes of the parent at the floor that the child has not.
        gained: Boxes of the child at the floor that the parent has not.
        mean_shift: Mean of child less parent; None without pairs.
        mean_abs_shift: Mean of its size.
        percentiles: Percentile -> shift.
        histogram: Pairs by shift, in 40 steps of 0.05 from -1 to 1.
        bands: By the parent's confidence; empty bands are left out.
    """

    floor: float
    matched: int
    lost: int
    gained: int
    mean_shift: float | None
    mean_abs_shift: float | None
    percentiles: dict[str, float]
    histogram: tuple[int, ...]
    bands: tuple[ConfidenceBand, ...]


def calibrate(
    child: Predictions, parent: Predictions, *, categories: int, floor: float = FLOOR
) -> Calibration:
    """Compare confidences box by box.

    Both sets are matched down to their lowest confidence, so that a box whose confidence fell
    below the floor is a shift and not a loss.

    Args:
        child: Detections, for example of the quantised artifact.
        parent: Detections of what it was made from, on the same images.
        categories: Number of categories.
        floor: See `Calibration`.
    """
    child, ours, theirs = detector_pairs(child, parent, categories=categories)
    after, before = child.score[ours], parent.score[theirs]
    counted = (after >= floor) | (before >= floor)
    after, before = after[counted], before[counted]
    shift = after - before
    return Calibration(
        floor=floor,
        matched=len(shift),
        lost=int((np.delete(parent.score, theirs) >= floor).sum()),
        gained=int((np.delete(child.score, ours) >= floor).sum()),
        mean_shift=float(shift.mean()) if len(shift) else None,
        mean_abs_shift=float(np.abs(shift).mean()) if len(shift) else None,
        percentiles={f"p{p}": float(np.percentile(shift, p)) for p in PERCENTILES if len(shift)},
        histogram=tuple(np.histogram(shift, HISTOGRAM_EDGES)[0].tolist()),
        bands=_bands(before, after),
    )


def _bands(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[ConfidenceBand, ...]:
    band = np.minimum(np.searchsorted(PARENT_EDGES, before, "right") - 1, len(PARENT_EDGES) - 2)
    return tuple(
        ConfidenceBand(
            round(float(PARENT_EDGES[number]), 2),
            round(float(PARENT_EDGES[number + 1]), 2),
            int((band == number).sum()),
            float(before[band == number].mean()),
            float(after[band == number].mean()),
        )
        for number in np.unique(band).tolist()
    )
