"""From candidate boxes to detections: thresholds and non-maximum suppression."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.overlap import covered
from seatrial.detect.preprocess import Letterbox

MAX_CANDIDATES = 30_000  # Ultralytics' max_nms: most candidates that enter NMS
# NMS compares each box with every kept one: as many enter at first, and then at a time; more where
# few of those that enter stay.
_AT_FIRST, _THEN = 1200, 512


def find(
    scores: NDArray[np.float32],
    boxes: Callable[[NDArray[np.intp]], NDArray[np.float32]],
    letterbox: Letterbox,
    thresholds: Thresholds,
    *,
    class_agnostic: bool = False,
) -> Detections:
    """Detections of a head that gives scores and a box for every anchor, without NMS.

    Args:
        scores: (A, C) float32, class scores of each anchor, 0-1.
        boxes: Decodes the boxes of some anchors: takes their indices (K,), gives their left, top,
            right and bottom in canvas pixels, (K, 4) float32. Most anchors are background, so few
            are asked for.
        letterbox: Maps boxes to source pixels.
        thresholds: What is reported.
        class_agnostic: Whether a box also suppresses boxes of other classes.

    Returns:
        The detections in source pixels, the most confident first.
    """
    anchors, class_id, score = select(scores, thresholds)
    if not len(anchors):  # most images of a camera at night
        return Detections.empty()
    candidates = Detections(boxes(anchors), score, class_id)
    kept = nms(candidates, thresholds.iou, thresholds.max_detections, class_agnostic=class_agnostic)
    return finish(kept, letterbox, thresholds.max_detections)


def corners(centred: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes by their corners.

    Args:
        centred: (K, 4) float32: centre x, centre y, width, height, any unit.

    Returns:
        (K, 4) float32: left, top, right, bottom.
    """
    centre, half = centred[:, :2], centred[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


@functools.cache
def grid(
    size_hw: tuple[int, int], strides: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cells of the feature maps of an anchor-free head, finest map first, row by row.

    Args:
        size_hw: Canvas (height, width), pixels.
        strides: Side of a cell in each map, pixels; a side that no stride divides is rounded up.

    Returns:
        Column and row of each cell, (A, 2) float32, and its stride in pixels, (A, 1) float32.
        ``cells * strides`` are the cells' corners; the arrays are not to be written to.
    """
    places, sizes = [], []
    for stride in strides:
        rows, columns = (-(-side // stride) for side in size_hw)
        y, x = np.mgrid[:rows, :columns]
        places.append(np.stack([x.ravel(), y.ravel()], axis=1))
        sizes.append(np.full((rows * columns, 1), stride))
    found = tuple(np.concatenate(part).astype(np.float32) for part in (places, sizes))
    for array in found:
        array.setflags(write=False)
    return found[0], found[1]


def select(
    scores: NDArray[np.float32], thresholds: Thresholds
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float32]]:
    """Candidates over the confidence threshold, the most confident first.

    Args:
        scores: (A, C) float32, class scores of each anchor; a transposed view will do.
        thresholds: ``confidence`` is exclusive; with ``multi_label`` an anchor counts once for
            each class over it, else once for its best class (Ultralytics' two rules).

    Returns:
        Anchor index (K,), class index (K,) int64, score (K,) float32.
    """
    by_class = scores.T
    if thresholds.multi_label:
        over = by_class > thresholds.confidence
        if np.count_nonzero(over) > MAX_CANDIDATES:  # dense heads: places of the few that enter
            over = by_class >= _lowest(by_class[over])
        classes, anchors = np.nonzero(over)
    else:
        # Most anchors are background: find the few that matter before asking for their class.
        anchors = np.flatnonzero(by_class.max(axis=0) > thresholds.confidence)
        classes = by_class[:, anchors].argmax(axis=0)
    score = by_class[classes, anchors]
    if len(score) > MAX_CANDIDATES:  # to sort them all takes half a second
        among = np.flatnonzero(score >= _lowest(score))
        anchors, classes, score = anchors[among], classes[among], score[among]
    order = np.argsort(-score, kind="stable")[:MAX_CANDIDATES]
    return anchors[order], classes[order].astype(np.int64), score[order]


def _lowest(score: NDArray[np.float32]) -> np.float32:
    """The lowest of the `MAX_CANDIDATES` highest scores, of more than as many."""
    lowest: np.float32 = np.partition(score, -MAX_CANDIDATES)[-MAX_CANDIDATES]
    return lowest


def nms(
    candidates: Detections,
    iou: float,
    limit: int = MAX_CANDIDATES,
    *,
    class_agnostic: bool = False,
) -> Detections:
    """Greedy non-maximum suppression.

    Args:
        candidates: Boxes in any unit.
        iou: A box is dropped if its IoU with a kept box of its class is greater than this.
        limit: Largest number of boxes to keep.
        class_agnostic: Whether a kept box of another class drops it too.

    Returns:
        The kept boxes, the most confident first; of equal scores the first. Boxes without area,
        or with a coordinate or a score that is not finite, are dropped first.
    """
    xyxy, score = candidates.xyxy, candidates.score
    finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(score)
    sound = np.flatnonzero(finite & (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1))
    order = sound[np.argsort(-score[sound], kind="stable")]
    # Only a more confident box drops another one. So what NMS keeps of the first candidates comes
    # first in what it keeps of all: at low thresholds, thousands never need to be compared.
    rivals = candidates
    if class_agnostic:
        rivals = replace(candidates, class_id=np.zeros_like(candidates.class_id))
    kept, left, many = _suppress(rivals, order[:_AT_FIRST], iou), order[_AT_FIRST:], _THEN
    while len(left) and len(kept) < limit:
        entering, left = left[:many], left[many:]
        entering = entering[~_covered(rivals, entering, kept, iou)]
        kept = np.concatenate([kept, _suppress(rivals, entering[:_THEN], iou)])
        left = np.concatenate([entering[_THEN:], left])
        # Where almost all overlap a kept box, each comparison costs less than to begin it.
        many = 4 * many if 4 * len(entering) < _THEN else _THEN
    return candidates[kept[:limit]]


def _covered(
    candidates: Detections, order: NDArray[np.intp], kept: NDArray[np.intp], iou: float
) -> NDArray[np.bool_]:
    """Whether each of the candidates in `order` overlaps one of `kept`."""
    xyxy, class_id = candidates.xyxy, candidates.class_id
    sides = (xyxy[order].astype(np.float64), class_id[order])
    return covered(*sides, xyxy[kept].astype(np.float64), class_id[kept], iou)


def _suppress(candidates: Detections, order: NDArray[np.intp], iou: float) -> NDArray[np.intp]:
    """The indices of `order` that NMS keeps, in the same order."""
    if len(order) == 0:
        return order
    corners = candidates.xyxy[order].astype(np.float64)
    # OpenCV separates classes: it shifts each beyond the largest coordinate of the one before,
    # which is right for coordinates from 0 on.
    corners -= corners.min()
    # OpenCV takes arrays where its stubs say sequences.
    xywh: Any = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    scores: Any = candidates.score[order]
    classes: Any = candidates.class_id[order].astype(np.int32)
    # The score threshold was applied before; -1 lets all scores pass.
    kept = np.asarray(cv2.dnn.NMSBoxesBatched(xywh, scores, classes, -1.0, iou), np.intp)
    return order[np.sort(kept.reshape(-1))]


def finish(detections: Detections, letterbox: Letterbox, limit: int) -> Detections:
    """The first detections, in source pixels.

    Args:
        detections: Boxes in canvas pixels, the most confident first.
        letterbox: Maps them to source pixels.
        limit: Largest number of detections.
    """
    kept = detections[:limit]
    return replace(kept, xyxy=letterbox.to_source(kept.xyxy))
