"""Boxes that overlap kept ones, found without a comparison of each with all.

If the IoU of two boxes is over t, so is the IoU of their sides on either axis. Then the sides
differ by a factor of 1 / t at most, and their centres are nearer than
``(side + other) / 2 * (1 - t) / (1 + t)``. Kept boxes are sorted by class, side and centre, so that
those which can matter for a box are a few runs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

POWERS = range(-2, 14)  # of two: sides in pixels; the ends stand for all sides beyond them
PAIRS = 1 << 18  # most pairs that are compared at once: some 30 MB
_SLACK = 1e-6  # rounding must not hide a pair

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Runs = tuple[Integers, Integers, Integers, Integers]


def covered(
    xyxy: Floats, class_id: Integers, kept_xyxy: Floats, kept_class: Integers, iou: float
) -> NDArray[np.bool_]:
    """Whether each box overlaps a kept box of its class by more than a threshold.

    Args:
        xyxy: (N, 4) float64, pixels; width and height are positive.
        class_id: (N,) int64.
        kept_xyxy: (K, 4) float64, pixels; at least one.
        kept_class: (K,) int64.
        iou: The threshold, exclusive.

    Returns:
        (N,) bool.
    """
    runs = [_runs(xyxy, class_id, kept_xyxy, kept_class, iou, axis) for axis in (0, 1)]
    order, box, begin, end = min(runs, key=lambda one: int((one[3] - one[2]).sum()))
    found = np.zeros(len(xyxy), np.bool_)
    for boxes, places in _pairs(box, begin, end):
        kept = order[places]
        over = _iou(xyxy[boxes], kept_xyxy[kept]) > iou
        found[boxes[over & (class_id[boxes] == kept_class[kept])]] = True
    return found


def _runs(
    xyxy: Floats,
    class_id: Integers,
    kept_xyxy: Floats,
    kept_class: Integers,
    iou: float,
    axis: int,
) -> Runs:
    """The kept boxes whose side and centre on one axis are near those of each box.

    Returns:
        Order of the kept boxes (K,); and for each run the index of its box, and the places in that
        order where it begins and ends.
    """
    least = max(0.0, iou - _SLACK)
    centre, side = _centre_and_side(xyxy, axis)
    kept_centre, kept_side = _centre_and_side(kept_xyxy, axis)
    low = min(centre.min(), kept_centre.min())
    span = max(centre.max(), kept_centre.max()) - low + 1.0
    power = np.floor(np.log2(kept_side)).clip(POWERS[0], POWERS[-1])

    def key(classes: Integers, powers: Floats | float, centres: Floats) -> Floats:
        row = classes * len(POWERS) + (powers - POWERS[0])
        return np.asarray(row * span + (centres - low), np.float64)

    keys = key(kept_class, power, kept_centre)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    runs = []
    for number in np.unique(power).tolist():
        smallest = 0.0 if number == POWERS[0] else 2.0**number
        largest = np.inf if number == POWERS[-1] else 2.0 ** (number + 1)
        box = np.flatnonzero((largest >= least * side) & (smallest * least <= side))
        reach = (side[box] + largest) / 2 * (1 - least) / (1 + least)
        reach = np.minimum(reach, span) + 4 * np.spacing(keys[-1] + span)
        middle = key(class_id[box], number, centre[box])
        begin = np.searchsorted(keys, middle - reach, "left")
        runs.append((box, begin, np.searchsorted(keys, middle + reach, "right")))
    box, begin, end = (np.concatenate(part) for part in zip(*runs, strict=True))
    return order, box, begin, end


def _pairs(box: Integers, begin: Integers, end: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Box and place of each member of the runs, some `PAIRS` at a time."""
    count = end - begin
    total = np.cumsum(count)
    most = int(total[-1]) if len(total) else 0
    cuts = np.searchsorted(total, np.arange(PAIRS, most + PAIRS, PAIRS), "left") + 1
    first = 0
    for last in np.minimum(cuts, len(box)).tolist():
        part = slice(first, last)
        boxes = np.repeat(box[part], count[part])
        within = np.arange(len(boxes)) - np.repeat(
            np.cumsum(count[part]) - count[part], count[part]
        )
        yield boxes, np.repeat(begin[part], count[part]) + within
        first = last


def _centre_and_side(xyxy: Floats, axis: int) -> tuple[Floats, Floats]:
    low, high = xyxy[:, axis], xyxy[:, axis + 2]
    return (low + high) / 2, high - low


def _iou(a: Floats, b: Floats) -> NDArray[np.float32]:
    """IoU of pairs of boxes, (P,), rounded as OpenCV's NMS rounds it."""
    inner = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.maximum(inner, 0.0).prod(axis=1)
    areas = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1)
    distance: NDArray[np.float32] = (1.0 - shared / (areas - shared)).astype(np.float32)
    return np.float32(1.0) - distance
