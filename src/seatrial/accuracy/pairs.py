"""Boxes that belong together at one overlap, each used once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.matching import assign

IOU = 0.5


def pairs(
    chosen_group: NDArray[np.int64],
    chosen_xywh: NDArray[np.float64],
    group: NDArray[np.int64],
    xywh: NDArray[np.float64],
    *,
    iou: float = IOU,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Let boxes choose others of their group: the free one that they overlap most.

    Args:
        chosen_group: (G,) group of each box that can be chosen.
        chosen_xywh: (G, 4) left, top, width, height.
        group: (D,) ascending; within a group the boxes are in the order of choosing.
        xywh: (D, 4).
        iou: Least overlap.

    Returns:
        (P,) indices of those that chose, and (P,) of what they chose.
    """
    count = len(chosen_group)
    found, chosen = assign(
        chosen_group,
        chosen_xywh,
        np.zeros(count, np.bool_),
        np.ones((1, count), np.bool_),
        group,
        xywh,
        np.array([iou]),
    )
    mate = chosen[0, 0]
    return found[mate >= 0], mate[mate >= 0]
